"""The running estimate of goodput and round trip, on links whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laim_ros.planning import LinkEstimator


def drive(estimator, random, packets, *, goodput_bps, round_trip_s, sizes_bytes, noise_s=0.0, late_share=0.0):
    """Send `packets` of uniformly random size over a link with one-sided noise, some packets late by one second."""
    for _ in range(packets):
        size_bytes = int(random.integers(*sizes_bytes, endpoint=True))
        link_s = round_trip_s + 8 * size_bytes / goodput_bps + noise_s * random.exponential()
        if random.random() < late_share:
            link_s += 1.0
        estimator.update(size_bytes, link_s)
    return estimator


LINKS = [
    (1e6, 0.050, (2_000, 20_000), 0.003),
    (20e6, 0.004, (1_000, 100_000), 0.001),
    (100e3, 0.500, (500, 1_100), 0.005),
    (1e9, 0.0005, (10_000, 1_000_000), 0.0002),
]


@pytest.mark.parametrize(("goodput_bps", "round_trip_s", "sizes_bytes", "noise_s"), LINKS)
@pytest.mark.parametrize("late_share", [0.0, 0.15])
@pytest.mark.parametrize("seed", range(5))
def test_finds_the_link_in_noise_and_among_late_packets(
    goodput_bps, round_trip_s, sizes_bytes, noise_s, late_share, seed
):
    estimator = drive(
        LinkEstimator(),
        np.random.default_rng(seed),
        100,
        goodput_bps=goodput_bps,
        round_trip_s=round_trip_s,
        sizes_bytes=sizes_bytes,
        noise_s=noise_s,
        late_share=late_share,
    )
    assert estimator.goodput_bps == pytest.approx(goodput_bps, rel=0.15)
    for size_bytes in sizes_bytes:
        assert estimator.predict_s(size_bytes) == pytest.approx(
            round_trip_s + 8 * size_bytes / goodput_bps, rel=0.1, abs=2 * noise_s
        )
    assert estimator.round_trip_s == pytest.approx(round_trip_s, rel=0.1, abs=3 * noise_s)
    assert estimator.goodput_floor_bps <= estimator.goodput_bps


def test_without_noise_it_is_exact():
    estimator = drive(
        LinkEstimator(), np.random.default_rng(0), 30, goodput_bps=2e6, round_trip_s=0.02, sizes_bytes=(1_000, 9_000)
    )
    assert estimator.goodput_bps == pytest.approx(2e6)
    assert estimator.round_trip_s == pytest.approx(0.02)
    assert estimator.predict_s(50_000) == pytest.approx(0.22)


@pytest.mark.parametrize(("before_bps", "after_bps"), [(10e6, 1e6), (1e6, 10e6)])
def test_follows_a_step_of_goodput_within_two_memories(before_bps, after_bps):
    random = np.random.default_rng(0)
    link = {"round_trip_s": 0.02, "sizes_bytes": (2_000, 20_000), "noise_s": 0.002}
    estimator = drive(LinkEstimator(), random, 100, goodput_bps=before_bps, **link)
    assert estimator.goodput_bps == pytest.approx(before_bps, rel=0.15)
    drive(estimator, random, 32, goodput_bps=after_bps, **link)
    assert estimator.goodput_bps == pytest.approx(after_bps, rel=0.15)
    assert estimator.predict_s(10_000) == pytest.approx(0.02 + 80_000 / after_bps, rel=0.1)


def test_follows_a_step_of_the_round_trip():
    random = np.random.default_rng(0)
    link = {"goodput_bps": 5e6, "sizes_bytes": (2_000, 20_000), "noise_s": 0.002}
    estimator = drive(LinkEstimator(), random, 100, round_trip_s=0.02, **link)
    drive(estimator, random, 32, round_trip_s=0.2, **link)
    assert estimator.round_trip_s == pytest.approx(0.2, rel=0.1)
    assert estimator.goodput_bps == pytest.approx(5e6, rel=0.25)


def test_one_burst_of_late_packets_passes_by():
    random = np.random.default_rng(0)
    link = {"goodput_bps": 1e6, "round_trip_s": 0.05, "sizes_bytes": (2_000, 20_000), "noise_s": 0.002}
    estimator = drive(LinkEstimator(), random, 60, **link)
    before_s = estimator.predict_s(10_000)
    drive(estimator, random, 3, late_share=1.0, **link)
    assert estimator.predict_s(10_000) == pytest.approx(before_s, rel=0.15)


def test_nothing_is_known_before_the_first_packet():
    estimator = LinkEstimator()
    assert estimator.goodput_bps is None
    assert estimator.goodput_floor_bps is None
    assert estimator.round_trip_s is None
    assert estimator.predict_s(1000) is None


@pytest.mark.parametrize("packets", [1, 11, 200])
def test_equal_sizes_do_not_reveal_goodput(packets):
    estimator = LinkEstimator()
    random = np.random.default_rng(0)
    for _ in range(packets):
        estimator.update(10_000, 0.1 + 0.001 * random.exponential())
    assert estimator.goodput_bps is None
    assert estimator.goodput_floor_bps == pytest.approx(8 * 10_000 / 0.1, rel=0.05)
    assert estimator.round_trip_s == pytest.approx(0.1, rel=0.05)  # with the transmission in it, as documented
    assert estimator.predict_s(1_000) == estimator.predict_s(10_000) == estimator.round_trip_s
    assert estimator.predict_s(30_000) == pytest.approx(0.3, rel=0.05)


def test_few_packets_of_another_size_do_not_make_a_slope():
    """They are all late: taken at their word, the link would carry 90 kbit/s."""
    estimator = LinkEstimator()
    for number in range(100):
        late = number % 25 == 0
        estimator.update(11_000 if late else 10_000, 0.2 if late else 0.1)
    assert estimator.goodput_bps is None


def test_noise_hides_goodput_rather_than_inventing_one():
    """Sizes differ, but time does not depend on them."""
    invented = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        estimator = LinkEstimator()
        for _ in range(60):
            estimator.update(int(random.integers(1_000, 2_000)), 0.01 + 0.003 * abs(random.standard_normal()))
        invented += estimator.goodput_bps is not None
        assert estimator.predict_s(1_500) == pytest.approx(0.012, rel=0.3)
    assert invented <= 3


def test_goodput_is_remembered_while_sizes_stay_equal_and_then_expires():
    random = np.random.default_rng(0)
    link = {"goodput_bps": 1e6, "round_trip_s": 0.05, "noise_s": 0.001}
    estimator = drive(LinkEstimator(), random, 60, sizes_bytes=(2_000, 20_000), **link)
    drive(estimator, random, 200, sizes_bytes=(5_000, 5_000), **link)
    assert estimator.goodput_bps == pytest.approx(1e6, rel=0.1)
    assert estimator.round_trip_s == pytest.approx(0.05, rel=0.1)
    drive(estimator, random, 200, sizes_bytes=(5_000, 5_000), **link)
    assert estimator.goodput_bps is None
    assert estimator.round_trip_s == pytest.approx(0.09, rel=0.05)


def test_a_remembered_goodput_gives_way_to_a_faster_link():
    random = np.random.default_rng(0)
    estimator = drive(
        LinkEstimator(), random, 60, goodput_bps=1e6, round_trip_s=0.001, sizes_bytes=(2_000, 20_000), noise_s=1e-4
    )
    drive(estimator, random, 60, goodput_bps=10e6, round_trip_s=0.001, sizes_bytes=(5_000, 5_000), noise_s=1e-4)
    assert estimator.predict_s(5_000) == pytest.approx(0.005, rel=0.1)
    assert estimator.goodput_bps == pytest.approx(8e6, rel=0.1)  # at least what the packets show
    assert estimator.round_trip_s == 0.0


def test_negative_link_times_are_a_fast_link():
    """The difference of durations on two clocks may be below zero."""
    estimator = LinkEstimator()
    for size_bytes in range(1000, 3000, 50):
        estimator.update(size_bytes, -0.001)
    assert estimator.goodput_bps is None
    assert 0 < estimator.round_trip_s <= 1e-6
    assert estimator.goodput_floor_bps > 1e9
    assert 0 < estimator.predict_s(5000) < 1e-5


@pytest.mark.parametrize(
    ("packet_bytes", "link_s", "message"),
    [(0, 0.1, "packet_bytes"), (-5, 0.1, "packet_bytes"), (10, math.nan, "link_s"), (10, math.inf, "link_s")],
)
def test_impossible_observations_are_refused_and_change_nothing(packet_bytes, link_s, message):
    estimator = LinkEstimator()
    estimator.update(1000, 0.1)
    with pytest.raises(ValueError, match=message):
        estimator.update(packet_bytes, link_s)
    assert estimator.predict_s(1000) == pytest.approx(0.1)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 2**32), st.floats(-1e9, 1e9)), min_size=1, max_size=90))
def test_any_history_gives_usable_figures(history):
    estimator = LinkEstimator()
    for packet_bytes, link_s in history:
        estimator.update(packet_bytes, link_s)
    assert estimator.goodput_bps is None or 0 < estimator.goodput_bps < math.inf
    assert 0 < estimator.goodput_floor_bps < math.inf
    assert 0 <= estimator.round_trip_s < math.inf
    for packet_bytes in (1, 1000, 10**9):
        assert 0 <= estimator.predict_s(packet_bytes) < math.inf
    assert estimator.predict_s(10**6) >= estimator.predict_s(1)
