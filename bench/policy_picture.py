"""The picture of `bench/policy.py`: one hour under the planner, and truth against energy for every plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.policy_world import HOUR_S, Outcome, Trace

if TYPE_CHECKING:
    from bench.policy import Setting

_COLOURS = {"input": "tab:blue", "vision": "tab:purple", "qformer": "tab:orange", "output": "tab:green"}
_NAMES = {"input": "pictures", "vision": "vision", "qformer": "qformer", "output": "all on the robot"}


def draw(path: Path, setting: Setting, trace: Trace, outcome: Outcome, rows: Sequence[dict]) -> None:
    """Writes the picture.

    Args:
        path: PNG.
        setting: whose plans they are.
        trace, outcome: one hour and what became of it under the planner.
        rows: of all hours: `true_in_deadline` and `energy_j` by `plan`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(15, 9), layout="constrained")
    left, right = figure.add_gridspec(1, 2, width_ratios=(2.2, 1))
    upper, middle, lower = left.subgridspec(3, 1, height_ratios=(1, 1, 1.3)).subplots(sharex=True)
    minutes = np.arange(HOUR_S) / 60
    upper.semilogy(minutes, np.maximum(trace.goodput_bps, 1e3) / 1e6, color="0.3", linewidth=0.8)
    upper.fill_between(
        minutes, 1e-3, 100, where=trace.goodput_bps == 0, color="tab:red", alpha=0.25, linewidth=0, label="outage"
    )
    upper.set(ylabel="goodput, Mbit/s", ylim=(0.01, 60), title=f"{setting.name}, hour {trace.seed}, under the planner")
    upper.legend(loc="upper right")
    middle.plot(minutes, 100 * trace.charge, color="tab:green")
    middle.set(ylabel="battery, %", ylim=(0, 100))
    _delays(lower, setting, outcome)
    _truth_against_energy(figure.add_subplot(right), setting, rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _delays(axes, setting: Setting, outcome: Outcome) -> None:
    deadline_s, period_s = setting.mission.deadline_s, setting.mission.period_s
    top_s = 2.2 * deadline_s
    for point, colour in _COLOURS.items():
        shown = [
            (number * period_s / 60, min(delay_s, top_s))
            for number, row, delay_s in outcome.log
            if setting.choices.plans[row].split_point == point
        ]
        if shown:
            axes.scatter(*zip(*shown, strict=True), s=5, color=colour, label=_NAMES[point], linewidths=0)
    axes.axhline(deadline_s, color="tab:red", linewidth=1, label="deadline")
    axes.set(xlabel="minutes", ylabel="image to result, s (late: top)", ylim=(0, 1.05 * top_s), xlim=(0, 60))
    axes.legend(loc="upper right", ncols=3, fontsize=8)


def _truth_against_energy(axes, setting: Setting, rows: Sequence[dict]) -> None:
    """A dot per plan, the mean over the hours."""
    mine = [row for row in rows if row["profile"] == setting.name]
    for name in dict.fromkeys(row["plan"] for row in mine):
        chosen = [row for row in mine if row["plan"] == name]
        energy_j = np.mean([row["energy_j"] for row in chosen])
        true = 100 * np.mean([row["true_in_deadline"] for row in chosen])
        if name.startswith("auto"):
            axes.scatter(energy_j / 1e3, true, marker="*", s=220, color="tab:red", zorder=3)
            low = name != "auto"  # the two may lie upon each other
            words, offset = (name, -18) if low else ("planner (auto)", 10)
            axes.annotate(words, (energy_j / 1e3, true), xytext=(0, offset), textcoords="offset points", ha="center")
        else:
            point = next((key for key in ("qformer", "vision") if name.startswith(key)), None)
            point = point or ("input" if name.startswith("pictures") else "output")
            axes.scatter(energy_j / 1e3, true, s=14, color=_COLOURS[point], alpha=0.6, linewidths=0)
    floor = math.floor(min(100 * row["true_in_deadline"] for row in mine) / 10) * 10
    axes.set(xlabel="robot's energy for inference in the hour, kJ", ylabel="true and in time, %", ylim=(floor, 100))
    axes.set_xscale("log")
    axes.set_title(f"every plan held fixed, and the planner\n(mean of {len({row['seed'] for row in mine})} hours)")
    axes.grid(alpha=0.3)
