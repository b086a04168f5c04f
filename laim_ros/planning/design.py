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
"""Plans that break the deadline count as equally late within this share."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """Running ratios of what was observed to what the tables say."""

    robot: float = 1.0
    edge: float = 1.0
    packet_bytes: float = 1.0
    energy: float = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan must keep.

    Attributes:
        deadline_s: from the image to its result; infinite for none.
        energy_j: the robot's per frame; infinite for none.
        quality_tolerance: losses that differ by less count as equal: what a table of so many frames cannot tell apart.
    """

    deadline_s: float = math.inf
    energy_j: float = math.inf
    quality_tolerance: float = 0.0


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
    size = choices.packet_bytes * corrections.packet_bytes
    robot_s = choices.robot_s * corrections.robot
    link_s = link.link_s(size)
    delay_s = wait_s + robot_s + link_s + choices.edge_s * corrections.edge
    # Correcting the time corrects the energy; the ratio is what the meter says beyond that.
    energy_j = choices.active_w * robot_s * corrections.energy + choices.radio_w * link.sending_s(size)
    return Costs(delay_s, link_s, energy_j)


def select(choices: Choices, costs: Costs, limits: Limits) -> Selection:
    """The best choice: feasible, then least quality loss, then least energy, then least delay.

    Where nothing is feasible: the least late of those that can be afforded; if none can, the cheapest of those that
    come in time; if none does, the least late. Of plans that are late by nearly the same, as all are while the link is
    silent, the cheapest: being late faster helps nobody.

    Args:
        choices: at least one.
        costs: from `expected_costs`.
        limits: what to keep.
    """
    timely = costs.delay_s <= limits.deadline_s
    affordable = costs.energy_j <= limits.energy_j
    feasible = timely & affordable
    if feasible.any():
        loss = choices.quality_loss
        near = feasible & (loss <= loss[feasible].min() + limits.quality_tolerance)
        return Selection(_least(near, costs.energy_j, costs.delay_s, loss), True, timely, affordable)
    if affordable.any() or not timely.any():
        pool = affordable if affordable.any() else np.ones(len(choices), bool)
        pool = pool & (costs.delay_s <= (1 + _ALIKE) * costs.delay_s[pool].min())
        index = _least(pool, costs.energy_j, costs.delay_s, choices.quality_loss)
    else:
        index = _least(timely, costs.energy_j, costs.delay_s, choices.quality_loss)
    return Selection(index, False, timely, affordable)


def _least(mask: np.ndarray, *keys: np.ndarray) -> int:
    """Of the rows in `mask`, the first that is least by the first key, then by the next ones."""
    rows = np.flatnonzero(mask)
    for key in keys:
        values = key[rows]
        rows = rows[values <= values.min()]
    return int(rows[0])
