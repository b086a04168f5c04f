"""Which plans there are to choose from, and what they are said to cost and to lose."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from small_world import (
    CALIBRATED,
    EDGE_S,
    HEAD_S,
    POINTS,
    SHAPES,
    edge_profile,
    quality_table,
    robot_profile,
    whole_robot,
)

from laim_ros.codec import HEADER_BYTES, WIRE_VERSION, StreamDescription, codec_for
from laim_ros.plan import BIT_WIDTHS, MOST_DECIBELS, PICTURE_FORMATS, Plan
from laim_ros.planning import Allowed, MachineProfile, PlanningError, PowerMode, StageTimes, build_choices
from laim_ros.planning.choices import theory_loss, why_no_klt
from laim_ros.planning.costs import packet_bytes_bound
from laim_ros.planning.profiles import Calibrated
from laim_ros.planning.quality import plan_key

NARROW = Allowed(weight_bits=(8,), feature_bits=(4,), codecs=("jpeg75", "plain"))
"""One plan per split point."""


def points_of(*arguments: object) -> set[str]:
    return {plan.split_point for plan in build_choices(*arguments).plans}


def test_times_are_those_of_the_stages_on_both_sides() -> None:
    choices = build_choices(whole_robot(), edge_profile(), None, NARROW)
    by_point = {plan.split_point: row for row, plan in enumerate(choices.plans)}
    assert list(by_point) == list(POINTS)
    for point, robot_s, edge_s in [
        ("input", 0.001 + 0.002, 0.046 + 0.005),
        ("vit.1", 0.021, 0.044),
        ("qformer", 0.061 + 0.004, 0.04),
        ("output", 0.061 + 0.2, 0.0),
    ]:
        row = by_point[point]
        assert choices.robot_s[row] == pytest.approx(robot_s), point
        assert choices.edge_s[row] == pytest.approx(edge_s), point
    for column in ("robot_s", "edge_s", "packet_bytes", "active_w", "quality_loss"):
        values = getattr(choices, column)
        assert (values.shape, values.dtype) == ((len(POINTS),), np.float64), column
    assert choices.packet_bytes[by_point["output"]] == 0


@pytest.mark.parametrize(
    ("robot", "edge", "points"),
    [
        (robot_profile(), edge_profile(), {"input", "vit.1", "vision", "qformer"}),
        (whole_robot(), None, {"output"}),
        (
            robot_profile(times=(StageTimes(8, {"input": 0.001, "vit.1": 0.02}),)),
            edge_profile(),
            {"input", "vit.1"},
        ),
        (
            whole_robot(),
            edge_profile(times=(StageTimes(32, {"qformer": 0.001, "output": 0.04}),)),
            {"vision", "qformer", "output"},
        ),
    ],
)
def test_what_one_side_has_not_loaded_is_left_out(
    robot: MachineProfile, edge: MachineProfile | None, points: set[str]
) -> None:
    assert points_of(robot, edge, None) == points


def test_nothing_left_says_what_would_help() -> None:
    with pytest.raises(PlanningError, match="give an edge"):
        build_choices(robot_profile(), None, None)
    with pytest.raises(PlanningError, match="allow more split points"):
        build_choices(robot_profile(), edge_profile(), None, Allowed(split_points=("output",)))
    with pytest.raises(PlanningError, match="laim calibrate"):
        build_choices(robot_profile(), edge_profile(), quality_table({Plan("vit.2"): (9.0, 0.1)}))


def test_profiles_of_two_models_are_refused() -> None:
    with pytest.raises(PlanningError, match=r"robot runs mini \(aa\), the edge other \(bb\)"):
        build_choices(robot_profile(), edge_profile(model="other", model_id="bb"), None)


def test_a_profile_without_shapes_is_refused_by_name() -> None:
    with pytest.raises(PlanningError, match=r"shape of 'vit\.1'"):
        build_choices(robot_profile(shapes={"input": (96, 96, 3)}), edge_profile(), None)
    with pytest.raises(PlanningError, match="shapes"):
        MachineProfile.from_json(robot_profile(shapes={"vision": (145, 0)}).to_json())


def test_a_profile_of_another_version_is_refused_for_just_that() -> None:
    text = robot_profile().to_json()
    older = text.replace('"version":2', '"version":1').replace('"jpeg90":0.002', '"jpeg90":[]')
    for other in (
        older,
        text.replace('"version":2', '"version":3,"more":0'),
        text.replace('"version":2', '"version":0'),
    ):
        with pytest.raises(PlanningError, match=r"version \d, here is 2; measure it again"):
            MachineProfile.from_json(other)


def test_restrictions_leave_only_what_they_name() -> None:
    everything = build_choices(whole_robot(), edge_profile(), None).plans
    assert {plan.weight_bits for plan in everything if plan.split_point == "vision"} == {4, 8, 32}
    assert {plan.feature_bits for plan in everything if plan.split_point == "vision"} == set(range(1, 9))
    assert {plan.codec for plan in everything if plan.split_point == "input"} == {
        f"{name}{quality}" for name in ("jpeg", "webp") for quality in (25, 50, 75, 90)
    }
    allowed = Allowed(("input", "vision"), (4, 8), (2, 16), ("jpeg10", "jpeg95", "plain"))
    assert set(build_choices(whole_robot(), edge_profile(), None, allowed).plans) == {
        Plan("input", 32, 8, "jpeg10"),
        Plan("input", 32, 8, "jpeg95"),
        *(Plan("vision", weight_bits, feature_bits) for weight_bits in (4, 8) for feature_bits in (2, 16)),
    }


def test_rows_of_the_quality_table_decide_what_there_is_and_what_it_costs() -> None:
    rows = {
        Plan("qformer", 8, 4): (700, 0.05),
        Plan("qformer", 8, 2): (400, 0.2),
        Plan("input", 32, 8, "jpeg60"): (3000, 0.01),
        Plan("output", 4, 8): (0, 0.12),
        Plan("vit.2", 8, 4): (900, 0.0),  # the model has no such split point
    }
    choices = build_choices(whole_robot(), edge_profile(), quality_table(rows))
    found = {
        plan_key(plan): (choices.packet_bytes[row], pytest.approx(choices.quality_loss[row]))
        for row, plan in enumerate(choices.plans)
    }
    assert found == {plan_key(plan): figures for plan, figures in rows.items() if plan.split_point != "vit.2"}
    assert choices.packet_bytes.dtype == np.float64
    assert "500 frames" in choices.quality_source
    assert "theory" in build_choices(whole_robot(), edge_profile(), None).quality_source


def codecs_at(point: str, *arguments: object) -> list[tuple[str, int]]:
    """(codec, feature_bits) of the choices at a split point, each once."""
    plans = build_choices(*arguments).plans
    return list(dict.fromkeys((plan.codec, plan.feature_bits) for plan in plans if plan.split_point == point))


@pytest.mark.parametrize(
    ("theirs", "alike"), [(CALIBRATED, True), ({}, False), ({"qformer": Calibrated("c2", (9.0,) * 11)}, False)]
)
def test_features_are_coded_by_klt_only_where_robot_and_edge_have_the_same_calibration(
    theirs: dict[str, Calibrated], alike: bool
) -> None:
    robot, edge = robot_profile(calibrations=CALIBRATED), edge_profile(calibrations=theirs)
    bits = range(1, 9)
    assert codecs_at("qformer", robot, edge, None) == [("klt" if alike else "plain", width) for width in bits]
    assert codecs_at("vision", robot, edge, None) == [("plain", width) for width in bits]
    named = Allowed(split_points=("qformer",), feature_bits=(2, 16), codecs=("klt12", "klt", "plain"))
    by_klt = [("klt12", 8), ("klt", 2)] if alike else []
    assert set(codecs_at("qformer", robot, edge, None, named)) == {*by_klt, ("plain", 2), ("plain", 16)}
    only = Allowed(codecs=("klt",))
    if alike:
        assert codecs_at("qformer", robot, edge, None, only) == [("klt", width) for width in bits]
    else:
        with pytest.raises(PlanningError, match="have not the same calibration of codec klt"):
            build_choices(robot, edge, None, only)


@pytest.mark.parametrize(
    ("measured_with", "chosen"), [({}, "klt"), ({"qformer": "c1"}, "klt"), ({"qformer": "c0"}, "plain")]
)
def test_a_table_of_another_calibration_tells_nothing_of_klt(measured_with: dict[str, str], chosen: str) -> None:
    rows = {Plan("qformer", 8, 2): (400, 0.2), Plan("qformer", 8, 2, "klt"): (30, 0.05)}
    robot, edge = robot_profile(calibrations=CALIBRATED), edge_profile(calibrations=CALIBRATED)
    table = msgspec.structs.replace(quality_table(rows), calibrations=measured_with)
    assert {plan.codec for plan in build_choices(robot, edge, table).plans} == {chosen}
    assert ("measured with another calibration" in why_no_klt(robot, edge, table)) is (chosen == "plain")


def test_where_there_is_a_table_klt_takes_the_place_of_what_it_was_measured_for() -> None:
    rows = {
        Plan("qformer", 8, 2): (400, 0.2),
        Plan("qformer", 8, 4): (700, 0.05),
        Plan("qformer", 8, 2, "klt"): (30, 0.05),
        Plan("qformer", 8, 32, "klt9"): (28, 0.1),
    }
    profiles = robot_profile(calibrations=CALIBRATED), edge_profile(calibrations=CALIBRATED)
    choices = build_choices(*profiles, quality_table(rows))
    expected = {("klt", 2): 30, ("klt9", 8): 28, ("plain", 4): 700}
    found = {
        (plan.codec, plan.feature_bits): size for plan, size in zip(choices.plans, choices.packet_bytes, strict=True)
    }
    assert found == expected
    assert choices.index(Plan("qformer", 8, 5, "klt9")) == choices.index(Plan("qformer", 8, 8, "klt9"))
    assert codecs_at("qformer", robot_profile(), edge_profile(), quality_table(rows)) == [("plain", 2), ("plain", 4)]


def test_sizes_and_times_by_klt_are_those_of_its_fineness() -> None:
    profiles = robot_profile(calibrations=CALIBRATED), edge_profile(calibrations=CALIBRATED)
    allowed = Allowed(("qformer",), (8,), (1, 2, 5, 8), ("klt", "klt60"))
    choices = build_choices(*profiles, None, allowed)
    decibels = [6, 12, 30, 48, 60]
    order = [choices.index(Plan("qformer", 8, bits, "klt")) for bits in (1, 2, 5, 8)]
    order.append(choices.index(Plan("qformer", 8, 8, "klt60")))
    assert choices.packet_bytes[order] == pytest.approx([HEADER_BYTES + 10 * each / 6 for each in decibels])
    # 10 ms at 12 dB and below, 20 ms from 48 dB on
    assert choices.robot_s[order] == pytest.approx([0.071, 0.071, 0.076, 0.081, 0.081])


def test_pictures_have_only_formats_that_both_machines_code() -> None:
    allowed = Allowed(split_points=("input",), codecs=("jpeg50", "webp50", "avif50"))
    everything = {"jpeg90": 0.002, "webp75": 0.006, "avif50": 0.012}
    able = robot_profile(code_s={"input": everything})
    for robot, edge, formats in [
        (able, edge_profile(), ["jpeg50", "webp50"]),
        (able, edge_profile(code_s={"input": everything}), ["jpeg50", "webp50", "avif50"]),
        (robot_profile(code_s={}), edge_profile(code_s={"input": everything}), ["jpeg50"]),
    ]:
        assert [codec for codec, _ in codecs_at("input", robot, edge, None, allowed)] == formats


def test_a_plan_is_found_whatever_stands_in_fields_that_it_does_not_use() -> None:
    choices = build_choices(whole_robot(), edge_profile(), None, NARROW)
    for sought, point in [
        (Plan("input", 4, 1, "jpeg75"), "input"),
        (Plan("output", 8, 32), "output"),
        (Plan("vision", 8, 4), "vision"),
    ]:
        assert choices.plans[choices.index(sought)].split_point == point
    for missing in (Plan("input", codec="jpeg50"), Plan("vision", 8, 5), Plan("vision", 8, 4, robot_clock_hz=1e9)):
        assert choices.index(missing) is None
    fewer = choices.only([4, 2])
    assert [plan.split_point for plan in fewer.plans] == ["output", "vision"]
    assert fewer.robot_s.tolist() == choices.robot_s[[4, 2]].tolist()
    assert fewer.index(Plan("vision", 8, 4)) == 1
    assert fewer.index(Plan("vit.1", 8, 4)) is None


MODES = (PowerMode(2e9, 1.0, 10.0), PowerMode(1e9, 2.0, 2.0))


def test_every_mode_of_the_robot_is_a_choice_unless_its_clock_is_to_be_left_alone() -> None:
    allowed = dataclasses.replace(NARROW, split_points=("vision",))
    choices = build_choices(robot_profile(modes=MODES), edge_profile(), None, allowed)
    assert [plan.robot_clock_hz for plan in choices.plans] == [2e9, 1e9]
    assert choices.active_w.tolist() == [10.0, 2.0]
    assert choices.robot_s == pytest.approx([0.051, 0.102])
    assert choices.edge_s == pytest.approx([0.041, 0.041])
    left_alone = build_choices(
        robot_profile(modes=MODES), edge_profile(), None, dataclasses.replace(allowed, clocks=False)
    )
    assert [plan.robot_clock_hz for plan in left_alone.plans] == [0.0]
    assert (left_alone.active_w.tolist(), left_alone.robot_s.tolist()) == ([10.0], [choices.robot_s[0]])


def test_times_of_a_width_that_was_not_timed_are_marked() -> None:
    times = (StageTimes(8, HEAD_S), StageTimes(16, HEAD_S, "estimated"))
    allowed = Allowed(("input", "vision"), (6, 8, 16), (4,), ("jpeg75", "plain"))
    choices = build_choices(robot_profile(times=times), edge_profile(), None, allowed)
    estimated = {
        (plan.split_point, plan.weight_bits): bool(choices.estimated[row]) for row, plan in enumerate(choices.plans)
    }
    assert estimated == {("input", 32): False, ("vision", 6): True, ("vision", 8): False, ("vision", 16): True}
    six, eight = (choices.index(Plan("vision", bits, 4)) for bits in (6, 8))
    assert choices.robot_s[six] == choices.robot_s[eight]  # of the nearest width


SIZES = [(1, 1), (1, 3), (3, 7), (8, 128), (2, 5, 16), (50, 1)]


@pytest.mark.parametrize("bits", BIT_WIDTHS)
def test_packets_are_never_larger_than_the_bound(bits: int) -> None:
    random = np.random.default_rng(bits)
    plan = Plan("vision", feature_bits=bits)
    for shape in SIZES:
        codec = codec_for(StreamDescription(WIRE_VERSION, "test", "aa", plan, shape))
        bound = packet_bytes_bound(plan, shape)
        for offset in (0.0, 1e6):  # far from zero, ranges are sent as float32
            features = (random.standard_normal(shape) + offset).astype(np.float32)
            packet_bytes = HEADER_BYTES + len(codec.encode(features))
            assert packet_bytes <= bound
        if bits <= 8 and shape == (8, 128):
            assert bound <= packet_bytes + 8 * 8 + 1024 * bits / 8  # and not out of all proportion


@pytest.mark.parametrize("name", PICTURE_FORMATS)
def test_pictures_grow_with_their_quality_and_nothing_is_sent_at_output(name: str) -> None:
    sizes = [packet_bytes_bound(Plan("input", codec=f"{name}{quality}"), (224, 224, 3)) for quality in range(5, 101, 5)]
    assert sizes == sorted(sizes)
    assert 1_000 < sizes[0] < sizes[-1] < 224 * 224 * 3
    assert packet_bytes_bound(Plan("output"), ()) == 0


def test_theory_ranks_more_bits_and_earlier_splits_higher() -> None:
    robot = whole_robot()
    for point in ("vit.1", "vision", "qformer"):
        for fixed in (1, 4, 8):
            by_weights = [theory_loss(Plan(point, bits, fixed), robot) for bits in BIT_WIDTHS]
            by_features = [theory_loss(Plan(point, fixed, bits), robot) for bits in BIT_WIDTHS]
            assert by_weights == sorted(by_weights, reverse=True)
            assert by_features == sorted(by_features, reverse=True)
            assert max(*by_weights, *by_features) <= 1
    by_decibels = [theory_loss(Plan("qformer", 4, 8, f"klt{each}"), robot) for each in range(1, MOST_DECIBELS + 1)]
    assert by_decibels == sorted(set(by_decibels), reverse=True)
    for bits in range(1, 9):  # as fine as its name says, and finer than a scalar quantizer of as many bits
        by_klt, head = theory_loss(Plan("qformer", 4, bits, "klt"), robot), theory_loss(Plan("output", 4), robot)
        assert by_klt == by_decibels[6 * bits - 1]
        assert by_klt - head == pytest.approx(2.0**-bits, rel=0.03)
        assert by_klt < theory_loss(Plan("qformer", 4, bits), robot)
    pictures = [theory_loss(Plan("input", codec=f"jpeg{quality}"), robot) for quality in (5, 25, 50, 75, 90, 100)]
    assert pictures == sorted(set(pictures), reverse=True)
    depth = [theory_loss(Plan(point, 4, 8), robot) for point in ("vit.1", "vision", "qformer")]
    assert depth == sorted(set(depth))
    # λD = ln(1 + 1/N) at 4 bits, N = 8, and nothing lost on the way [theory.md, section 2]
    assert theory_loss(Plan("output", 4), robot) == pytest.approx(0.117783, abs=1e-6)
    assert theory_loss(Plan("output", 32), robot) == 0


def test_odd_profiles_that_can_be_read_make_an_error_and_no_exception_of_another_kind() -> None:
    """What came over the network need not be of any model that there is."""
    shapes = dict.fromkeys(("output", "nonsense", "vit.1"), SHAPES["vision"])
    for points in [("output",), ("qformer", "output"), ("nonsense", "output"), ("vit.1",), ("output", "vit.1")]:
        stage_s = dict.fromkeys(points, 0.1)
        robot = robot_profile(split_points=points, shapes=shapes, times=(StageTimes(8, stage_s),))
        for edge in (None, edge_profile(split_points=points[-1:]), edge_profile(times=(StageTimes(32, EDGE_S),))):
            try:
                choices = build_choices(robot, edge, None)
            except ValueError:
                continue
            assert np.isfinite(choices.quality_loss).all()


def test_codecs_that_are_named_are_the_only_ones() -> None:
    allowed = Allowed(codecs=("plain",))
    plans = build_choices(robot_profile(), edge_profile(), None, allowed).plans
    assert plans
    assert not any(plan.sends_picture for plan in plans)
