"""`EnergyAccount`: spends a mean budget of energy where it buys the most quality."""

from __future__ import annotations

import math

import numpy as np

_MEMORY_FRAMES = 256
_MOST_BUDGETS = 100.0
_CREDIT_BUDGETS = 3.0
_HIGHEST = 1.0
"""Captions that one budget of energy is worth at most: where nothing can be saved, a higher price only costs them."""
_MOST_PRICE = 1e9
_BISECTIONS = 20
_MOST_POINTS = 16


class EnergyAccount:
    """Keeps the mean energy per frame at its budget, although single frames cost more or less.

    The budget is no limit on each frame: one may cost many times as much if others pay for it. Instead energy has a
    price, and a plan counts as its quality loss plus price times energy, as in the Lagrangian of the problem "least
    mean loss at this mean energy". The price is the least at which the situations of the last frames would have kept to
    what there is to spend: the budget, less what was overspent, or more what was saved, over the frames that are left.

    Not for two threads at once.
    """

    def __init__(self) -> None:
        self.debt_j = 0.0
        # Rows are situations, the oldest is overwritten; columns are points of a hull, some of them repeated.
        self._energy_j = np.zeros((_MEMORY_FRAMES, _MOST_POINTS))
        self._loss = np.zeros((_MEMORY_FRAMES, _MOST_POINTS))
        self._met = 0

    def settle(self, budget_j: float, spent_j: float) -> None:
        """Takes in one frame; there is no debt against an unlimited budget."""
        if math.isfinite(budget_j) and 0 <= spent_j < math.inf:
            # One reading that is far off must not stop the robot for the rest of its mission.
            self.debt_j += min(spent_j, _MOST_BUDGETS * budget_j) - budget_j

    def spend(self, spent_j: float) -> None:
        """Takes in what was spent besides frames, such as on probes of the link."""
        if 0 <= spent_j < math.inf:
            self.debt_j += spent_j

    def meet(self, energy_j: np.ndarray, loss: np.ndarray) -> None:
        """Takes in the situation of one frame.

        Args:
            energy_j, loss: what every plan would cost and lose; float64 (N,), N of at least 1; finite.
        """
        row = self._met % _MEMORY_FRAMES
        energy_j, loss = lower_hull(energy_j, loss)
        # Of a hull with more points than there is room for, both ends stay: the cheapest plan and the best.
        points = np.linspace(0, len(energy_j) - 1, _MOST_POINTS).round().astype(int)
        self._energy_j[row], self._loss[row] = energy_j[points], loss[points]
        self._met += 1

    def most_j(self, budget_j: float, frames: float) -> float:
        """What one frame may cost: a few budgets, or savings that last for so many frames; no larger credit."""
        saved_j = max(0.0, -self.debt_j) / max(frames, 1.0)
        return max(_CREDIT_BUDGETS * budget_j, budget_j + saved_j) if budget_j > 0 else 0.0

    def price_per_j(self, budget_j: float, frames_left: float) -> float:
        """Quality loss that a joule must save.

        Args:
            budget_j: mean energy of a frame; infinite for no limit.
            frames_left: over which a debt is made up for, or savings are spent; fewer than 1 count as 1.

        Returns:
            the least price that keeps to it, to a millionth of the highest; the highest, 1 / budget_j, if none does.
        """
        if not 0 < budget_j < math.inf or not self._met:
            return 0.0
        target_j = budget_j - self.debt_j / max(frames_left, 1.0)
        rows = min(self._met, _MEMORY_FRAMES)
        energy_j, loss = self._energy_j[:rows], self._loss[:rows]
        if _mean_energy_j(energy_j, loss, 0.0) <= target_j:
            return 0.0
        low, high = 0.0, min(_HIGHEST / budget_j, _MOST_PRICE)
        if _mean_energy_j(energy_j, loss, high) > target_j:
            return high
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if _mean_energy_j(energy_j, loss, middle) > target_j:
                low = middle
            else:
                high = middle
        return high


def lower_hull(energy_j: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plans that are best at some price: the lower left convex hull of (energy, loss), by rising energy.

    Args:
        energy_j, loss: float64 (N,), N of at least 1; finite.
    """
    order = np.lexsort((loss, energy_j))
    hull: list[tuple[float, float]] = []
    best = math.inf
    for energy, lost in zip(energy_j[order].tolist(), loss[order].tolist(), strict=True):
        if lost >= best:
            continue
        best = lost
        while len(hull) > 1 and _above(hull[-2], hull[-1], (energy, lost)):
            hull.pop()
        hull.append((energy, lost))
    energies, losses = zip(*hull, strict=True)
    return np.array(energies), np.array(losses)


def _above(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether the middle point lies on or above the line through the others."""
    slope = (last[1] - first[1]) * (middle[0] - first[0])
    return (middle[1] - first[1]) * (last[0] - first[0]) >= slope


def _mean_energy_j(energy_j: np.ndarray, loss: np.ndarray, price_per_j: float) -> float:
    """What a frame would have cost on average at this price."""
    chosen = np.argmin(loss + price_per_j * energy_j, axis=1)
    return float(np.take_along_axis(energy_j, chosen[:, None], axis=1).mean())
