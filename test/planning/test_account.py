"""The account of energy: debts and savings, the hull of situations, and the price that keeps to the budget."""

from __future__ import annotations

import math

import numpy as np
import pytest

from laim_ros.planning.account import EnergyAccount, lower_hull

BUDGET_J, LEFT = 0.4, 50.0


def situation(random: np.random.Generator, plans: int) -> tuple[np.ndarray, np.ndarray]:
    """Energy and loss of some plans; what costs more is mostly better."""
    energy_j = random.exponential(1.0, plans)
    loss = np.clip(0.6 * np.exp(-energy_j) + random.normal(0, 0.1, plans), 0, 1)
    return energy_j, loss


def mean_by_hand(situations: list[tuple[np.ndarray, np.ndarray]], price: float) -> float:
    """Joules per frame where each takes the least loss plus price times energy; of equals the cheapest."""
    spent_j = 0.0
    for energy_j, loss in situations:
        spent_j += min(zip((loss + price * energy_j).tolist(), energy_j.tolist(), strict=True))[1]
    return spent_j / len(situations)


# Debts and savings.


def test_frames_settle_with_the_budget_and_the_rest_is_a_debt_in_full() -> None:
    account = EnergyAccount()
    account.settle(2.0, 5.0)
    account.settle(2.0, 0.5)
    assert account.debt_j == 1.5
    account.spend(0.25)
    assert account.debt_j == 1.75
    account.settle(2.0, 0.0)
    assert account.debt_j == -0.25


def test_what_makes_no_sense_or_has_no_budget_is_no_debt_and_one_frame_adds_a_bounded_one() -> None:
    account = EnergyAccount()
    for budget_j, spent_j in [(math.inf, 5.0), (2.0, math.nan), (2.0, math.inf), (2.0, -1.0)]:
        account.settle(budget_j, spent_j)
        assert account.debt_j == 0
    for spent_j in (math.nan, math.inf, -1.0):
        account.spend(spent_j)
        assert account.debt_j == 0
    account.settle(2.0, 1e12)
    assert account.debt_j == 99 * 2.0


def test_one_frame_may_cost_a_few_budgets_or_its_part_of_the_savings() -> None:
    account = EnergyAccount()
    assert account.most_j(2.0, 5) == 6.0
    account.spend(1e6)
    assert account.most_j(2.0, 5) == 6.0  # debts act through the price
    assert account.most_j(0.0, 5) == 0
    assert account.most_j(math.inf, 5) == math.inf
    account = EnergyAccount()
    for _ in range(30):
        account.settle(2.0, 0.0)
    assert account.most_j(2.0, 5) == 2 + 60 / 5
    assert account.most_j(2.0, 0.1) == 2 + 60  # one frame at least
    assert account.most_j(2.0, 20) == 6.0
    assert account.most_j(0.0, 5) == 0


# The hull.


def test_the_hull_holds_what_is_best_at_some_price_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    prices = np.concatenate([[0.0], np.logspace(-4, 4, 4000)])
    for trial in range(60):
        plans = int(random.integers(1, 40))
        energy_j, loss = situation(random, plans)
        if trial % 3 == 0:  # ties and rows of three in a line
            energy_j, loss = energy_j.round(), loss.round(1)
        found = list(zip(*(column.tolist() for column in lower_hull(energy_j, loss)), strict=True))
        for column, order in zip(zip(*found, strict=True), (1, -1), strict=True):
            assert list(column) == sorted(set(column))[::order]
        points = np.array(sorted(zip(energy_j.tolist(), loss.tolist(), strict=True)))
        best = {tuple(points[row]) for row in np.argmin(points[:, 1] + prices[:, None] * points[:, 0], axis=1)}
        assert best <= set(found)
        for number in range(1, len(found) - 1):
            (e0, l0), (e1, l1), (e2, l2) = found[number - 1 : number + 2]
            price = (l0 - l2) / (e2 - e0)  # at which the neighbours are worth the same
            assert l1 + price * e1 < l0 + price * e0
        assert found[0][0] == energy_j.min()
        assert found[-1][1] == loss.min()


# The price.


@pytest.mark.parametrize("debt_j", [-8.0, 0.0, 5.0, 12.0])
def test_the_price_is_the_least_that_keeps_to_the_budget_less_the_debt(debt_j: float) -> None:
    random = np.random.default_rng(1)
    target_j, priced = BUDGET_J - debt_j / LEFT, 0
    grid = np.linspace(0, 1 / BUDGET_J, 301)
    for _ in range(12):
        situations = [situation(random, int(random.integers(3, 12))) for _ in range(20)]
        account = EnergyAccount()
        account.spend(debt_j) if debt_j > 0 else account.settle(-debt_j, 0.0)
        for each in situations:
            account.meet(*each)
        price = account.price_per_j(BUDGET_J, LEFT)
        keeping = [each for each in grid if mean_by_hand(situations, each) <= target_j]
        if not keeping:
            assert price == pytest.approx(1 / BUDGET_J)
            continue
        assert price == pytest.approx(keeping[0], abs=1.01 * grid[1])
        assert mean_by_hand(situations, price) <= target_j
        if price:
            assert mean_by_hand(situations, price - 1e-5 / BUDGET_J) > target_j
            priced += 1
    assert priced >= 6


def test_energy_that_suffices_has_no_price() -> None:
    account = EnergyAccount()
    assert account.price_per_j(1.0, 10) == 0  # nothing was met yet
    account.meet(np.array([0.1, 0.5]), np.array([0.2, 0.0]))
    assert account.price_per_j(0.51, 10) == 0
    assert account.price_per_j(0.49, 10) == pytest.approx(0.2 / 0.4, rel=1e-5)
    account.settle(1.0, 0.0)
    assert account.price_per_j(0.49, 10) == 0  # 0.1 J more from savings
    assert account.price_per_j(0.49, 200) > 0  # that must last for longer
    assert account.price_per_j(math.inf, 10) == account.price_per_j(0.0, 10) == 0
    account.spend(1e9)
    assert account.price_per_j(0.49, 10) == 1 / 0.49  # no price pays for that
    assert math.isfinite(account.price_per_j(5e-324, 0.0))


def test_the_memory_is_of_the_last_frames() -> None:
    account = EnergyAccount()
    for _ in range(300):
        account.meet(np.array([0.1, 9.0]), np.array([0.2, 0.0]))
    assert account.price_per_j(1.0, 10) > 0
    for _ in range(255):
        account.meet(np.array([0.1, 0.5]), np.array([0.2, 0.0]))
    assert account.price_per_j(0.52, 10) > 0  # one of the dear ones is left
    account.meet(np.array([0.1, 0.5]), np.array([0.2, 0.0]))
    assert account.price_per_j(0.52, 10) == 0


def test_of_a_situation_with_many_points_the_cheapest_and_the_best_are_kept() -> None:
    account = EnergyAccount()
    energy_j = np.linspace(1, 2, 101)
    account.meet(energy_j, (2 - energy_j) ** 2 / 4)
    assert account.price_per_j(1.99, 10) > 0  # without a price it would be 2 J
    price = account.price_per_j(1.5, 10)
    assert price == pytest.approx(0.5 / 2, abs=0.05)  # the slope there
    account.spend(1e9)
    assert account.price_per_j(1.0, 10) == 1.0
