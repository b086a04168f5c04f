"""`Observations`: what the frames that came back say of times, sizes and energy, beside what was expected of them."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

from laim_ros.plan import Plan
from laim_ros.planning.account import EnergyAccount
from laim_ros.planning.choices import Choices
from laim_ros.planning.costs import RunningRatio
from laim_ros.planning.design import Corrections
from laim_ros.planning.forecast import LinkForecast
from laim_ros.records import UNKNOWN_SEQUENCE, LinkReport

LONGEST_S = 3600.0
"""Any wait counts as no longer: figures that make no sense must not become plans that make none."""

MOST_BYTES = 2**32
"""A larger packet is no packet."""

_MEMORY_FRAMES = 9
_FIRST_PERIOD_S = 1.0
STALE_S = 30.0
"""A correction that nothing has confirmed for so long is let go: a robot that was throttled may have recovered."""

_MOST_LOST = 1000
_SEQUENCES = 1 << 32
_RATIOS = ("robot", "picture_robot", "edge", "packet_bytes", "picture_bytes", "energy")


class Observations:
    """Running corrections, waits and the time between frames; settles with the account what frames and probes cost.

    Not for two threads at once.

    Attributes:
        account: of the robot's energy.
        energy_source: what measured it last; empty where nothing has.
    """

    def __init__(self) -> None:
        self.account = EnergyAccount()
        self.energy_source = ""
        self._last: tuple[float, int] | None = None
        self._sent_frame_j = math.nan
        self._periods_s: deque[float] = deque(maxlen=_MEMORY_FRAMES)
        self._waits_s: deque[float] = deque(maxlen=_MEMORY_FRAMES)
        self._ratios = {name: RunningRatio(_MEMORY_FRAMES) for name in _RATIOS}
        self._confirmed_s = dict.fromkeys(_RATIOS, -math.inf)

    def forget_ratios(self) -> None:
        """Begins anew, as after other profiles have come."""
        for ratio in self._ratios.values():
            ratio.forget()

    def add(
        self,
        report: LinkReport,
        now_s: float,
        *,
        choices: Choices | None,
        link: LinkForecast,
        robot_clock_hz: float,
        budget_j: float,
    ) -> None:
        """Takes in a frame or a probe that came back, and what frames have cost that never will.

        Args:
            now_s: on a steady clock.
            choices: what is expected of the frame's plan; None where nobody knows.
            link: the newest forecast.
            robot_clock_hz: in force.
            budget_j: of a frame; infinite for none.
        """
        sending_j = _sending_j(report, choices, link)
        if report.probe and math.isfinite(budget_j):
            self.account.spend(sending_j)
        if report.probe or report.sequence == UNKNOWN_SEQUENCE:
            return
        lost = self._count_lost(report, now_s)
        wait_s = max(0.0, report.robot_wait_s) + max(0.0, report.edge_wait_s)
        self._waits_s.append(min(wait_s, LONGEST_S))
        computing_j = self._correct(report, choices, robot_clock_hz, now_s)
        self.account.settle(budget_j, computing_j + sending_j)
        if report.packet_bytes > 0 and math.isfinite(computing_j):
            self._sent_frame_j = computing_j
        for _ in range(lost):  # they have cost as much as the last one that came back, but for the radio
            self.account.settle(budget_j, self._sent_frame_j)

    @property
    def corrections(self) -> Corrections:
        """The running ratios."""
        return Corrections(**{name: ratio.value for name, ratio in self._ratios.items()})

    @property
    def frame_period_s(self) -> float:
        """From one frame to the next, as of late."""
        return median(self._periods_s) if self._periods_s else _FIRST_PERIOD_S

    @property
    def wait_s(self) -> float:
        """That a frame waits for the one before it, as of late."""
        return median(self._waits_s) if self._waits_s else 0.0

    def _count_lost(self, report: LinkReport, now_s: float) -> int:
        """How many frames between the last one that came back and this one never will: the newest wins everywhere."""
        lost = 0
        if self._last is not None:
            last_s, sequence = self._last
            ahead = (report.sequence - sequence) % _SEQUENCES
            if ahead > _SEQUENCES // 2:  # it was overtaken by one that is counted already
                return 0
            lost = min(max(0, ahead - 1), _MOST_LOST)
            if now_s > last_s:
                self._periods_s.append(min((now_s - last_s) / (1 + lost), LONGEST_S))
        self._last = now_s, report.sequence
        return lost

    def _confirm(self, name: str, observed: float, expected: float, now_s: float) -> None:
        self._ratios[name].update(observed, expected)
        self._confirmed_s[name] = now_s

    def _forget_stale(self, now_s: float) -> None:
        for name, at_s in self._confirmed_s.items():
            if now_s - at_s > STALE_S:
                self._ratios[name].forget()

    def _correct(self, report: LinkReport, choices: Choices | None, robot_clock_hz: float, now_s: float) -> float:
        """Compares a frame with what was expected of its plan; returns what computing it cost the robot, in joules."""
        if choices is None or not report.split_point:
            return math.nan
        try:
            plan = Plan(
                report.split_point,
                report.weight_bits or Plan().weight_bits,
                report.feature_bits or Plan().feature_bits,
                report.codec or Plan().codec,
                robot_clock_hz,
            )
        except ValueError:
            return math.nan
        row = choices.index(plan)
        if row is None:
            return math.nan
        robot_s = report.robot_s - report.robot_wait_s
        robot, size = ("picture_robot", "picture_bytes") if plan.sends_picture else ("robot", "packet_bytes")
        self._confirm(robot, robot_s, float(choices.robot_s[row]), now_s)
        self._confirm(size, _size_bytes(report), float(choices.packet_bytes[row]), now_s)
        self._confirm("edge", report.edge_s - report.edge_wait_s, float(choices.edge_s[row]), now_s)
        self._forget_stale(now_s)
        expected_j = float(choices.active_w[row]) * robot_s
        if 0 <= report.energy_j < math.inf:
            self.energy_source = report.energy_source
            self._confirm("energy", report.energy_j, expected_j, now_s)
            return report.energy_j
        return expected_j


def _size_bytes(report: LinkReport) -> int:
    return min(max(0, report.packet_bytes), MOST_BYTES)


def _sending_j(report: LinkReport, choices: Choices | None, link: LinkForecast) -> float:
    """What the radio needed: for no longer than the packet was under way, part of which it may have waited."""
    if choices is None or not math.isfinite(report.link_s):
        return 0.0
    return choices.radio_w * min(float(link.sending_s(_size_bytes(report))), max(0.0, report.link_s))
