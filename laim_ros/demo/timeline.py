"""What happened when: the planner's decisions, and the link as it was set."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from laim_ros.demo.frames import plan_in_force, plan_words
from laim_ros.records import PlanReport

_AT_ONCE_S = 1.0


@dataclass(frozen=True, slots=True)
class PlanChange:
    """The planner took another plan.

    Attributes:
        at_s: seconds after the first caption.
        words: the plan.
        report: what the planner said of it.
    """

    at_s: float
    words: str
    report: PlanReport


@dataclass(slots=True)
class Timeline:
    """Everything that is drawn over time. Times are seconds after the first caption.

    Attributes:
        reports: (time, what the planner said).
        links: (time, goodput that the link was set to, in bits per second).
        changes: of the plan; the first is the one in force at the beginning.
    """

    reports: list[tuple[float, PlanReport]] = field(default_factory=list)
    links: list[tuple[float, float]] = field(default_factory=list)
    changes: list[PlanChange] = field(default_factory=list)

    def add_report(self, at_s: float, report: PlanReport) -> PlanChange | None:
        """Takes in what the planner says; returns the change if it is one."""
        self.reports.append((at_s, report))
        words = report_words(report)
        if self.changes and not self.changes[-1].report.choices and at_s - self.changes[-1].at_s < _AT_ONCE_S:
            self.changes.pop()  # nobody had decided yet
        elif self.changes and self.changes[-1].words == words:
            return None
        change = PlanChange(at_s, words, report)
        self.changes.append(change)
        return change

    def history(self) -> dict[str, Any]:
        """The decisions and the link, for a report in JSON."""
        return {
            "link_set": [{"at_s": at_s, "goodput_bps": goodput_bps} for at_s, goodput_bps in self.links],
            "plan_history": [
                {"at_s": change.at_s, "plan": change.words, **asdict(change.report)} for change in self.changes
            ],
            "battery": [{"at_s": at_s, "charge": report.battery} for at_s, report in self.reports],
            "goodput": [{"at_s": at_s, "goodput_bps": report.goodput_bps} for at_s, report in self.reports],
        }


def report_words(report: PlanReport) -> str:
    """The plan of a report, such as `qformer, 8 bits, weights 4 bits`."""
    plan = plan_in_force(report.split_point, report.weight_bits, report.feature_bits, report.codec)
    clock = f", {report.robot_clock_hz / 1e9:g} GHz" if report.robot_clock_hz else ""
    return plan_words(*plan) + clock
