"""The account of energy: what debts and savings do to its price."""

from __future__ import annotations

import math

import pytest

from laim_ros.planning.policy import EnergyAccount


def test_debts_raise_the_price_of_energy_and_savings_lower_it() -> None:
    account = EnergyAccount()
    first = account.price_per_j(2.0, 10)
    account.settle(2.0, 5.0)
    assert account.price_per_j(2.0, 10) - first == pytest.approx(3 / (10 * 2**2))
    account.settle(2.0, 1.0)
    assert account.price_per_j(2.0, 10) - first == pytest.approx(2 / (10 * 2**2))
    assert account.price_per_j(2.0, 0.5) == account.price_per_j(2.0, 1)  # a memory of one frame is the shortest
    account.settle(2.0, 0.0)
    assert account.price_per_j(2.0, 10) == pytest.approx(first)  # settled
    for _ in range(20):
        account.settle(2.0, 0.0)
    assert account.price_per_j(2.0, 10) == 0
    account.settle(2.0, 42.0)  # as much as was saved
    assert account.price_per_j(2.0, 10) == pytest.approx(first)


def test_one_frame_adds_a_bounded_debt_and_no_budget_none() -> None:
    account = EnergyAccount()
    for budget_j, spent_j in [(math.inf, 5.0), (2.0, math.nan), (2.0, math.inf), (2.0, -1.0)]:
        account.settle(budget_j, spent_j)
        assert account.debt_j == 0
    account.settle(2.0, 1e12)
    assert 0 < account.debt_j <= 1000
    assert account.price_per_j(math.inf, 10) == account.price_per_j(0.0, 10) == 0
    assert math.isfinite(account.price_per_j(5e-324, 10))
