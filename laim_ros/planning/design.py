"""The joint design over what a robot can really do: split point, weight bits, feature bits or picture codec, and clock.

Beyond problem P1 of the paper (`paper_design.py`): communication delay and energy, measured times and measured quality.
The choices are a finite table, so the optimum is found by looking at all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from laim_ros.planning.choices import Choices
from laim_ros.planning.forecast import LinkForecast

_ALIKE = 0.1
"""Share within which delays, or energies, count as equal where no plan keeps the limits."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """Running ratios of what was observed to what the tables say.

    Pictures have their own: at `input` the robot's time is all overhead, and a camera's pictures may be far from those
    that the table was measured with. Neither says anything of the head and its features.
    """

    robot: float = 1.0
    picture_robot: float = 1.0
    edge: float = 1.0
    packet_bytes: float = 1.0
    picture_bytes: float = 1.0
    energy: float = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan must keep.

    Attributes:
        deadline_s: from the image to its result; infinite for none.
        energy_j: the robot's for any one frame; infinite for none.
        late_energy_j: the same for a frame that will be late anyway: savings are not spent on it.
        quality_tolerance: losses that differ by less count as equal: what a table of so many frames cannot tell apart.
        price_per_j: quality loss that a joule must save, where the mean energy of many frames is limited.
    """

    deadline_s: float = math.inf
    energy_j: float = math.inf
    late_energy_j: float = math.inf
    quality_tolerance: float = 0.0
    price_per_j: float = 0.0


@dataclass(frozen=True, slots=True)
class Costs:
    """What every choice is expected to take now; float64 (N,).

    Attributes:
        delay_s: from the image to its result.
        link_s: the link's part of it.
        energy_j: the robot's, computing and sending.
    """

    delay_s: np.ndarray
    link_s: np.ndarray
    energy_j: np.ndarray


@dataclass(frozen=True, slots=True)
class Selection:
    """The best choice under limits.

    Attributes:
        index: its row.
        feasible: whether it keeps them; else it is the least bad one.
        timely, affordable: bool (N,), which choices keep the deadline and the energy limit.
    """

    index: int
    feasible: bool
    timely: np.ndarray
    affordable: np.ndarray


def expected_costs(choices: Choices, link: LinkForecast, corrections: Corrections, wait_s: float = 0.0) -> Costs:
    """Delay and energy of every choice.

    delay = waiting + robot + link + edge; energy = P_active · robot + P_radio · sending. The edge's energy is not the
    robot's battery's, and is left out.

    Args:
        wait_s: that a frame waits for the one before it.
    """
    size = choices.packet_bytes * np.where(choices.pictures, corrections.picture_bytes, corrections.packet_bytes)
    robot_s = choices.robot_s * np.where(choices.pictures, corrections.picture_robot, corrections.robot)
    link_s = link.link_s(size)
    delay_s = wait_s + robot_s + link_s + choices.edge_s * corrections.edge
    # Correcting the time corrects the energy; the ratio is what the meter says beyond that.
    energy_j = choices.active_w * robot_s * corrections.energy + choices.radio_w * link.sending_s(size)
    return Costs(delay_s, link_s, energy_j)


def select(choices: Choices, costs: Costs, limits: Limits) -> Selection:
    """The best choice: feasible, then least quality loss (with the price of energy), least energy, least delay.

    Where nothing is feasible: the least late of those that can be afforded. If none can, the cheapest, because a
    battery that is overdrawn ends the mission and a late result does not. What is alike (within a tenth) in the one is
    chosen by the other, and what is alike in both by the quality: while the link is silent all are late, and being late
    faster helps nobody, nor do a few bytes less.

    Args:
        choices: at least one.
        costs: from `expected_costs`.
        limits: what to keep.
    """
    timely = costs.delay_s <= limits.deadline_s
    affordable = costs.energy_j <= limits.energy_j
    feasible = timely & affordable
    if feasible.any():
        loss = priced_loss(choices, costs, limits)
        # Where energy has a price, a frame that comes too late may be the better deal than one that costs too much.
        pool = affordable if limits.price_per_j else feasible
        near = pool & (loss <= loss[pool].min() + limits.quality_tolerance)
        index = _least(near, costs.energy_j, costs.delay_s, loss)
        return Selection(index, bool(feasible[index]), timely, affordable)
    affordable_late = costs.energy_j <= min(limits.energy_j, limits.late_energy_j)
    if affordable_late.any():
        pool = _alike(_alike(affordable_late, costs.delay_s), costs.energy_j)
    else:
        pool = _alike(np.ones(len(choices), bool), costs.energy_j)
        pool = pool & timely if (pool & timely).any() else _alike(pool, costs.delay_s)
    index = _least(pool, choices.quality_loss, costs.energy_j, costs.delay_s)
    return Selection(index, False, timely, affordable)


def priced_loss(choices: Choices, costs: Costs, limits: Limits) -> np.ndarray:
    """What plans are ranked by: quality loss, all of it where they are late, plus price times energy; float64 (N,)."""
    loss = np.where(costs.delay_s <= limits.deadline_s, choices.quality_loss, 1.0)
    return loss + limits.price_per_j * costs.energy_j if limits.price_per_j else loss


def _alike(mask: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Of the rows in `mask`, those within a tenth of the least, bool (N,)."""
    return mask & (key <= (1 + _ALIKE) * key[mask].min())


def _least(mask: np.ndarray, *keys: np.ndarray) -> int:
    """Of the rows in `mask`, the first that is least by the first key, then by the next ones."""
    rows = np.flatnonzero(mask)
    for key in keys:
        values = key[rows]
        rows = rows[values <= values.min()]
    return int(rows[0])
