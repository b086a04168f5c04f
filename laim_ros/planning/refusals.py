"""Plans that the robot did not take, left out for a while."""

from __future__ import annotations

from laim_ros.plan import Plan
from laim_ros.planning.choices import Choices

REFUSED_FOR_S = 30.0
"""How long plans are left out: what they ask for may become possible, but not from one moment to the next."""


class Refusals:
    """Remembers what the robot refused.

    Robots refuse for what a plan makes them load or set, hardly ever for how it codes. So with a plan all others go
    that run as much of the model at the same bits per weight and clock: to try them one by one would cost as many
    refusals.
    """

    def __init__(self) -> None:
        self._refused_s: dict[tuple, float] = {}

    def add(self, plan: Plan, now_s: float) -> None:
        """Takes in a plan that was refused now."""
        self._refused_s[_asks(plan)] = now_s

    def offered(self, choices: Choices, in_force: Plan, now_s: float) -> Choices | None:
        """The choices that are left; None if none is. The plan in force stays: it is carried out."""
        # A clock that was set back must not lengthen a refusal.
        self._refused_s = {asked: min(at_s, now_s) for asked, at_s in self._refused_s.items()}
        refused = {asked for asked, at_s in self._refused_s.items() if now_s - at_s < REFUSED_FOR_S}
        if not refused:
            self._refused_s.clear()
            return choices
        stays = choices.index(in_force)
        kept = [row for row, plan in enumerate(choices.plans) if row == stays or _asks(plan) not in refused]
        return choices.only(kept) if kept else None


def _asks(plan: Plan) -> tuple:
    return plan.split_point, 0 if plan.sends_picture else plan.weight_bits, plan.robot_clock_hz
