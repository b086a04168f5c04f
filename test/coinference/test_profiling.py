"""What a half costs on this machine: every stage under its own name, within the budget, and measured only once.

Where times are asserted, the clock is one that only passes when the test says so.
"""

from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import gennorm
from test_coinference import picture

from laim_ros.codec import Codecs, SplitCalibration
from laim_ros.codec import picture as picture_codec
from laim_ros.codec.probabilities import SHAPES
from laim_ros.coinference import EdgeHalf, RobotHalf
from laim_ros.models import Stage, load
from laim_ros.models.source import find_source
from laim_ros.plan import Plan
from laim_ros.planning.profiles import MachineProfile
from laim_ros.profiling import TEXT_TOKENS, profile, profile_cache, profile_edge, profile_robot
from laim_ros.profiling.coding import calibrated
from laim_ros.quantization.storage.write import Packing

POINTS = ("input", "vit.1", "vit.2", "vit.3", "vision", "qformer", "output")
COSTS_S = {"vit.1": 0.003, "vit.2": 0.4, "vit.3": 0.005, "vision": 0.001, "qformer": 0.007}
RESIZE_S = 0.002


class Clock:
    """Seconds that pass by work and by sleep, and what they have cost: 3 W at rest, 10 W at work."""

    source = "rapl"

    def __init__(self) -> None:
        self.now_s = self.busy_s = 0.0

    def work(self, seconds: float) -> None:
        self.now_s += seconds
        self.busy_s += seconds

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def joules(self) -> float:
        return 3 * self.now_s + 7 * self.busy_s

    def close(self) -> None:
        pass


class Unmoved(Clock):
    """A meter that tells no more at work than at rest."""

    def joules(self) -> float:
        return 0.0


class Silent(Clock):
    """A meter that cannot tell."""

    def joules(self) -> float:
        return math.nan


class EarlyTail:
    """A tail that takes 0.1 s and 0.05 s per token, and has said all after five tokens."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def generate_ids(self, features, prompts, generation) -> list[list[int]]:
        tokens = min(generation.max_new_tokens, 5)
        self._clock.work(0.1 + 0.05 * tokens)
        return [[7] * tokens]

    def decode(self, ids) -> str:
        return ""


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now_s)
    monkeypatch.setattr(time, "thread_time", lambda: clock.busy_s)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


def with_costs(half, clock: Clock, costs_s=COSTS_S) -> list[str]:
    """Lets the half's stages take so long on the clock; returns the names of those that run, as they run."""
    ran: list[str] = []

    def stage(name, function):
        def run(x):
            ran.append(name)
            clock.work(costs_s.get(name, 0.0))
            return function(x)

        return Stage(name, run)

    half.model.stages = [stage(each.name, each.function) for each in half.model.stages]
    return ran


def all_code_s(got: MachineProfile) -> list[float]:
    return [seconds for by_codec in got.code_s.values() for seconds in by_codec.values()]


def white(half, point: str, exponent: float = 1.0) -> SplitCalibration:
    """A calibration for white features of variance 1, of generalised Gaussian distribution: nothing to decorrelate."""
    rows, columns = half.model.boundary_shape(point)
    return SplitCalibration(
        mean=np.zeros((rows, columns), np.float16),
        token_weights=np.ones(rows, np.float32),
        channels=np.eye(columns, dtype=np.float16),
        tokens=np.eye(rows, dtype=np.float16),
        scales=np.zeros((rows, columns), np.int8),
        shapes=np.full((rows, columns), SHAPES.index(exponent), np.uint8),
        steps=np.round(8 * np.log2(12**0.5 * 10 ** (-np.arange(61) / 20))).astype(np.int16),
        frames=1,
    )


def with_loads_counted(half) -> list[int]:
    """Bit-widths of the heads that are loaded from now on beside the one in use."""
    loaded: list[int] = []
    load_head = half.head_at
    half.head_at = lambda bits, wanted: (loaded.append(bits), load_head(bits, wanted))[1]
    return loaded


def profiled(half, *, limit_s=0.0, meter=None, active_w=15.0, radio_w=1.5, clocks_hz=(), cache=None) -> MachineProfile:
    given = {"active_w": active_w, "radio_w": radio_w, "clocks_hz": clocks_hz}
    return profile_robot(half, "mini", limit_s=limit_s, meter=meter, cache=cache, **given)


def test_every_loaded_stage_and_every_packet_is_timed(checkpoint):
    half = RobotHalf.open(checkpoint, "/robot", weight_bits=8, last="output")
    before = half.model
    got = profiled(half)
    (times,) = got.times
    assert half.model is before
    assert (times.weight_bits, times.source, got.split_points) == (8, "measured", POINTS)
    assert times.stage_s.keys() == set(POINTS)
    assert got.code_s.keys() == set(POINTS) - {"output"} == got.shapes.keys()
    assert got.code_s["input"].keys() == {"jpeg90", "webp75", "avif50"}
    assert {tuple(codecs) for point, codecs in got.code_s.items() if point != "input"} == {("plain",)}
    assert all(seconds > 0 for seconds in (*times.stage_s.values(), *all_code_s(got)))
    assert (got.model, got.model_id, got.engine) == ("mini", before.model_id, before.engine)
    assert f"{torch.get_num_threads()} thread" in got.machine
    assert (got.radio_w, got.power_source, [mode.active_w for mode in got.modes]) == (1.5, "assumed", [15.0])
    assert MachineProfile.from_json(got.to_json()) == got
    short = RobotHalf(load(checkpoint, last="vit.2"), "/robot")
    assert profiled(short).times[0].stage_s.keys() == {"input", "vit.1", "vit.2"}


def test_each_stage_has_its_own_time_and_all_have_that_of_a_frame(checkpoint, clock, monkeypatch):
    half = RobotHalf.open(checkpoint, "/robot", last="output")
    with_costs(half, clock)
    half.model.tail = EarlyTail(clock)
    resize = half.model.resize
    monkeypatch.setattr(half.model, "resize", lambda image: (clock.work(RESIZE_S), resize(image))[1])
    stage_s = profiled(half).times[0].stage_s
    assert stage_s == pytest.approx({**COSTS_S, "input": RESIZE_S, "output": 0.1 + 0.05 * TEXT_TOKENS})
    began_s = clock.now_s
    half.features(picture(0), "qformer")
    assert sum(stage_s.values()) - stage_s["output"] == pytest.approx(clock.now_s - began_s)


def test_an_edge_profiles_what_it_has(checkpoint, clock):
    edge = EdgeHalf(load(checkpoint, first="vit.1", dtype="bfloat16"))
    with_costs(edge, clock)
    edge.model.tail = EarlyTail(clock)
    got = profile_edge(edge, "mini", cache=None)
    (times,) = got.times
    assert times.weight_bits == 16
    expected_s = {name: seconds for name, seconds in COSTS_S.items() if name != "vit.1"}
    assert times.stage_s == pytest.approx({**expected_s, "output": 0.1 + 0.05 * TEXT_TOKENS})
    assert got.code_s.keys() == {"vit.1", *expected_s}


def test_an_edge_times_the_decoding_of_every_packet(checkpoint):
    got = profile_edge(EdgeHalf(load(checkpoint)), "mini", cache=None)
    assert got.times[0].stage_s.keys() == set(POINTS) - {"input"}
    assert got.code_s.keys() == set(POINTS) - {"output"}
    assert all(seconds > 0 for seconds in (*got.times[0].stage_s.values(), *all_code_s(got)))


def test_klt_is_timed_where_it_is_calibrated_and_picture_formats_that_opencv_has(checkpoint, monkeypatch):
    half, edge = RobotHalf.open(checkpoint, "/robot", last="vit.2"), EdgeHalf(load(checkpoint, first="vit.1"))
    calibrations = {point: white(half, point) for point in ("vit.1", "vit.2")}
    calibrations["qformer"] = white(edge, "qformer")
    half.codecs = edge.codecs = Codecs(calibrations)
    monkeypatch.setattr(picture_codec, "picture_formats_here", lambda: ("jpeg", "webp"))
    robots, edges = profiled(half), profile_edge(edge, "mini", cache=None)
    assert set(robots.calibrations) == {"vit.1", "vit.2"}, "the robot has not loaded the others"
    assert set(edges.calibrations) == {"vit.1", "vit.2", "qformer"}
    for got in (robots, edges):
        for point, known in got.calibrations.items():
            assert got.code_s[point].keys() == {"plain", "klt12", "klt48"}
            assert known.digest == calibrations[point].digest
    assert robots.code_s["input"].keys() == {"jpeg90", "webp75"}
    assert robots.picture_formats == ("jpeg", "webp")


def test_the_expected_size_by_klt_is_what_features_like_the_calibrations_take(checkpoint):
    half = RobotHalf(load(checkpoint, last="vit.2"), "/robot")
    calibration = white(half, "vit.2", exponent=2.5)
    half.codecs = Codecs({"vit.2": calibration})
    expected = calibrated(half)["vit.2"]
    shape = half.model.boundary_shape("vit.2")
    for bits in (1, 2, 4, 8):
        stream = half.describe(Plan("vit.2", 32, bits, "klt"))
        frames = gennorm.rvs(2.5, scale=1 / gennorm.std(2.5), size=(20, *shape), random_state=bits).astype(np.float32)
        sizes = [len(half.codecs.encode(stream, frame)) for frame in frames]
        assert expected.bytes_at(6 * bits) == pytest.approx(np.mean(sizes), rel=0.05, abs=1)


def test_other_widths_are_measured_while_time_lasts_and_added_at_later_starts(checkpoint, clock, monkeypatch, tmp_path):
    half = RobotHalf.open(checkpoint, "/robot", last="output")
    load_head, before = half.head_at, half.model
    monkeypatch.setattr(half, "head_at", lambda *asked: (clock.work(10), load_head(*asked))[1])
    assert profiled(half, limit_s=0).weight_bits == (32,)
    assert clock.now_s == 0, "with no time to spend nothing is loaded"
    assert profiled(half, limit_s=9).weight_bits == (32,), "a load that takes too long is given up"
    first = profiled(half, limit_s=25, cache=tmp_path)
    assert first.weight_bits == (4, 8, 32), "a third load would have ended after 30 s"
    assert "no time to measure 2, 3, 6, 16 bits" in first.notes
    assert all(times.stage_s.keys() == set(POINTS) for times in first.times)
    assert half.model is before
    second = profiled(half, limit_s=25, cache=tmp_path)
    assert second.weight_bits == (2, 4, 8, 16, 32)
    assert MachineProfile.read(next(tmp_path.iterdir())) == second
    assert second.times_at(8) == first.times_at(8)


def test_widths_that_cannot_be_had_are_left_out(checkpoint, monkeypatch, tmp_path):
    fixed = RobotHalf(load(checkpoint, last="qformer"), "/robot")
    assert profiled(fixed, limit_s=1000).weight_bits == (32,)
    packed = tmp_path / "packed"
    Packing(find_source(checkpoint), 4, "exponential").write(packed)
    assert profiled(RobotHalf.open(str(packed), "/robot"), limit_s=1000).weight_bits == (4,)
    half = RobotHalf.open(checkpoint, "/robot")

    def fail(weight_bits, wanted):
        if weight_bits != 4:
            raise MemoryError("none left")
        return load_head(weight_bits, wanted)

    load_head = half.head_at
    monkeypatch.setattr(half, "head_at", fail)
    got = profiled(half, limit_s=1000)
    assert got.weight_bits == (4, 32)
    assert "8 bits could not be measured: none left" in got.notes
    monkeypatch.setattr(profile, "free_bytes", lambda device: half.model.head_bytes)
    assert "too little free memory to measure 2, 3, 4, 6, 8, 16 bits" in profiled(half, limit_s=1000).notes


def test_a_kept_profile_is_used_while_it_is_of_this_half(checkpoint, other_checkpoint, clock, monkeypatch, tmp_path):
    half = RobotHalf.open(checkpoint, "/robot")
    ran = with_costs(half, clock)
    first = profiled(half, cache=tmp_path)
    assert set(ran) == set(COSTS_S)
    ran.clear()
    assert profiled(half, cache=tmp_path) == first
    again = profiled(half, cache=tmp_path, active_w=20.0, radio_w=3.0, clocks_hz=(1e9,))
    assert (again.times, again.code_s) == (first.times, first.code_s)
    assert (again.modes[0].active_w, again.radio_w, len(again.modes)) == (20.0, 3.0, 2), "these are not measured"
    assert not ran
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    older = whole.replace(b'"version":2', b'"version":1')
    for damaged in (b"", whole[:-9], whole.replace(b'"vit.2":', b'"vit.9":'), older):
        file.write_bytes(damaged)
        profiled(half, cache=tmp_path)
        assert ran
        ran.clear()
        assert MachineProfile.read(file).times[0].stage_s == pytest.approx(first.times[0].stage_s)
    for other in (RobotHalf.open(other_checkpoint, "/robot"), RobotHalf.open(checkpoint, "/robot", prune="blocks:1")):
        files = set(tmp_path.iterdir())
        others = with_costs(other, clock)
        profiled(other, cache=tmp_path)
        assert others
        (made,) = set(tmp_path.iterdir()) - files
        content = made.read_bytes()
    made.write_bytes(content.replace(half.model.model_id.encode(), b"0" * 32))
    others.clear()
    profiled(other, cache=tmp_path)
    assert others, "the file says that it is of another model"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    profiled(half, cache=tmp_path)
    assert ran, "measured with other threads"


def test_another_calibration_is_reason_to_measure_again_but_not_all(checkpoint, clock, tmp_path):
    half, edge = RobotHalf.open(checkpoint, "/robot", last="vit.2"), EdgeHalf(load(checkpoint))
    first, first_edge = profiled(half, limit_s=1000, cache=tmp_path), profile_edge(edge, "mini", cache=tmp_path)
    half.codecs = edge.codecs = Codecs({"vit.2": white(half, "vit.2")})
    heads = with_loads_counted(half)
    again = profiled(half, limit_s=1000, cache=tmp_path)
    assert not heads, "other widths are kept"
    assert (again.weight_bits, set(again.calibrations)) == (first.weight_bits, {"vit.2"})
    assert again.code_s["vit.2"].keys() == {"plain", "klt12", "klt48"}
    assert profile_edge(edge, "mini", cache=tmp_path).calibrations == again.calibrations != first_edge.calibrations
    ran = with_costs(half, clock), with_costs(edge, clock)
    assert profiled(half, limit_s=1000, cache=tmp_path).code_s == again.code_s
    profile_edge(edge, "mini", cache=tmp_path)
    assert ran == ([], []), "both are kept"


def test_what_was_measured_beside_others_is_not_kept(checkpoint, clock, monkeypatch, tmp_path):
    half, edge = RobotHalf.open(checkpoint, "/robot"), EdgeHalf(load(checkpoint))
    with_costs(half, clock)
    with_costs(edge, clock)
    with monkeypatch.context() as patched:
        patched.setattr(time, "thread_time", lambda: 0.7 * clock.busy_s)
        for got in (profiled(half, cache=tmp_path), profile_edge(edge, "mini", cache=tmp_path)):
            assert got.times[0].stage_s["vit.2"] == pytest.approx(COSTS_S["vit.2"])
            assert got.notes.endswith("not kept: the machine was busy, this had 70% of a processor's time")
    assert not list(tmp_path.iterdir())
    assert "not kept" not in profiled(half, cache=tmp_path).notes
    assert len(list(tmp_path.iterdir())) == 1


def test_an_edges_profile_is_kept(checkpoint, clock, tmp_path):
    edge = EdgeHalf(load(checkpoint))
    ran = with_costs(edge, clock)
    first = profile_edge(edge, "mini", cache=tmp_path)
    assert ran
    ran.clear()
    assert profile_edge(edge, "mini", cache=tmp_path) == first
    assert not ran
    assert profile_edge(edge, "also mini", cache=tmp_path).model == "also mini"
    half = EdgeHalf(load(checkpoint, dtype="bfloat16"))
    assert profile_edge(half, "mini", cache=tmp_path).weight_bits == (16,)


def test_a_cache_that_cannot_be_written_is_told_and_no_more(checkpoint, clock, tmp_path):
    (tmp_path / "file").write_text("")
    half, cache = RobotHalf.open(checkpoint, "/robot"), tmp_path / "file" / "profiles"
    with_costs(half, clock)
    got = profiled(half, cache=cache)
    assert got.times[0].stage_s
    assert got.notes.endswith(f"not kept in {cache}: Not a directory")


def test_power_is_measured_above_idle_or_assumed(checkpoint, clock, tmp_path):
    half = RobotHalf.open(checkpoint, "/robot")
    ran = with_costs(half, clock)
    clocks_hz = (0.5e9, 1e9, 2e9)
    got = profiled(half, meter=clock, clocks_hz=clocks_hz, cache=tmp_path)
    assert got.power_source == "rapl"
    modes = [(mode.clock_hz, mode.slowdown, mode.active_w) for mode in got.modes]
    expected = [(0.0, 1.0, 7.0), (0.5e9, 4.0, 7 / 64), (1e9, 2.0, 7 / 8), (2e9, 1.0, 7.0)]
    assert modes == [pytest.approx(mode) for mode in expected]
    assert all(faster.active_w > slower.active_w for slower, faster in pairwise(got.modes[1:]))
    assert "other clocks computed" in got.notes
    ran.clear()
    assert profiled(half, meter=clock, cache=tmp_path).modes[0] == got.modes[0]
    assert not ran
    for meter in (None, Silent(), Unmoved()):
        assumed = profiled(half, meter=meter)
        assert (assumed.power_source, assumed.modes[0].active_w) == ("assumed", 15.0)


def test_profiles_lie_where_the_system_keeps_such_files(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    home, other = tmp_path / ".cache", tmp_path / "other"
    for value, folder in ((str(other), other), ("", home), ("relative", home)):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert profile_cache() == folder / "laim_ros" / "profiles"
