"""The real-size profiles in bench/profiles: that they can be used together, and are what their script writes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from bench.real_size_profile import main
from bench.real_size_profile_codec import CODEC_FILE, CodecFigures
from bench.real_size_profile_compute import head_work, text_weights
from bench.real_size_profile_form import FOLDER, SPLIT_POINTS, WEIGHT_BITS
from laim_ros.plan import Plan
from laim_ros.planning.profiles import MachineProfile

PAIRS = {"cpu_robot": "cpu_edge", "jetson_robot": "gpu_edge"}

HEAD_8_BITS_S = 0.477
"""What bench/head.py measured of the same head on the same two cores."""


def profile(name: str) -> MachineProfile:
    return MachineProfile.read(FOLDER / f"{name}.json")


@pytest.mark.parametrize(("robot_name", "edge_name"), PAIRS.items())
def test_robot_and_edge_fit_together(robot_name: str, edge_name: str) -> None:
    robot, edge = profile(robot_name), profile(edge_name)
    assert robot.model_id == edge.model_id == profile("cpu_robot").model_id
    assert robot.split_points == edge.split_points == SPLIT_POINTS
    assert robot.shapes == edge.shapes
    assert robot.weight_bits == WEIGHT_BITS
    assert robot.code_s.keys() == edge.code_s.keys() == robot.shapes.keys() == set(SPLIT_POINTS[:-1])
    for point, codecs in robot.code_s.items():
        named = {"jpeg90", "webp75", "avif50"} if point == "input" else {"plain", "klt12", "klt48"}
        assert codecs.keys() == edge.code_s[point].keys() == named
    for times in robot.times:
        assert times.stage_s.keys() == set(SPLIT_POINTS)
    assert edge.times[0].stage_s.keys() == set(SPLIT_POINTS[1:])


@pytest.mark.parametrize("name", PAIRS)
def test_the_head_takes_longer_the_later_it_ends_and_the_wider_its_floats(name: str) -> None:
    robot = profile(name)
    for bits in WEIGHT_BITS:
        until_s = [robot.span_s(bits, "", point) for point in SPLIT_POINTS]
        assert until_s == sorted(set(until_s))
    eight_s, half_s, float_s = (robot.span_s(bits, "", "qformer") for bits in (8, 16, 32))
    assert eight_s < half_s < float_s


@pytest.mark.parametrize("name", PAIRS)
def test_slower_modes_draw_less_power(name: str) -> None:
    modes = profile(name).modes
    assert len(modes) == 4
    assert modes[0].slowdown == 1
    for faster, slower in pairwise(modes):
        assert slower.clock_hz < faster.clock_hz
        assert slower.slowdown > faster.slowdown
        assert slower.active_w < faster.active_w


def test_the_measured_head_is_the_one_of_the_head_benchmark() -> None:
    robot = profile("cpu_robot")
    assert robot.span_s(8, "", "qformer") == pytest.approx(HEAD_8_BITS_S, rel=0.25)
    assert {times.source for times in robot.times} == {"measured"}
    # Engine onednn holds all of these as int8.
    for bits in (2, 3, 4, 6):
        assert robot.span_s(bits, "", "qformer") == pytest.approx(HEAD_8_BITS_S, rel=0.25)


def test_the_computed_profiles_count_the_operations_that_the_paper_states() -> None:
    """533.66 GFLOP to the first token equals ViT-g and Q-Former alone (theory.md section 3)."""
    assert sum(work.operations for work in head_work().values()) == pytest.approx(533.66e9, rel=0.001)
    assert text_weights() == pytest.approx(2.65e9, rel=0.01)


def test_computing_again_writes_the_same_files(tmp_path: Path) -> None:
    measured, computed = ("cpu_robot", "cpu_edge"), ("jetson_robot", "gpu_edge")
    for name in measured:
        (tmp_path / f"{name}.json").write_bytes((FOLDER / f"{name}.json").read_bytes())
    main(["--codecs", str(CODEC_FILE), "--compute", "--folder", str(tmp_path)])
    for name in (*measured, *computed, CODEC_FILE.stem):
        assert (tmp_path / f"{name}.json").read_bytes() == (FOLDER / f"{name}.json").read_bytes()
    for name in computed:
        assert {times.source for times in profile(name).times} == {"computed"}


def test_sizes_by_klt_lie_between_those_that_were_measured_at_the_nearest_split_point() -> None:
    figures = CodecFigures.read()
    sizes = [figures.klt_payload_bytes(Plan("qformer", 8, 8, f"klt{decibels}")) for decibels in range(6, 49)]
    assert sizes == sorted(set(sizes))
    rows = {row["feature_bits"]: row["payload_bytes"] for row in figures.rows if row["split"] == "vit.26"}
    assert figures.klt_payload_bytes(Plan("vit.30", 8, 2, "klt")) == pytest.approx(rows[2])
    between = figures.klt_payload_bytes(Plan("vit.30", 8, 8, "klt9"))
    assert between == pytest.approx((rows[1] * rows[2]) ** 0.5)
