"""How fast, how small and how exact is the quantized head, next to what a user would run instead?

The vision tower and Q-Former of BLIP-2 at their real size with random weights, one picture at a time on two threads.
Every contender holds its model in a process of its own; they are asked in turn for one inference, so that a busy
machine disturbs all alike. Where memory does not hold all of them at once they are measured in rounds, each with the
float32 reference and our 8 bits. Ours runs through `RobotHalf` from a camera's picture; the others are called bare,
with the tensor that they expect.

    make setup-bench
    .venv-bench/bin/python bench/head.py [--blocks N] [--cache DIR] [--only NAME,NAME] [--json FILE]
    .venv-bench/bin/python bench/head.py --prepare     what takes long and is kept in the cache, and nothing else
    .venv-bench/bin/python bench/head.py --start       from a packed file, or from floats, to the first inference
    .venv-bench/bin/python bench/head.py --switch      changing weight_bits while frames flow
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))

import numpy as np  # noqa: E402

from bench.head_contenders import (  # noqa: E402
    BARS,
    EVERY_ROUND,
    OURS_8,
    PEERS_OF_THE_BAR,
    REFERENCE,
    Contender,
    contenders,
)
from bench.head_model import HeadFiles  # noqa: E402
from bench.head_peers import THREADS  # noqa: E402
from bench.head_worker import (  # noqa: E402
    LOAD_TIMEOUT_S,
    Started,
    Worker,
    WorkerError,
    available_bytes,
    call,
    prepare,
    serve,
    start,
)

PAUSE_S = 0.1
"""Between two contenders, for the threads of the one before to go to sleep."""

PACKAGES = ("laim_ros", "torch", "transformers", "openvino", "nncf", "onnxruntime", "torchao", "numpy")


@dataclass
class Measured:
    """What is known of one contender.

    Attributes:
        started: how it came up; None where it failed.
        latencies_s: one per turn.
        beside_s: what the contenders of every round took in the same turns, by name.
        round: the round that it was measured in, from 1.
        error: why it failed.
    """

    started: Started | None = None
    latencies_s: list[float] = field(default_factory=list)
    beside_s: dict[str, list[float]] = field(default_factory=dict)
    round: int = 0
    error: str = ""


def prepare_all(chosen: list[Contender], results: dict[str, Measured]) -> None:
    """Lets every contender prepare; those that cannot are out."""
    for contender in chosen:
        began_s = time.perf_counter()
        try:
            call(contender.make, prepare)
        except WorkerError as error:
            results[contender.name].error = f"preparing: {error}"
        say(f"prepared {contender.name} in {time.perf_counter() - began_s:.0f} s {results[contender.name].error}")


def measure(chosen: list[Contender], files: HeadFiles, turns: int, results: dict[str, Measured]) -> None:
    """Starts the contenders, as many as memory holds, and asks them in turn; those of `EVERY_ROUND` stay.

    Raises:
        WorkerError: the reference failed; there is nothing to compare with.
    """
    waiting = [each for each in chosen if not results[each.name].error]
    held: dict[str, Worker] = {}
    number = 0
    try:
        while number == 0 or waiting:
            number += 1
            while waiting and (not new_ones(held) or has_room(waiting[0], files)):
                contender = waiting.pop(0)
                try:
                    held[contender.name] = started(contender, results)
                except WorkerError as error:
                    fail(contender.name, error, results)
            say(f"round {number}: {', '.join(held)}")
            take_turns(held, turns, results, number)
            for name in new_ones(held):
                held.pop(name).close()
    finally:
        for worker in held.values():
            worker.close()


def new_ones(held: dict[str, Worker]) -> list[str]:
    """Those that are there for one round only."""
    return [name for name in held if name not in EVERY_ROUND]


def has_room(contender: Contender, files: HeadFiles) -> bool:
    """Whether memory holds one more."""
    return available_bytes() > contender.room_in_heads * files.float_bytes


def fail(name: str, error: WorkerError, results: dict[str, Measured]) -> None:
    """Notes that a contender is out.

    Raises:
        WorkerError: it is the reference.
    """
    results[name].error = str(error)
    say(f"{name}: {error}")
    if name == REFERENCE:
        raise error


def started(contender: Contender, results: dict[str, Measured]) -> Worker:
    """The contender's process, ready for requests."""
    worker = Worker(contender.make, serve)
    try:
        results[contender.name].started = worker.receive(LOAD_TIMEOUT_S)
    except WorkerError:
        worker.close()
        raise
    say(f"started {contender.name} in {results[contender.name].started.start_s:.1f} s")
    return worker


def take_turns(held: dict[str, Worker], turns: int, results: dict[str, Measured], number: int) -> None:
    """One warm turn, then `turns` that count; who begins moves on from turn to turn."""
    names = list(held)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, turns):
        for step in range(len(names)):
            name = names[(turn + step) % len(names)]
            if name not in held:
                continue
            time.sleep(PAUSE_S)
            try:
                seconds = held[name].infer_s()
            except WorkerError as error:
                held.pop(name).close()
                fail(name, error, results)
                continue
            if turn >= 0:
                taken[name].append(seconds)
    beside_s = {name: taken[name] for name in EVERY_ROUND if name in held}
    for name in held:
        if not results[name].round:
            results[name].latencies_s, results[name].beside_s, results[name].round = taken[name], beside_s, number


def execution_errors(chosen: list[Contender], results: dict[str, Measured]) -> dict[str, float]:
    """Relative L1 between a contender's output and the same weights' in float32, where those can be had."""
    outputs: dict[object, np.ndarray] = {}
    errors = {}
    for contender in chosen:
        mine = results[contender.name].started
        reference = contender.make().reference() if hasattr(contender.make(), "reference") else None
        if mine is None or reference is None:
            continue
        key = getattr(reference, "key", contender.name)
        try:
            if key not in outputs:
                say(f"the weights of {contender.name} in float32")
                outputs[key] = call(partial(same, reference), start).output
            errors[contender.name] = relative_l1(mine.output, outputs[key])
        except WorkerError as error:
            say(f"the weights of {contender.name} in float32: {error}")
    return errors


def same(runner: object) -> object:
    """A runner that is there already, as something that makes one."""
    return runner


def relative_l1(mine: np.ndarray, truth: np.ndarray) -> float:
    """Sum of absolute differences over the sum of absolute values."""
    return float(np.abs(mine - truth).sum() / np.abs(truth).sum())


def rows_of(chosen: list[Contender], results: dict[str, Measured], errors: dict[str, float]) -> list[dict]:
    """One row per contender, failed or not."""
    truth = results[chosen[0].name].started.output
    rows = []
    for contender in chosen:
        mine = results[contender.name]
        row = {"name": contender.name, "engine": contender.engine, "ours": contender.ours, "bits": contender.bits}
        if mine.error or mine.started is None:
            rows.append({**row, "error": mine.error or "not measured"})
            continue
        latency_s = statistics.median(mine.latencies_s)
        beside_s = {name: statistics.median(taken) for name, taken in mine.beside_s.items()}
        rows.append(
            {
                **row,
                "latency_s": latency_s,
                "ratio_vs_fp32": beside_s[REFERENCE] / latency_s,
                "ours_over_this": beside_s[OURS_8] / latency_s if OURS_8 in beside_s else None,
                "memory_bytes": mine.started.memory_bytes,
                "anonymous_bytes": mine.started.anonymous_bytes,
                "peak_bytes": mine.started.peak_bytes,
                "load_s": mine.started.load_s,
                "start_s": mine.started.start_s,
                "error_vs_fp32": relative_l1(mine.started.output, truth),
                "error_of_execution": errors.get(contender.name),
                "round": mine.round,
                "latencies_s": mine.latencies_s,
                "beside_s": mine.beside_s,
                **mine.started.facts,
            }
        )
    return rows


def bars_of(rows: list[dict]) -> list[dict]:
    """The issue's bars that this run can judge: what was asked for, what was measured."""
    by_name = {row["name"]: row for row in rows if "latency_s" in row}
    peers = [row for row in rows if row["name"] in PEERS_OF_THE_BAR and "latency_s" in row]
    judged = []
    for bar in BARS:
        row = by_name.get(bar.contender)
        if row is None or (bar.column == "latency_to_fastest_peer" and not peers):
            judged.append({"bar": bar.text, "value": None, "met": None})
            continue
        if bar.column == "latency_to_fastest_peer":
            value = max(peer["ours_over_this"] for peer in peers)
        else:
            value = row[bar.column]
        met = None if value is None else (value >= bar.limit if bar.at_least else value <= bar.limit)
        judged.append({"bar": bar.text, "value": value, "met": met})
    return judged


def print_table(rows: list[dict], bars: list[dict]) -> None:
    """The results for people."""
    print(
        f"\n{'contender':30}{'bits':>5}{'median s':>10}{'× fp32':>8}{'ours/it':>9}{'GB':>7}{'own GB':>8}"
        f"{'peak GB':>9}{'start s':>9}{'error':>8}{'of int8':>9}{'round':>7}"
    )
    for row in rows:
        if "error" in row:
            print(f"{row['name']:30}{row['bits']:>5}  failed: {row['error']}")
            continue
        own = row["error_of_execution"]
        print(
            f"{row['name']:30}{row['bits']:>5}{row['latency_s']:>10.3f}{row['ratio_vs_fp32']:>8.2f}"
            f"{'–' if row['ours_over_this'] is None else format(row['ours_over_this'], '.2f'):>9}"
            f"{row['memory_bytes'] / 1e9:>7.2f}{row['anonymous_bytes'] / 1e9:>8.2f}"
            f"{row['peak_bytes'] / 1e9:>9.2f}{row['start_s']:>9.1f}"
            f"{row['error_vs_fp32']:>8.4f}{'–' if own is None else f'{own:.4f}':>9}{row['round']:>7}"
        )
    print(f"ours/it: latency of {OURS_8} in the same turns over its own; GB: growth of resident memory after three")
    print("inferences, own: without pages of files; error: relative L1 of the output against float32;")
    print("of int8: against the same dequantized weights in float32; start: from imported to the first result")
    for bar in bars:
        verdict = {True: "met", False: "NOT MET", None: "not measured"}[bar["met"]]
        print(f"{bar['bar']}: {'–' if bar['value'] is None else format(bar['value'], '.3g')} ({verdict})")


def facts_of(asked: argparse.Namespace) -> dict:
    """What the figures depend on."""
    # Not above: every process imports this file again, and this would bring torch into those that do without.
    from bench.circumstances import cpu_name, version_of

    return {
        "blocks": asked.blocks,
        "turns": asked.turns,
        "threads": THREADS,
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {package: version_of(package) for package in PACKAGES},
    }


def say(text: str) -> None:
    """Progress, on the error output."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=39, help="of the vision tower (default 39, the real size)")
    parser.add_argument("--turns", type=int, default=9, help="inferences that count, per contender (default 9)")
    parser.add_argument("--runs", type=int, default=3, help="with --start: processes per way (default 3)")
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "bench_head", help="where artefacts are kept")
    parser.add_argument("--only", default="", help="names of contenders, comma-separated; the reference always runs")
    parser.add_argument("--list", action="store_true", help="show the names of the contenders")
    parser.add_argument("--prepare", action="store_true", help="prepare what is kept, and nothing else")
    parser.add_argument("--start", action="store_true", help="measure starting instead")
    parser.add_argument("--switch", action="store_true", help="measure changing weight_bits instead")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    asked = parser.parse_args()

    # Before any process imports a library that reads it.
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    files = HeadFiles(asked.cache, asked.blocks)
    everyone = contenders(files)
    if asked.list:
        print("\n".join(contender.name for contender in everyone))
        return 0
    facts = facts_of(asked)
    call(partial(same, files), make_files)
    if asked.start or asked.switch:
        from bench import head_live

        report = head_live.starts(files, asked.runs) if asked.start else head_live.switches(files)
    else:
        names = {name.strip() for name in asked.only.split(",") if name.strip()}
        unknown = names - {contender.name for contender in everyone}
        if unknown:
            parser.error(f"no contenders {', '.join(sorted(unknown))}; see --list")
        chosen = [each for each in everyone if not names or each.name in names or each is everyone[0]]
        results = {contender.name: Measured() for contender in chosen}
        prepare_all(chosen, results)
        if asked.prepare:
            return int(any(result.error for result in results.values()))
        try:
            measure(chosen, files, asked.turns, results)
        except WorkerError as error:
            say(f"nothing can be compared without {REFERENCE}: {error}")
            return 1
        rows = rows_of(chosen, results, execution_errors(chosen, results))
        bars = bars_of(rows)
        print_table(rows, bars)
        report = {"rows": rows, "bars": bars}
    facts["load_average_after"] = os.getloadavg()[0]
    print(
        f"{asked.blocks} blocks, {THREADS} threads on {facts['cpus']} × {facts['cpu']}; load average "
        f"{facts['load_average_before']:.1f} before"
        + (" (BUSY: the figures say little)" if facts["load_average_before"] > 0.5 * facts["cpus"] else "")
    )
    if asked.json:
        asked.json.write_text(json.dumps({**report, **facts}, indent=2) + "\n", encoding="utf-8")
    return 0


def make_files(files: HeadFiles, pipe: object) -> None:
    """Target: makes checkpoint and pictures."""
    files.make()
    pipe.send(True)


if __name__ == "__main__":
    raise SystemExit(main())
