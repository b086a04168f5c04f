"""Profiles of this machine from measured times of every stage; for `real_size_profile`."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from bench.circumstances import cpu_name
from bench.head_model import HeadFiles
from bench.head_ours import pack
from bench.head_worker import call
from bench.real_size_profile_form import (
    BLOCKS,
    EDGE_BITS,
    MODEL,
    MODEL_ID,
    NEW_TOKENS,
    RADIO_W,
    SHAPES,
    SPLIT_POINTS,
    WEIGHT_BITS,
    rounded,
)
from bench.real_size_profile_runs import MOST_BY_OTHERS, THREADS, HeadRuns, Seconds, TailRuns, head_runs, tail_runs
from laim_ros.planning.profiles import MachineProfile, PowerMode, StageTimes

RUNS = dict.fromkeys(WEIGHT_BITS, 15) | {32: 5}
"""Of the whole head that count, by bits per weight."""

TAIL_RUNS = 5
CODE_RUNS = 7

ACTIVE_W = 15.0
"""Assumed for two busy cores of a server's processor: there is no energy counter here."""

AT_REST_S = {8: 0.477, 16: 0.928, 32: 3.180}
"""What `bench/head.py` measured of the head on the machine of the committed files, by bits, for comparison."""

CLOCK_SHARES = (1.0, 0.8, 0.6, 0.4)

T = TypeVar("T")


def measured_profiles(cache: Path, show: Callable[[str], None]) -> dict[str, MachineProfile]:
    """Robot and edge, by the names of their files.

    Args:
        cache: as `--cache` of `bench/head.py`; filled where it is empty.
        show: takes a line for people after each step.
    """
    files = HeadFiles(cache, BLOCKS)
    files.make()
    packed = pack(files, 8)
    load = os.getloadavg()[0]
    heads = {}
    for bits in WEIGHT_BITS:
        model = packed if bits <= 8 else files.checkpoint
        heads[bits] = _alone(head_runs, model, files.picture, bits, RUNS[bits], CODE_RUNS if bits == 8 else 0)
        total_s = sum(medians(heads[bits].stage_s).values())
        show(f"{bits:2} bits ({heads[bits].engine}): {total_s:.3f} s, in one go {_middle(heads[bits].whole_s):.3f} s")
    tail = _alone(tail_runs, files.checkpoint, TAIL_RUNS)
    show(f"text: {_middle(tail.all_s):.3f} s, of that the first token {_middle(tail.first_s):.3f} s")
    return {"cpu_robot": robot_profile(heads, tail, load), "cpu_edge": edge_profile(heads, tail)}


def _alone(function: Callable[..., T], *arguments: object) -> T:
    """The result of a call in a process of its own, which gives all memory back."""
    return call(partial(partial, function, *arguments), _send_result)


def _send_result(job: Callable[[], object], pipe: Connection) -> None:
    pipe.send(job())


def by_engine(heads: dict[int, HeadRuns]) -> dict[int, Seconds]:
    """Median of each stage by bits; one and the same for all that engine `onednn` runs.

    It holds them all as int8 and runs the same kernels: where their times differ, the machine differed, and a planner
    would take that for a reason to change the bits.
    """
    own = {bits: medians(runs.stage_s) for bits, runs in heads.items()}
    shared = medians(own[bits] for bits, runs in heads.items() if runs.engine == "onednn")
    return {bits: shared if runs.engine == "onednn" else own[bits] for bits, runs in heads.items()}


def medians(runs: Iterable[Seconds]) -> Seconds:
    """Median over the runs, by split point."""
    runs = list(runs)
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def spread(runs: list[Seconds]) -> float:
    """Median over the stages of (90 % quantile − 10 % quantile) / median, over the runs."""
    widths = []
    for name, middle_s in medians(runs).items():
        deciles = statistics.quantiles([run[name] for run in runs], n=10, method="inclusive")
        widths.append((deciles[-1] - deciles[0]) / middle_s)
    return statistics.median(widths)


_middle = statistics.median


def clock_hz() -> float:
    """The processor's nominal clock as Linux names it, to 0.1 GHz."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return round(float(re.search(r"^cpu MHz\s*:\s*([\d.]+)", text, re.MULTILINE)[1]) / 100) * 1e8


def clock_modes(full_hz: float, full_w: float) -> tuple[PowerMode, ...]:
    """Modes at lower clocks: power as the clock's third power [theory.md section 3, P = ψ f³], time as its inverse."""
    return tuple(
        PowerMode(
            clock_hz=round(share * full_hz),
            slowdown=round(1 / share, 6),
            active_w=round(full_w * share**3, 3),
            name=f"{share * full_hz / 1e9:.2f} GHz",
        )
        for share in CLOCK_SHARES
    )


def robot_profile(heads: dict[int, HeadRuns], tail: TailRuns, load: float) -> MachineProfile:
    """The robot's: all stages, by bits per weight of the head."""
    text_s = {"output": _middle(tail.all_s)}
    times = tuple(StageTimes(bits, rounded(head_s | text_s)) for bits, head_s in by_engine(heads).items())
    return MachineProfile(
        machine=_machine(),
        model=MODEL,
        model_id=MODEL_ID,
        engine=f"{heads[8].engine} up to 8 bits, {heads[32].engine} above",
        split_points=SPLIT_POINTS,
        shapes=SHAPES,
        times=times,
        modes=clock_modes(clock_hz(), ACTIVE_W),
        code_s=rounded(medians(heads[8].code_s)),
        radio_w=RADIO_W,
        power_source="assumed",
        notes=(
            f"Times are measured (python -m bench.real_size_profile --measure): medians of {_counts()} runs per stage "
            f"on {THREADS} threads, random weights, one 640 × 480 picture, runs left out in which other processes used "
            f"more than {MOST_BY_OTHERS:.0%} of a core. Load average before: {load:.1f}; what is left of its effect "
            f"shows against bench/head.py, which had the machine to itself: {_at_rest()}. "
            f"{_spreads(heads)} {_whole(heads)} Up to 8 bits engine onednn "
            "runs the same int8 kernels, so these widths share the median of theirs: what differs between them is "
            f"the machine. {_text(tail)} On the robot the language model stays in bfloat16 at "
            "every bit-width of the head, as in a half that was opened at 16 bits. code_s: the packet of features by "
            "the plain codec at 8 bits, of the picture as jpeg90. "
            f"Power is assumed: {ACTIVE_W:g} W above idle for two cores of a server's processor at full clock, "
            f"{RADIO_W:g} W for a Wi-Fi station that sends. Modes after the first are computed, not measured: "
            "active_w with the clock's third power, time with its inverse; that leaves out leakage and memory, which "
            "keeps its own clock, so low clocks look thriftier and slower than they are."
        ),
    )


def edge_profile(heads: dict[int, HeadRuns], tail: TailRuns) -> MachineProfile:
    """The edge's: everything after the picture in bfloat16."""
    stage_s = medians(heads[EDGE_BITS].stage_s) | {"output": _middle(tail.all_s)}
    del stage_s["input"]
    return MachineProfile(
        machine=_machine(),
        model=MODEL,
        model_id=MODEL_ID,
        engine=heads[EDGE_BITS].engine,
        split_points=SPLIT_POINTS,
        shapes=SHAPES,
        times=(StageTimes(EDGE_BITS, rounded(stage_s)),),
        modes=clock_modes(clock_hz(), ACTIVE_W)[:1],
        code_s=rounded(medians(heads[8].decode_s)),
        power_source="assumed",
        notes=(
            f"The same two cores and the same runs as cpu_robot.json, all stages in bfloat16; no `input`, for pictures "
            f"arrive at the model's size. {_text(tail)} code_s: reading a packet of features by the plain codec at "
            f"8 bits, of the picture as jpeg90. Power is assumed: {ACTIVE_W:g} W above idle."
        ),
    )


def _machine() -> str:
    return f"{cpu_name()}, {THREADS} threads"


def _counts() -> str:
    return f"{RUNS[8]} (32 bits: {RUNS[32]})"


def _at_rest() -> str:
    return ", ".join(f"{bits} bits {seconds:.3f} s" for bits, seconds in AT_REST_S.items())


def _spreads(heads: dict[int, HeadRuns]) -> str:
    shares = ", ".join(f"{bits} bits {spread(runs.stage_s):.0%}" for bits, runs in heads.items())
    return f"Spread of a stage's runs (10 % to 90 % quantile over the median, median over stages): {shares}."


def _whole(heads: dict[int, HeadRuns]) -> str:
    pairs = ", ".join(
        f"{bits} bits {sum(medians(runs.stage_s).values()):.3f} and {_middle(runs.whole_s):.3f} s"
        for bits, runs in heads.items()
    )
    return f"Sum of the stages up to qformer, and the same in one go: {pairs}."


def _text(tail: TailRuns) -> str:
    return (
        f"`output`: {NEW_TOKENS} new tokens, greedy, after {SHAPES['qformer'][0]} image places and one token, OPT-2.7b "
        f"in bfloat16: {_middle(tail.all_s):.2f} s ({min(tail.all_s):.2f} to {max(tail.all_s):.2f} in "
        f"{len(tail.all_s)} runs), of that the first token {_middle(tail.first_s):.2f} s."
    )
