"""Every record comes back from its ROS message as it went in; messages of others are refused with the reason."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from laim_ros.nodes import messages
from laim_ros.nodes.messages import MessageError
from laim_ros.records import UNKNOWN_SEQUENCE, FrameResult, LinkReport, Profile, Reference

HEADER = Header(stamp=Time(sec=12, nanosec=345), frame_id="camera")

RESULT = FrameResult(
    texts=("a red mug", "two\nlines and “quotes”", ""),
    prompts=("", "Question: how many? Answer:", "Question: why? Answer:"),
    sequence=2**32 - 1,
    repeated=True,
    split_point="vit.2",
    weight_bits=16,
    feature_bits=4,
    codec="plain",
    packet_bytes=12345678,
    robot_s=0.0123456,
    link_s=1.5,
    edge_s=1e-7,
    wait_s=0.25,
    decode_s=0.5,
    tail_s=0.125,
)
LINK = LinkReport(
    sequence=3,
    split_point="vit.2",
    weight_bits=8,
    feature_bits=4,
    codec="plain",
    packet_bytes=4096,
    robot_s=0.5,
    link_s=0.25,
    edge_s=0.125,
    latency_s=0.875,
    robot_wait_s=0.01,
    edge_wait_s=0.02,
    goodput_bps=1.5e6,
    round_trip_s=0.002,
    unanswered_s=0.5,
    energy_j=1.25,
    energy_source="rapl",
    packets_sent=30,
    results_received=29,
    deadline_misses=2,
)
PROFILE = Profile(
    model="laim-mini-blip2",
    model_id="0123abcd",
    first="input",
    last="qformer",
    split_points="input vit.1 output",
    device="cuda:0",
    dtype="bfloat16",
    weight_bytes=2**40,
    weight_bits=4,
    engine="onednn",
    calibrations="vit.1=0123abcd qformer=ff",
    costs='{"machine": "“fast”"}',
)


def over_the_wire(message: DiagnosticArray) -> DiagnosticArray:
    """As DDS would deliver it."""
    return deserialize_message(serialize_message(message), DiagnosticArray)


def same(left: object, right: object) -> bool:
    """Equal to the six digits that messages carry; NaN equals NaN."""

    def alike(a: object, b: object) -> bool:
        if isinstance(a, float):
            return math.isclose(a, b, rel_tol=1e-5) or (math.isnan(a) and math.isnan(b))
        return type(a) is type(b) and a == b

    return type(left) is type(right) and all(alike(getattr(left, f.name), getattr(right, f.name)) for f in fields(left))


@pytest.mark.parametrize(
    "result",
    [
        RESULT,
        FrameResult(texts=("",)),
        FrameResult(texts=("a mug",), link_s=math.nan, robot_s=math.inf),
        FrameResult(error="packet: damaged", sequence=UNKNOWN_SEQUENCE),
        FrameResult(error="no", prompts=("", "why?"), split_point="input", codec="jpeg90"),
        FrameResult(prompts=(), sequence=5, packet_bytes=24, edge_s=1e-5, probe=True),
    ],
)
def test_results(result):
    message = over_the_wire(messages.result_message(HEADER, "/edge", result))
    assert message.header == HEADER
    assert same(messages.result_from(message), result)


def test_a_result_reads_well_in_any_viewer():
    message = messages.result_message(HEADER, "/edge", RESULT)
    assert [status.message for status in message.status] == list(RESULT.texts)
    assert {(status.name, status.hardware_id, status.level) for status in message.status} == {
        ("/edge", "/edge", DiagnosticStatus.OK)
    }
    second = {pair.key: pair.value for pair in message.status[1].values}
    assert second["prompt"] == "Question: how many? Answer:"
    assert (second["split_point"], second["feature_bits"], second["repeated"]) == ("vit.2", "4", "true")
    failed = messages.result_message(HEADER, "/edge", FrameResult(error="packet: damaged")).status[0]
    assert (failed.level, failed.message) == (DiagnosticStatus.ERROR, "packet: damaged")


def test_latency_is_unknown_while_the_link_is():
    assert RESULT.latency_s == pytest.approx(0.0123456 + 1.5 + 1e-7)
    assert math.isnan(replace(RESULT, link_s=math.nan).latency_s)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (LINK, "875 ms from image to result"),
        (replace(LINK, goodput_bps=math.nan, round_trip_s=math.nan, energy_j=math.nan), "875 ms from image to result"),
        (LinkReport(sequence=3, latency_s=0.02, probe=True), "20 ms for a probe and back"),
        (LinkReport(sequence=UNKNOWN_SEQUENCE, unanswered_s=2.54), "no answer for 2.5 s"),
    ],
)
def test_link_reports(report, words):
    message = over_the_wire(messages.link_message(HEADER, "/robot", report))
    assert message.header == HEADER
    assert message.status[0].message == words
    assert same(messages.link_from(message), report)


def test_profiles():
    assert same(messages.profile_from(over_the_wire(messages.profile_message(HEADER, "/edge", PROFILE))), PROFILE)


def test_references():
    reference = Reference("a red mug", '{"objects": []}')
    message = over_the_wire(messages.reference_message(HEADER, "/camera", reference))
    assert messages.reference_from(message) == reference
    message.status[0].values = []
    assert messages.reference_from(message) == Reference("a red mug")


def test_diagnostics():
    values = {"robots": "/r1 /r2", "finished": 3, "edge_s": 0.5, "busy": False}
    message = messages.diagnostics_message(HEADER, "/r1/robot", DiagnosticStatus.WARN, "no image", values)
    (status,) = over_the_wire(message).status
    assert (status.name, status.level, status.message) == ("/r1/robot", DiagnosticStatus.WARN, "no image")
    assert [(pair.key, pair.value) for pair in status.values] == [
        ("robots", "/r1 /r2"),
        ("finished", "3"),
        ("edge_s", "0.5"),
        ("busy", "false"),
    ]


def test_packets():
    packet = bytes(range(256)) * 300
    message = deserialize_message(serialize_message(messages.packet_message(HEADER, packet)), CompressedImage)
    assert message.header == HEADER
    assert message.format == "laim/1"
    assert messages.packet_bytes(message) == packet


@pytest.mark.parametrize("name", ["jpeg", "laim/2", "", "x" * 100_000])
def test_pictures_and_newer_packets_are_no_packets(name):
    with pytest.raises(MessageError, match="is not 'laim/1': this is no laim packet") as caught:
        messages.packet_bytes(CompressedImage(format=name, data=b"abc"))
    assert len(str(caught.value)) < 200


def test_keys_of_newer_senders_are_ignored():
    message = messages.link_message(HEADER, "/robot", LINK)
    message.status[0].values.append(KeyValue(key="temperature_c", value="71"))
    assert same(messages.link_from(message), LINK)


@pytest.mark.parametrize("read", [messages.result_from, messages.link_from, messages.profile_from])
def test_messages_of_others_are_refused(read):
    with pytest.raises(MessageError, match="without a status"):
        read(DiagnosticArray())
    with pytest.raises(MessageError, match="missing"):
        read(DiagnosticArray(status=[DiagnosticStatus(name="cpu", message="all well")]))
    with pytest.raises(MessageError, match="missing"):
        read(messages.reference_message(HEADER, "/camera", Reference("a mug")))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("packet_bytes", "many", "FrameResult.packet_bytes should be int, it is 'many'"),
        ("packet_bytes", "1.5", "should be int"),
        ("packet_bytes", "9" * 5000, "should be int"),
        ("robot_s", "", "FrameResult.robot_s should be float"),
        ("repeated", "yes", "FrameResult.repeated should be bool"),
    ],
)
def test_figures_of_the_wrong_kind_are_refused(key, value, reason):
    message = messages.result_message(HEADER, "/edge", RESULT)
    next(pair for pair in message.status[0].values if pair.key == key).value = value
    with pytest.raises(MessageError, match=reason) as caught:
        messages.result_from(message)
    assert len(str(caught.value)) < 200
