"""What the planner counts on of a link whose truth is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laim_ros.planning import LinkForecast, LinkForecaster

ROUND_TRIP_S = 0.02


def seconds_for(forecast: LinkForecast, packet_bytes: float) -> float:
    return float(forecast.link_s(np.array([packet_bytes]))[0])


class Link:
    """Feeds a forecaster with packets over a link with one-sided noise, one at a time on a clock of its own."""

    def __init__(self, seed: int = 0, noise_s: float = 0.002) -> None:
        self.forecaster, self.now_s = LinkForecaster(), 100.0
        self._random, self._noise_s = np.random.default_rng(seed), noise_s

    def send(self, packets: int, goodput_bps: float, sizes_bytes: tuple[int, int], period_s: float) -> None:
        for _ in range(packets):
            size_bytes = int(self._random.integers(*sizes_bytes, endpoint=True))
            link_s = ROUND_TRIP_S + 8 * size_bytes / goodput_bps + self._noise_s * self._random.exponential()
            self.now_s += max(period_s, link_s)
            self.forecaster.update(size_bytes, link_s, self.now_s)

    def forecast(self, quantile: float = 0.9, unanswered_s: float = 0.0) -> LinkForecast:
        return self.forecaster.forecast(self.now_s, quantile, unanswered_s)


def test_before_the_first_packet_the_link_is_free_of_cost_and_unknown() -> None:
    forecast = LinkForecaster().forecast(5.0, 0.9)
    assert not forecast.known
    assert math.isnan(forecast.goodput_bps)
    assert forecast.link_s(np.array([0.0, 1e6])).tolist() == [0.0, 0.0]
    silent = LinkForecaster().forecast(5.0, 0.9, unanswered_s=3.0)
    assert silent.known
    assert silent.link_s(np.array([0.0, 1.0, 1e6])).tolist() == [0.0, 3.0, 3.0]


@pytest.mark.parametrize("goodput_bps", [200e3, 2e6, 50e6])
@pytest.mark.parametrize("seed", range(3))
def test_finds_goodput_and_round_trip_with_a_margin_that_covers_the_packets(goodput_bps: float, seed: int) -> None:
    link = Link(seed)
    link.send(60, goodput_bps, (2_000, 40_000), 0.5)
    middle, careful = link.forecast(0.5), link.forecast(0.9)
    assert middle.goodput_bps == pytest.approx(goodput_bps, rel=0.25)
    assert careful.goodput_bps <= middle.goodput_bps
    assert middle.round_trip_s == pytest.approx(ROUND_TRIP_S, rel=0.2)
    truth_s = ROUND_TRIP_S + 8 * 20_000 / goodput_bps
    assert truth_s <= seconds_for(careful, 20_000) <= 1.3 * truth_s + 0.01
    # What is sent on average has no margin.
    assert careful.sending_s(np.array([20_000.0]))[0] == pytest.approx(8 * 20_000 / goodput_bps, rel=0.1, abs=0.004)


@pytest.mark.parametrize("sizes_bytes", [(8_000, 8_000), (2_000, 14_000)])
@pytest.mark.parametrize(("period_s", "slow_packets"), [(1.0, 1), (0.2, 3)])
def test_a_sag_shows_within_a_second(sizes_bytes: tuple[int, int], period_s: float, slow_packets: int) -> None:
    """After one slow packet at one per second."""
    link = Link()
    link.send(60, 5e6, sizes_bytes, period_s)
    assert seconds_for(link.forecast(), 8_000) < 0.05
    link.send(slow_packets, 200e3, (8_000, 8_000), period_s)
    truth_s = ROUND_TRIP_S + 8 * 8_000 / 200e3
    assert seconds_for(link.forecast(), 8_000) == pytest.approx(truth_s, rel=0.15)
    assert seconds_for(link.forecast(), 40_000) > 2 * truth_s  # though none so large has been sent


def test_small_packets_show_what_a_sag_would_do_to_large_ones() -> None:
    link = Link(noise_s=0.0005)
    link.send(40, 5e6, (1_000, 14_000), 1.0)
    link.send(3, 100e3, (1_000, 1_000), 1.0)
    assert seconds_for(link.forecast(), 14_000) == pytest.approx(ROUND_TRIP_S + 8 * 14_000 / 100e3, rel=0.3)


def test_small_packets_alone_do_not_show_that_large_ones_have_become_cheap() -> None:
    link = Link(noise_s=0.0)
    link.send(40, 200e3, (2_000, 14_000), 1.0)
    link.send(24, 20e6, (300, 300), 2.5)
    assert seconds_for(link.forecast(), 8_000) > 0.3


@pytest.mark.parametrize("rounds", [2, 20])
def test_hiccups_of_tiny_packets_are_not_charged_to_large_ones(rounds: int) -> None:
    """Whether goodput can be told yet or not."""
    link = Link(noise_s=0.01)
    for _ in range(rounds):
        link.send(1, 5e6, (8_000, 14_000), 0.2)
        link.send(3, 5e6, (24, 24), 0.2)
    assert seconds_for(link.forecast(), 14_000) < 0.2


@pytest.mark.parametrize("period_s", [0.2, 1.0])
def test_recovers_within_fifteen_seconds_of_a_sag(period_s: float) -> None:
    link = Link()
    link.send(60, 5e6, (2_000, 14_000), period_s)
    link.send(round(20 / max(period_s, 0.34)), 200e3, (2_000, 14_000), period_s)
    assert seconds_for(link.forecast(), 8_000) > 0.3
    link.send(round(15 / period_s), 5e6, (2_000, 14_000), period_s)
    assert seconds_for(link.forecast(), 8_000) < 0.06


def test_packets_all_alike_tell_of_smaller_ones_no_less_and_of_larger_ones_in_proportion() -> None:
    link = Link(noise_s=0.0)
    link.send(30, 1e6, (10_000, 10_000), 0.5)
    forecast = link.forecast()
    assert seconds_for(forecast, 100) == seconds_for(forecast, 10_000) == pytest.approx(0.1)
    assert seconds_for(forecast, 30_000) == pytest.approx(0.3)


def test_what_is_waited_for_is_the_least_that_the_next_packet_takes() -> None:
    link = Link()
    link.send(40, 2e6, (2_000, 20_000), 0.5)
    usual_s = seconds_for(link.forecast(), 2_000)
    assert seconds_for(link.forecast(unanswered_s=usual_s / 2), 2_000) == usual_s
    # Beyond twice the slowest of late it counts twice, whatever the packet; what is not sent does not wait.
    assert (
        seconds_for(link.forecast(unanswered_s=3.0), 100) == seconds_for(link.forecast(unanswered_s=3.0), 20_000) == 6.0
    )
    assert seconds_for(link.forecast(unanswered_s=3.0), 0) == 0.0


def test_single_late_packets_among_many_do_not_count() -> None:
    link = Link()
    for _ in range(12):
        link.send(19, 2e6, (2_000, 20_000), 0.05)
        link.forecaster.update(10_000, 1.5, link.now_s)
    link.send(19, 2e6, (2_000, 20_000), 0.05)
    assert seconds_for(link.forecast(), 10_000) < 0.1


def test_a_clock_that_is_set_back_leaves_a_usable_forecast_that_follows_the_link() -> None:
    link = Link()
    link.send(60, 5e6, (2_000, 14_000), 0.5)
    before_s = seconds_for(link.forecast(), 8_000)
    link.now_s -= 3600
    assert seconds_for(link.forecast(), 8_000) == pytest.approx(before_s, rel=0.2)
    link.send(64, 500e3, (2_000, 14_000), 0.5)
    assert seconds_for(link.forecast(), 8_000) == pytest.approx(ROUND_TRIP_S + 8 * 8_000 / 500e3, rel=0.15)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(1, 2**32), st.floats(-1e9, 1e9), st.floats(-1e6, 1e6)), max_size=40),
    st.floats(-1e6, 1e6),
    st.floats(0.5, 1),
    st.floats(0, 1e6),
)
def test_any_history_gives_a_forecast_that_grows_with_the_packet(
    history: list[tuple[int, float, float]], now_s: float, quantile: float, unanswered_s: float
) -> None:
    forecaster = LinkForecaster()
    for packet_bytes, link_s, at_s in history:
        forecaster.update(packet_bytes, link_s, at_s)
    forecast = forecaster.forecast(now_s, quantile, unanswered_s)
    sizes = np.array([0, 1, 24, 1e3, 1e5, 1e9])
    times_s = forecast.link_s(sizes)
    assert times_s[0] == 0
    assert np.isfinite(times_s).all()
    assert all(0 <= fewer <= more for fewer, more in pairwise(times_s))
    assert times_s[1] >= unanswered_s
    assert (forecast.sending_s(sizes) >= 0).all()
    assert forecast.goodput_bps > 0 or math.isnan(forecast.goodput_bps)
    assert forecast.known == bool(history or unanswered_s)
