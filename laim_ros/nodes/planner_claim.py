"""One planner per robot: who may set its plan; no ROS in here."""

from __future__ import annotations

import random
from collections.abc import Callable

SETTLE_S = 1.0
"""How long publishers may take to find each other."""

_YIELD_AFTER_S = 5.0
_MOST_EXTRA_S = 3.0


class Claim:
    """Decides whether this planner is the one that sets plans. Its publisher of `laim/plan` is what others see of it.

    It looks first: while another planner publishes, this one has no publisher and sets nothing. When it has seen
    nobody for a while it makes its publisher, and waits again: two that begin at the same moment then see each other,
    both withdraw, and try again after times drawn by lot. Whoever sets plans pauses while it is not alone, so that
    two never do; where that lasts, as after two networks were joined, it withdraws like the others.

    Args:
        now_s: on a steady clock.
        lot: a number from 0 to 1.
    """

    def __init__(self, now_s: float, lot: Callable[[], float] = random.random) -> None:
        self._lot = lot
        self._since_s = now_s
        self._extra_s = 0.0
        self._disturbed_s: float | None = None
        self.publishes = False
        """Whether this planner's publisher is to exist."""
        self.settled = False
        """Whether it has waited long enough since it made it."""
        self.alone = True
        """Whether no other planner publishes."""

    @property
    def may_set(self) -> bool:
        """Whether plans may be set now."""
        return self.settled and self.alone

    def update(self, others: int, now_s: float) -> None:
        """Takes in how many others publish."""
        self.alone = others == 0
        if self.settled:
            self._hold(now_s)
        elif self.publishes:
            if not self.alone:
                self._withdraw(now_s)
            elif now_s - self._since_s >= SETTLE_S:
                self.settled = True
        elif not self.alone:
            self._since_s = now_s
        elif now_s - self._since_s >= SETTLE_S + self._extra_s:
            self.publishes, self._since_s = True, now_s

    def _hold(self, now_s: float) -> None:
        if self.alone:
            self._disturbed_s = None
        elif self._disturbed_s is None:
            self._disturbed_s, self._extra_s = now_s, self._lot() * _MOST_EXTRA_S
        elif now_s - self._disturbed_s > _YIELD_AFTER_S + self._extra_s:
            self._withdraw(now_s)

    def _withdraw(self, now_s: float) -> None:
        self.publishes = self.settled = False
        self._since_s, self._extra_s, self._disturbed_s = now_s, self._lot() * _MOST_EXTRA_S, None
