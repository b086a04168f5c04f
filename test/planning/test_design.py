"""The choice among plans, against loops that are written from the order of preference alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import choices_of

from laim_ros.plan import Plan
from laim_ros.planning import Choices, Costs, Limits, LinkForecast, expected_costs, select
from laim_ros.planning.design import Corrections


def of_losses(quality_loss: list[float]) -> Choices:
    """Choices of which only the losses are looked at."""
    count = len(quality_loss)
    columns = dict.fromkeys(("robot_s", "edge_s", "packet_bytes", "active_w"), [1.0] * count)
    return choices_of([Plan(robot_clock_hz=row) for row in range(count)], **columns, quality_loss=quality_loss)


def best_by_hand(losses: list[float], delays: list[float], energies: list[float], limits: Limits) -> int:
    """The order of preference, looked through one plan at a time; of equals the first."""

    def least(rows: list[int], *keys: list[float]) -> int:
        best = rows[0]
        for row in rows[1:]:
            if tuple(key[row] for key in keys) < tuple(key[best] for key in keys):
                best = row
        return best

    everything = range(len(losses))
    timely = [row for row in everything if delays[row] <= limits.deadline_s]
    affordable = [row for row in everything if energies[row] <= limits.energy_j]
    feasible = [row for row in timely if row in affordable]
    if feasible:
        price = limits.price_per_j
        # With a price on energy, a late frame is worth nothing but may be the better deal.
        pool = affordable if price else feasible
        worth = [loss + (price * energies[row] if price else 0) for row, loss in enumerate(losses)]
        worth = [each if row in timely else worth[row] - losses[row] + 1 for row, each in enumerate(worth)]
        good = [row for row in pool if worth[row] <= min(worth[each] for each in pool) + limits.quality_tolerance]
        return least(good, energies, delays, worth)
    if affordable:
        soon = alike(affordable, delays)
        return least(alike(soon, energies), losses, energies, delays)
    cheap = alike(list(everything), energies)
    soon = [row for row in cheap if row in timely] or alike(cheap, delays)
    return least(soon, losses, energies, delays)


def alike(rows: list[int], figures: list[float]) -> list[int]:
    return [row for row in rows if figures[row] <= 1.1 * min(figures[each] for each in rows)]


def instance(random: np.random.Generator) -> tuple[Choices, Costs, Limits]:
    """A random problem on a coarse grid, so that ties abound; some figures are zero, some infinite."""
    count = int(random.integers(1, 13))

    def draw(top: int) -> np.ndarray:
        values = random.integers(0, top, count).astype(float)
        values[random.random(count) < 0.1] = math.inf
        return values

    losses = random.integers(0, 5, count) / 8
    costs = Costs(draw(8), np.zeros(count), draw(6) if random.random() < 0.9 else np.zeros(count))
    limits = Limits(
        deadline_s=float(random.choice([0, 1, 3, 6, math.inf])),
        energy_j=float(random.choice([0, 1, 2, 4, math.inf])),
        quality_tolerance=float(random.choice([0, 0.125, 0.3])),
        price_per_j=float(random.choice([0, 0, 0, 0.125, 1])),
    )
    return of_losses(losses.tolist()), costs, limits


def test_select_is_the_best_of_all_on_thousands_of_random_instances() -> None:
    random = np.random.default_rng(0)
    kinds = {True: 0, False: 0}
    for _ in range(3000):
        choices, costs, limits = instance(random)
        found = select(choices, costs, limits)
        delays, energies = costs.delay_s.tolist(), costs.energy_j.tolist()
        assert found.index == best_by_hand(choices.quality_loss.tolist(), delays, energies, limits)
        keeps = [
            delay <= limits.deadline_s and energy <= limits.energy_j
            for delay, energy in zip(delays, energies, strict=True)
        ]
        assert found.feasible == keeps[found.index]
        assert found.feasible == any(keeps) or limits.price_per_j
        assert (found.timely & found.affordable).tolist() == keeps
        kinds[found.feasible] += 1
    assert min(kinds.values()) > 800


FIGURES = st.one_of(st.floats(0, 1e9), st.sampled_from([0.0, 5e-324, 1.0, 1e308, math.inf]))


@settings(deadline=None, max_examples=80, derandomize=True)
@given(
    st.lists(st.tuples(st.floats(0, 1), FIGURES, FIGURES), min_size=1, max_size=8),
    FIGURES,
    FIGURES,
    st.floats(0, 1),
)
def test_select_answers_for_any_figures(
    rows: list[tuple], deadline_s: float, energy_j: float, tolerance: float
) -> None:
    losses, delays, energies = map(list, zip(*rows, strict=True))
    limits = Limits(deadline_s, energy_j, quality_tolerance=tolerance)
    found = select(of_losses(losses), Costs(np.array(delays), np.zeros(len(rows)), np.array(energies)), limits)
    keeps = [delay <= deadline_s and energy <= energy_j for _, delay, energy in rows]
    assert found.feasible == keeps[found.index] == any(keeps)
    assert not found.feasible or losses[found.index] <= tolerance + min(
        loss for loss, kept in zip(losses, keeps, strict=True) if kept
    )


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        (Limits(), 0),
        (Limits(quality_tolerance=0.1), 1),
        (Limits(deadline_s=0.4), 2),
        (Limits(energy_j=2.5), 3),
        (Limits(deadline_s=0.4, energy_j=2.5), 3),  # none keeps both: of those that can be afforded the least late
        (Limits(deadline_s=0.4, energy_j=0.5), 3),  # none can be afforded: the cheapest, though late
        (Limits(price_per_j=0.06), 1),  # 0.3, 0.29, 0.38 and 0.42 with the price
        (Limits(price_per_j=0.15), 3),
        (Limits(deadline_s=0.4, price_per_j=0.6), 2),  # 2.0 for the only one in time, 2.2 for the cheapest
        (Limits(deadline_s=0.4, price_per_j=1.0), 3),  # 3.2 and 3.0: what comes too late costs less
    ],
)
def test_each_limit_changes_the_choice(limits: Limits, chosen: int) -> None:
    choices = of_losses([0.0, 0.05, 0.2, 0.3])
    costs = Costs(np.array([1.0, 0.9, 0.2, 0.5]), np.zeros(4), np.array([5.0, 4.0, 3.0, 2.0]))
    assert select(choices, costs, limits).index == chosen


def test_of_plans_that_are_late_alike_the_cheapest_is_taken() -> None:
    choices = of_losses([0.0, 0.1, 0.2])
    costs = Costs(np.array([10.0, 10.9, 11.1]), np.zeros(3), np.array([3.0, 2.0, 0.5]))
    assert select(choices, costs, Limits(deadline_s=1.0)).index == 1
    assert select(choices, costs, Limits(deadline_s=10.0)).index == 0


def test_of_plans_that_are_all_too_dear_and_cost_alike_the_least_late_is_taken_and_then_the_best() -> None:
    choices = of_losses([0.2, 0.1, 0.0, 0.0])
    costs = Costs(np.array([0.3, 0.2, 0.9, 0.1]), np.zeros(4), np.array([10.0, 10.9, 10.5, 11.1]))
    assert select(choices, costs, Limits(deadline_s=0.5, energy_j=1.0)).index == 1
    assert select(choices, costs, Limits(deadline_s=1.0, energy_j=1.0)).index == 2
    assert select(choices, costs, Limits(deadline_s=0.1, energy_j=1.0)).index == 1


LINKS = [
    LinkForecast(),
    LinkForecast(0.01, 1e-6, 0.0, known=True),
    LinkForecast(0.02, 8e-6, 0.5, True, usual_seconds_per_byte=2e-6),
    LinkForecast(0.0, 0.0, math.inf, known=True),
]


@pytest.mark.parametrize("link", LINKS)
def test_expected_costs_are_those_of_a_loop(link: LinkForecast) -> None:
    random = np.random.default_rng(1)
    count = 50
    columns = {name: random.random(count) for name in ("robot_s", "edge_s", "active_w", "quality_loss")}
    sizes = np.where(random.random(count) < 0.3, 0.0, random.integers(1, 50_000, count).astype(float))
    plans = [Plan(robot_clock_hz=row) for row in range(count)]
    choices = choices_of(plans, **columns, packet_bytes=sizes, radio_w=1.5)
    ratios = Corrections(robot=2.0, edge=3.0, packet_bytes=0.5, energy=1.25)
    costs = expected_costs(choices, link, ratios, wait_s=0.1)
    for row in range(count):
        size = float(sizes[row]) * 0.5
        robot_s = float(columns["robot_s"][row]) * 2
        link_s = max(link.least_s, link.round_trip_s + link.seconds_per_byte * size) if size else 0.0
        delay_s = 0.1 + robot_s + link_s + float(columns["edge_s"][row]) * 3
        usual = link.usual_seconds_per_byte if link.usual_seconds_per_byte else link.seconds_per_byte
        energy_j = float(columns["active_w"][row]) * robot_s * 1.25 + 1.5 * usual * size
        assert costs.link_s[row] == pytest.approx(link_s)
        assert costs.delay_s[row] == pytest.approx(delay_s)
        assert costs.energy_j[row] == pytest.approx(energy_j)
