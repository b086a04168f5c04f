"""`laim plan --paper`: problem P1 of the paper, solved exactly, with what speaks against every other bit-width."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from laim_ros.cli.errors import UsageError
from laim_ros.cli.plan_output import PIPE_COLUMNS
from laim_ros.planning import PlanningError
from laim_ros.planning.paper_design import BLIP2, GIT, Design, Infeasible, Problem, design_at, paper_problem, solve

_MODELS = {"blip2": BLIP2, "git": GIT}
_ROWS_ABOVE = 4


def run_paper(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit status: 1 where not even one bit is feasible."""
    share = 0.5 if options.robot_share is None else options.robot_share
    try:
        problem = paper_problem(_MODELS[options.paper], share, options.delay, options.energy)
    except PlanningError as error:
        raise UsageError(f"{error}") from None
    chosen = solve(problem)
    designs = {bits: design_at(problem, bits) for bits in range(problem.most_bits, 0, -1)}
    if options.json:
        _print_json(options.paper, share, problem, chosen, designs)
    else:
        _print(options, share, problem, chosen, designs)
    return 0 if isinstance(chosen, Design) else 1


def _print(
    options: argparse.Namespace,
    share: float,
    problem: Problem,
    chosen: Design | Infeasible,
    designs: dict[int, Design | Infeasible],
) -> None:
    console = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(_sentence(chosen))
    say("")
    rows = list(designs)
    if not options.all:
        rows = rows[max(0, rows.index(chosen.weight_bits) - _ROWS_ABOVE) :][: options.most]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1), header_style="bold")
    for heading in ("weights", "robot", "edge", "delay", "energy", "λ(D^U-D^L)"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why not")
    for bits in rows:
        design = designs[bits]
        figures = _figures(design) if isinstance(design, Design) else ["–"] * 5
        style = "dim" if isinstance(design, Infeasible) else ("bold" if design == chosen else "")
        table.add_row(f"{bits} bits", *figures, _why_not(design, chosen), style=style)
    console.print(table)
    say("")
    say(
        f"{options.paper} as in the paper, {share:.0%} of its operations on the robot (--robot-share), "
        f"T0 {problem.delay_limit_s:g} s, E0 {problem.energy_limit_j:g} J for both machines; "
        f"clocks up to {problem.robot.max_clock_hz / 1e9:g} and {problem.edge.max_clock_hz / 1e9:g} GHz"
    )


def _print_json(
    model: str,
    share: float,
    problem: Problem,
    chosen: Design | Infeasible,
    designs: dict[int, Design | Infeasible],
) -> None:
    content = {
        "reason": _sentence(chosen),
        "feasible": isinstance(chosen, Design),
        "model": model,
        "robot_share": share,
        "delay_limit_s": problem.delay_limit_s,
        "energy_limit_j": problem.energy_limit_j if math.isfinite(problem.energy_limit_j) else None,
        "rows": [_row(bits, design, chosen) for bits, design in designs.items()],
    }
    print(json.dumps(content, indent=1, ensure_ascii=False))


def _row(bits: int, design: Design | Infeasible, chosen: Design | Infeasible) -> dict[str, Any]:
    row: dict[str, Any] = {"weight_bits": bits, "feasible": isinstance(design, Design)}
    if isinstance(design, Design):
        row.update(
            asdict(design), distortion_gap=design.distortion_gap if math.isfinite(design.distortion_gap) else None
        )
    else:
        row["broken"] = [limit.value for limit in design.limits]
    return {**row, "why": _why_not(design, chosen)}


def _sentence(chosen: Design | Infeasible) -> str:
    if isinstance(chosen, Infeasible):
        return f"nothing is feasible: {chosen.sentence}"
    return (
        f"{chosen.weight_bits} bits per weight, the robot at {chosen.robot_clock_hz / 1e9:.3g} GHz, the edge at "
        f"{chosen.edge_clock_hz / 1e9:.3g} GHz: {chosen.delay_s:.3g} s, {chosen.energy_j:.3g} J"
    )


def _figures(design: Design) -> list[str]:
    gap = f"{design.distortion_gap:.3g}" if math.isfinite(design.distortion_gap) else "∞"
    return [
        f"{design.robot_clock_hz / 1e9:.3g} GHz",
        f"{design.edge_clock_hz / 1e9:.3g} GHz",
        f"{design.delay_s:.3g} s",
        f"{design.energy_j:.3g} J",
        gap,
    ]


def _why_not(design: Design | Infeasible, chosen: Design | Infeasible) -> str:
    if isinstance(design, Infeasible):
        return design.sentence.split(" per weight ", 1)[-1]
    return "chosen" if design == chosen else "more distortion"
