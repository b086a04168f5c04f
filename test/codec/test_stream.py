"""The stream description: round trip, identity, bounds, versions."""

import json

import pytest
from codec_streams import feature_stream, klt_stream, picture_stream
from hypothesis import given
from hypothesis import strategies as st
from made_calibration import bell_shaped_calibration

from laim_ros.codec import WIRE_VERSION, CodecError, StreamDescription, codec_for
from laim_ros.plan import Plan

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
printable = text.filter(lambda word: word.isprintable() and word)
plans = st.builds(
    Plan,
    split_point=st.sampled_from(["vit.1", "vit.12", "vision", "qformer"]),
    weight_bits=st.sampled_from([1, 4, 8, 16, 32]),
    feature_bits=st.sampled_from([1, 4, 8]),
    codec=st.sampled_from(["plain", "klt", "klt12"]),
    robot_clock_hz=st.integers(0, 10**10) | st.floats(0, 1e12),
)


def made_stream(plan, predictive, **fields):
    return StreamDescription(plan=plan, predictive=predictive and plan.codec != "plain", **fields)


streams = st.builds(
    made_stream,
    wire=st.just(WIRE_VERSION),
    robot=printable,
    model_id=st.text("0123456789abcdef", min_size=1, max_size=64),
    plan=plans,
    predictive=st.booleans(),
    shape=st.lists(st.integers(1, 64), min_size=1, max_size=4).map(tuple),
    calibration=st.text("0123456789abcdef", max_size=64),
    prompts=st.lists(text, min_size=1, max_size=8).map(tuple),
    deadline_s=st.integers(0, 100) | st.floats(0, 1e6),
)


def good_fields():
    return json.loads(feature_stream((8, 128), 8).to_json())


def parse(fields):
    return StreamDescription.from_json(json.dumps(fields))


@given(streams)
def test_json_comes_back_equal_however_it_is_laid_out(stream):
    text = stream.to_json()
    assert "\n" not in text
    assert list(json.loads(text)) == sorted(json.loads(text))
    relaid = json.dumps(dict(reversed(json.loads(text).items())), indent=2)
    for same in (text, text.encode(), relaid):
        parsed = StreamDescription.from_json(same)
        assert parsed == stream
        assert parsed.stream_id == stream.stream_id


@given(streams, streams)
def test_the_id_tells_streams_apart(stream, other):
    assert (stream.stream_id == other.stream_id) == (stream == other)
    assert 0 <= stream.stream_id < 2**32


def test_an_integer_clock_gives_the_id_of_the_same_float():
    ids = set()
    for clock_hz in (1_000_000_000, 1e9):
        plan = Plan(robot_clock_hz=clock_hz)
        fields = {"wire": WIRE_VERSION, "robot": "robot", "model_id": "00", "plan": plan, "shape": (8, 128)}
        ids |= {StreamDescription(**fields, deadline_s=deadline_s).stream_id for deadline_s in (1, 1.0)}
    assert len(ids) == 1


@pytest.mark.parametrize("wire", [WIRE_VERSION + 1, 2**32 - 1])
def test_a_newer_sender_is_told_apart_before_its_unknown_fields(wire):
    with pytest.raises(
        CodecError, match=rf"wire version {wire}, this side speaks {WIRE_VERSION}; update .*\(this side\)"
    ):
        parse(good_fields() | {"wire": wire, "novelty": 1, "shape": "elsewhere"})


def test_an_older_sender_is_told_to_update():
    with pytest.raises(CodecError, match=rf"wire version 0, this side speaks {WIRE_VERSION}; update .*\(the sender\)"):
        parse(good_fields() | {"wire": 0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wire": None}, "'wire' must be the wire version"),
        ({"wire": 10**400}, "'wire' must be the wire version"),
        ({"wire": True}, "'wire' must be the wire version"),
        ({"robot": ""}, "robot has 0 characters"),
        ({"robot": "r" * 257}, "robot has 257 characters"),
        ({"robot": "\x1b[2J"}, "cannot be printed"),
        ({"robot": 7}, "Expected `str`"),
        ({"model_id": ""}, "model_id has 0 characters"),
        ({"model_id": "laim-mini"}, "hexadecimal"),
        ({"calibration": "0" * 129}, "calibration has 129 characters"),
        ({"shape": []}, "0 dimensions"),
        ({"shape": [1] * 5}, "5 dimensions"),
        ({"shape": [0, 8]}, "outside 1 to 65536"),
        ({"shape": [-1, 8]}, "outside 1 to 65536"),
        ({"shape": [65537]}, "outside 1 to 65536"),
        ({"shape": [65536, 65536]}, "4294967296 elements"),
        ({"shape": [10**400]}, r"shape \(1000*\S* has a dimension outside"),
        ({"shape": [8, 128.5]}, "Expected `int`"),
        ({"prompts": []}, "prompts must be"),
        ({"prompts": [""] * 9}, "prompts must be"),
        ({"prompts": ["", "p" * 1025]}, "prompt 2 has 1025 characters"),
        ({"prompts": ["\x01" * 1024] * 4}, "more than 16384"),
        ({"deadline_s": -1}, "deadline_s"),
        ({"novelty": 1}, "novelty"),
        ({"predictive": 1}, "Expected `bool`"),
        ({"predictive": True}, "codec plain codes every frame by itself, predictive or not"),
        ({"plan": {"codec": "klt61"}}, "codec 'klt61' does not code features"),
        ({"plan": {"codec": "klt", "feature_bits": 16}}, "feature_bits 16 is more than codec klt takes"),
        ({"plan": None}, "Expected `object`"),
        ({"plan": {"split_point": "vit.0"}}, "split_point 'vit.0' is none of"),
        ({"plan": {"feature_bits": 9}}, "feature_bits 9 is none of"),
        ({"plan": {"codec": "pickle"}}, "codec 'pickle'"),
        ({"plan": {"pruning": 0.5}}, "plan has unknown fields.*pruning"),
        ({"plan": {"split_point": "input", "codec": "jpeg75"}}, "not that of a picture"),
        ({"plan": {"split_point": "input", "codec": "jpeg75"}, "shape": [65536, 8, 3]}, "not that of a picture"),
    ],
)
def test_what_is_out_of_bounds_is_named(change, message):
    with pytest.raises(CodecError, match=message):
        parse(good_fields() | change)


@pytest.mark.parametrize("missing", ["wire", "robot", "model_id", "plan", "shape"])
def test_a_missing_field_is_named(missing):
    fields = good_fields()
    del fields[missing]
    with pytest.raises(CodecError, match=missing):
        parse(fields)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "1",
        '"wire"',
        "[" * 16_000,
        '{"wire":' * 2000,
        "\ud800",
        b"\xff\xfe",
        " " * 16_385,
        '{"wire": 1e999}',
    ],
)
def test_what_is_not_a_json_object_is_refused(text):
    with pytest.raises(CodecError, match=r"^stream description: "):
        StreamDescription.from_json(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": [8, 128]},
        {"shape": (8, 128.0)},
        {"shape": (True,)},
        {"prompts": "colour?"},
        {"prompts": (None,)},
        {"plan": None},
        {"robot": "\ud800"},
        {"deadline_s": float("nan")},
        {"deadline_s": "1"},
        {"wire": 1.0},
    ],
)
def test_wrong_types_are_refused_on_construction_too(fields):
    good = {"wire": WIRE_VERSION, "robot": "robot", "model_id": "00", "plan": Plan(), "shape": (8, 128)}
    with pytest.raises(CodecError):
        StreamDescription(**(good | fields))


def test_json_that_no_receiver_would_take_is_refused_by_the_sender_already():
    prompts = ("\x01" * 1024,) * 4  # six bytes each in JSON
    with pytest.raises(CodecError, match="more than 16384; shorten the prompts"):
        feature_stream((8, 128), 8, prompts=prompts)


def test_json_longer_than_the_bound_is_refused_unread():
    text = feature_stream((8, 128), 8).to_json()
    with pytest.raises(CodecError, match="more than 16384 bytes of JSON"):
        StreamDescription.from_json(text + " " * 16_384)


@given(st.binary(max_size=200) | text)
def test_any_text_is_parsed_or_refused(anything):
    with pytest.raises(CodecError):
        StreamDescription.from_json(anything)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=6,
)


@given(st.sampled_from(sorted(good_fields())), json_values)
def test_any_value_of_any_field_is_parsed_or_refused(name, value):
    try:
        stream = parse(good_fields() | {name: value})
    except CodecError:
        return
    codec_for(stream)
    assert StreamDescription.from_json(stream.to_json()).stream_id == stream.stream_id


@given(st.sampled_from(sorted(good_fields()["plan"])), json_values)
def test_any_value_of_any_field_of_the_plan_is_parsed_or_refused(name, value):
    fields = good_fields()
    fields["plan"][name] = value
    try:
        stream = parse(fields)
    except CodecError:
        return
    assert StreamDescription.from_json(stream.to_json()).stream_id == stream.stream_id


def test_each_plan_gets_its_codec():
    assert codec_for(feature_stream((8, 128), 4)).name == "plain"
    assert codec_for(picture_stream(96, 96, 75)).name == "jpeg75"
    calibration = bell_shaped_calibration((4, 6))
    for codec in ("klt", "klt12"):
        assert codec_for(klt_stream(calibration, (4, 6), codec), calibration).name == codec


def test_codec_klt_needs_the_very_calibration_of_its_stream():
    calibration, other = (bell_shaped_calibration((4, 6), seed) for seed in (0, 1))
    stream = klt_stream(calibration, (4, 6))
    with pytest.raises(CodecError, match="there is none here; make one with `laim calibrate`"):
        codec_for(stream)
    with pytest.raises(CodecError, match=f"calibration {calibration.digest}, here is {other.digest}; give both sides"):
        codec_for(stream, other)
    with pytest.raises(CodecError, match="for 24 elements, the stream has 25"):
        codec_for(klt_stream(calibration, (5, 5)), calibration)
