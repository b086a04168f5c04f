"""The answer of `laim plan`: a sentence and a table for people, everything as JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from laim_ros.plan import in_words
from laim_ros.planning import Choices, Costs, Limits, LinkForecast, MachineProfile, Selection, select
from laim_ros.planning.quality import uses_feature_bits
from laim_ros.planning.reasons import joules_in_words, link_in_words, reason, rejection, seconds_in_words

PIPE_COLUMNS = 120
"""Width where there is no terminal to ask."""

_MOST_NOTES = 160


@dataclass(frozen=True, slots=True)
class Answer:
    """What was asked, and what came out.

    Attributes:
        robot, edge: profiles; edge is None for a robot alone.
        about_quality: where the quality loss comes from, in words.
        link, limits, choices, costs, selection: as in `laim_ros.planning`.
        remarks: what had to be assumed.
    """

    robot: MachineProfile
    edge: MachineProfile | None
    about_quality: str
    link: LinkForecast
    limits: Limits
    choices: Choices
    costs: Costs
    selection: Selection
    remarks: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The plan, and what keeps a better one from being chosen."""
        best = select(self.choices, self.costs, Limits(quality_tolerance=self.limits.quality_tolerance)).index
        words = link_in_words(self.link, 0.0, math.inf)
        sentence = reason(words, self.selection.index, best, self.choices, self.costs, self.limits)
        return sentence if self.selection.feasible else f"no plan keeps all limits; {sentence}"

    def why_not(self, row: int) -> str:
        """What speaks against a plan; `chosen` for the one that was."""
        return rejection(row, self.selection.index, self.selection, self.choices, self.costs, self.limits)

    def ordered(self) -> list[int]:
        """The rows: the chosen one, the others that keep the limits, those that break one; the least loss first."""
        rest = np.lexsort((self.costs.delay_s, self.costs.energy_j, self.choices.quality_loss, ~self.keeps))
        return [self.selection.index, *(int(row) for row in rest if row != self.selection.index)]

    def shown(self, most: int) -> list[int]:
        """At most so many rows of `ordered`: the best of every kind of split point, then the second best, and so on.

        Half of them break a limit where there are so many, to show what keeps a better plan from being chosen.
        """
        order = self.ordered()
        rounds: Counter[tuple[bool, str]] = Counter()
        turn = {}
        for row in order:
            group = bool(self.keeps[row]), self.choices.plans[row].split_point.partition(".")[0]
            turn[row] = rounds[group]
            rounds[group] += 1
        by_turn = sorted(order[1:], key=turn.__getitem__)
        keeping = [row for row in by_turn if self.keeps[row]]
        breaking = [row for row in by_turn if not self.keeps[row]]
        few = min(len(breaking), max(most // 2, most - 1 - len(keeping)))
        kept = {order[0], *keeping[: most - 1 - few], *breaking[:few]}
        return [row for row in order if row in kept]

    @property
    def keeps(self) -> np.ndarray:
        """bool (N,): which plans keep all limits."""
        return self.selection.timely & self.selection.affordable


def print_answer(answer: Answer, most: int) -> None:
    """The plan, why, and a table of at most so many plans."""
    console = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    choices, rows = answer.choices, answer.shown(most)
    say(in_words(choices.plans[answer.selection.index]))
    say(answer.sentence)
    say("")
    console.print(_table(answer, rows))
    say("")
    feasible = int(answer.keeps.sum())
    left_out = "" if len(rows) == len(choices) else f", {len(rows)} shown (--all shows all)"
    say(f"{len(choices)} plans, {feasible} keep the limits{left_out}")
    say(f"deadline {_limit(answer.limits.deadline_s, seconds_in_words)}, energy per frame " + _budget(answer))
    for sentence in _sources(answer):
        say(sentence)


def print_json(answer: Answer) -> None:
    """Everything; a row per plan in the order of `Answer.ordered`; what is infinite or unknown is null."""
    selection, limits = answer.selection, answer.limits
    content = {
        "reason": answer.sentence,
        "feasible": selection.feasible,
        "remarks": list(_sources(answer)),
        "limits": asdict(limits),
        "link": {**asdict(answer.link), "goodput_bps": answer.link.goodput_bps},
        "quality_source": answer.choices.quality_source,
        "power_source": answer.choices.power_source,
        "robot": answer.robot.machine,
        "robot_notes": answer.robot.notes,
        "edge": answer.edge.machine if answer.edge else None,
        "edge_notes": answer.edge.notes if answer.edge else None,
        "model": answer.robot.model,
        "rows": [_row(answer, row) for row in answer.ordered()],
    }
    print(json.dumps(_finite(content), indent=1, ensure_ascii=False))


def _row(answer: Answer, row: int) -> dict[str, Any]:
    choices, costs, selection = answer.choices, answer.costs, answer.selection
    return {
        **asdict(choices.plans[row]),
        "chosen": row == selection.index,
        "timely": bool(selection.timely[row]),
        "affordable": bool(selection.affordable[row]),
        "delay_s": float(costs.delay_s[row]),
        "robot_s": float(choices.robot_s[row]),
        "link_s": float(costs.link_s[row]),
        "edge_s": float(choices.edge_s[row]),
        "energy_j": float(costs.energy_j[row]),
        "packet_bytes": float(choices.packet_bytes[row]),
        "quality_loss": float(choices.quality_loss[row]),
        "estimated": bool(choices.estimated[row]),
        "why": answer.why_not(row),
    }


def _table(answer: Answer, rows: list[int]) -> Table:
    choices, costs = answer.choices, answer.costs
    with_clock = any(plan.robot_clock_hz for plan in choices.plans)
    with_energy = bool(np.any(costs.energy_j > 0))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("split", no_wrap=True)
    for heading in ("sends", "weights", *(["GHz"] if with_clock else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("delay", "link", "energy", "bytes", "loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why not")
    for row in rows:
        plan = choices.plans[row]
        sends = "–" if plan.split_point == "output" else plan.codec
        if uses_feature_bits(plan):
            sends = f"{plan.codec} {plan.feature_bits} bits"
        table.add_row(
            plan.split_point,
            sends,
            "–" if plan.sends_picture else f"{plan.weight_bits} bits" + ("*" if choices.estimated[row] else ""),
            *([f"{plan.robot_clock_hz / 1e9:.3g}" if plan.robot_clock_hz else "–"] if with_clock else []),
            seconds_in_words(costs.delay_s[row]),
            seconds_in_words(costs.link_s[row]),
            joules_in_words(costs.energy_j[row]) if with_energy else "–",
            f"{choices.packet_bytes[row]:,.0f}",
            f"{100 * choices.quality_loss[row]:.1f} %",
            answer.why_not(row),
            style="bold" if row == answer.selection.index else ("" if answer.keeps[row] else "dim"),
        )
    return table


def _sources(answer: Answer) -> Iterator[str]:
    choices = answer.choices
    yield f"loss: {choices.quality_source}; {answer.about_quality}"
    yield f"robot: {answer.robot.machine}, power {choices.power_source}" + _note(answer.robot)
    if answer.edge is not None:
        yield f"edge: {answer.edge.machine}" + _note(answer.edge)
    if choices.estimated.any():
        yield "* times of another width count: this one was never timed"
    yield from answer.remarks


def _note(profile: MachineProfile) -> str:
    notes = profile.notes if len(profile.notes) <= _MOST_NOTES else f"{profile.notes[:_MOST_NOTES]}…"
    return f" ({notes})" if notes else ""


def _budget(answer: Answer) -> str:
    if math.isfinite(answer.limits.energy_j) and not np.any(answer.costs.energy_j > 0):
        return f"{joules_in_words(answer.limits.energy_j)}, which limits nothing: the robot's profile has no watts"
    return _limit(answer.limits.energy_j, joules_in_words)


def _limit(value: float, words: Callable[[float], str]) -> str:
    return words(value) if math.isfinite(value) else "not limited"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
