"""The head while a robot lives with it: how soon it starts, and what changing `weight_bits` costs the frames."""

from __future__ import annotations

import statistics
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np

from bench.head_model import HeadFiles
from bench.head_ours import Ours
from bench.head_peers import Torchao, Transformers
from bench.head_worker import Runner, WorkerError, call, prepare, reset_peak, resident_bytes, start

SHIPPED = "laim-mini-blip2"
SWITCHES = (4, 8, 2, 8)
"""Widths that are switched to, one after the other, beginning at 8 bits."""

STEADY_FRAMES = 5
"""Frames between two switches."""

SWITCH_TIMEOUT_S = 300.0

START_BAR = 5.0
SWITCH_BAR_S = 15.0
PEAK_BAR = 2.0


@dataclass(frozen=True, slots=True)
class Way:
    """One way from a file to the first inference."""

    name: str
    make: Callable[[], Runner]
    files: tuple[Path, ...]
    baseline: str = ""


def starts(files: HeadFiles, runs: int) -> dict:
    """From imported to the first inference: packed files against floats that are quantized on the way.

    Every run is a process of its own; the ways take turns. All files are read once before, so that the disk does not
    decide: from a disk that is slower than memory the smaller file gains more.
    """
    ways = [
        Way("checkpoint → 8 bits", partial(Ours, files, 8), (files.checkpoint,)),
        Way("checkpoint → 4 bits", partial(Ours, files, 4), (files.checkpoint,)),
    ]
    failed = {}
    for bits, held in ((8, 8), (4, 4), (4, 8)):
        name = f"packed {held} → {bits} bits"
        make = partial(Ours, files, bits, packed=held)
        try:
            call(make, prepare)
            ways.append(Way(name, make, (make().model,), f"checkpoint → {bits} bits"))
        except WorkerError as error:
            failed[name] = str(error)
    ways += [
        Way("transformers float32", partial(Transformers, files), (files.checkpoint,)),
        Way("torchao int8, eager", partial(Torchao, files, compiled=False), (files.checkpoint,)),
    ]
    taken: dict[str, list] = {way.name: [] for way in ways}
    for run in range(runs):
        for step in range(len(ways)):
            way = ways[(run + step) % len(ways)]
            if way.name in failed:
                continue
            read_once(way.files)
            try:
                taken[way.name].append(call(way.make, start))
            except WorkerError as error:
                failed[way.name] = str(error)
    medians = {name: statistics.median(run.start_s for run in found) for name, found in taken.items() if found}
    rows = []
    for way in ways:
        found = taken[way.name]
        if way.name in failed or not found:
            continue
        ratio = medians[way.baseline] / medians[way.name] if way.baseline in medians else None
        rows.append(
            {
                "way": way.name,
                "start_s": medians[way.name],
                "load_s": statistics.median(run.load_s for run in found),
                "memory_bytes": found[0].memory_bytes,
                "peak_bytes": max(run.peak_bytes for run in found),
                "file_bytes": sum(file.stat().st_size for each in way.files for file in each.glob("*.safetensors")),
                "faster_than_from_checkpoint": ratio,
                "starts_s": [run.start_s for run in found],
            }
        )
    rows += [{"way": name, "error": error} for name, error in failed.items()]
    _print_starts(rows)
    return {"starts": rows}


def _print_starts(rows: list[dict]) -> None:
    print(f"\n{'start':26}{'start s':>9}{'load s':>9}{'file GB':>9}{'GB':>7}{'peak GB':>9}{'faster':>8}")
    for row in rows:
        if "error" in row:
            print(f"{row['way']:26}failed: {row['error']}")
            continue
        ratio = row["faster_than_from_checkpoint"]
        print(
            f"{row['way']:26}{row['start_s']:>9.2f}{row['load_s']:>9.2f}{row['file_bytes'] / 1e9:>9.2f}"
            f"{row['memory_bytes'] / 1e9:>7.2f}{row['peak_bytes'] / 1e9:>9.2f}"
            f"{'–' if ratio is None else f'{ratio:.1f}':>8}"
        )
    print(f"faster: than from the checkpoint at the same bits (bar: ≥ {START_BAR:g}); files lie in memory")


def read_once(folders: tuple[Path, ...]) -> None:
    """Brings the weights into the system's file cache."""
    for folder in folders:
        for path in folder.glob("*.safetensors"):
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass


def switches(files: HeadFiles) -> dict:
    """Changing `weight_bits` while another thread sends frames; from checkpoint, packed file and the shipped model."""
    cases = {
        "checkpoint": partial(Ours, files, 8),
        "packed 8 bits": partial(Ours, files, 8, packed=8),
        SHIPPED: partial(Shipped, files, 8),
    }
    rows = []
    for name, make in cases.items():
        try:
            call(make, prepare)
            rows += [{"model": name, **row} for row in call(make, switch)]
        except WorkerError as error:
            rows.append({"model": name, "error": str(error)})
    _print_switches(rows)
    return {"switches": rows}


def _print_switches(rows: list[dict]) -> None:
    print(
        f"\n{'switch':18}{'bits':>9}{'seconds':>9}{'frames':>8}{'frame s':>9}{'meanwhile':>11}{'longest gap':>13}"
        f"{'head GB':>9}{'peak GB':>9}{'peak/head':>11}"
    )
    for row in rows:
        if "error" in row:
            print(f"{row['model']:18}failed: {row['error']}")
            continue
        meanwhile_s = row["frame_meanwhile_s"]
        seconds = "kept" if row["kept"] else f"{row['switch_s']:.2f}"
        print(
            f"{row['model']:18}{row['bits_before']:>4} → {row['bits_after']:<2}{seconds:>9}"
            f"{row['frames_meanwhile']:>8}{row['frame_s']:>9.3f}"
            f"{'–' if meanwhile_s is None else f'{meanwhile_s:.3f}':>11}{row['longest_gap_s']:>13.3f}"
            f"{row['head_bytes'] / 1e9:>9.2f}{row['peak_bytes'] / 1e9:>9.2f}{row['peak_to_head']:>11.2f}"
        )
    print(
        f"bars: real size under {SWITCH_BAR_S:g} s, frames go on, peak ≤ {PEAK_BAR:g} × the head (the larger of the "
        "two); the shipped model within one frame; kept: a small head that was still there, so that nothing was loaded"
    )


class Shipped(Ours):
    """The small model that ships."""

    @property
    def model(self) -> str:
        """Its name."""
        return SHIPPED


def switch(runner: Ours, pipe: Connection) -> None:
    """Target: changes the width again and again while frames run in another thread; sends a row per change.

    Heads are loaded as the robot node loads them, in the thread of a `HeadSwitch` that stands back behind the frames.
    Memory counts from before loading, as growth of the resident set.
    """
    from laim_ros.nodes.head_switch import HeadSwitch  # of that folder's modules one without ROS

    runner.imports()
    before_bytes = resident_bytes()
    runner.load()
    frames = _Frames(runner.infer)
    # When a wish ended, how many frames there were then, and why it failed.
    ended: SimpleQueue[tuple[float, int, str]] = SimpleQueue()
    head_switch = HeadSwitch(
        runner.half,
        lambda _: ended.put((time.perf_counter(), frames.count(), "")),
        lambda reason: ended.put((time.perf_counter(), frames.count(), reason)),
    )
    heads_so_far = [weakref.ref(runner.half.model)]  # weak: a head that is not kept must go
    try:
        frames.wait_for(STEADY_FRAMES)
        rows = []
        for bits in SWITCHES:
            steady = frames.since(frames.count() - STEADY_FRAMES)
            head_bytes = resident_bytes() - before_bytes
            bits_before = runner.half.weight_bits
            reset_peak()
            first, began_s = frames.count(), time.perf_counter()
            head_switch.want(bits)
            try:
                ended_s, last, trouble = ended.get(timeout=SWITCH_TIMEOUT_S)
            except Empty:
                raise RuntimeError(f"no {bits} bits within {SWITCH_TIMEOUT_S:g} s") from None
            if trouble:
                raise RuntimeError(trouble)
            kept = any(head() is runner.half.model for head in heads_so_far)
            heads_so_far.append(weakref.ref(runner.half.model))
            peak_bytes = resident_bytes("VmHWM") - before_bytes
            frames.wait_for(STEADY_FRAMES)
            after_bytes = resident_bytes() - before_bytes
            meanwhile = frames.since(first)[: last - first]
            # With the frame before and the one after, so that a switch that stops everything shows.
            ends = [end for end, _ in frames.since(max(first - 1, 0))[: last - first + 2]]
            larger_bytes = max(head_bytes, after_bytes)
            rows.append(
                {
                    "bits_before": bits_before,
                    "bits_after": runner.half.weight_bits,
                    "kept": kept,
                    "switch_s": ended_s - began_s,
                    "frames_meanwhile": last - first,
                    "frame_s": statistics.median(seconds for _, seconds in steady),
                    "frame_meanwhile_s": statistics.median(s for _, s in meanwhile) if meanwhile else None,
                    "frame_after_s": statistics.median(s for _, s in frames.since(last + 1)),
                    "longest_gap_s": max(np.diff(ends), default=0.0),
                    "head_bytes": larger_bytes,
                    "head_before_bytes": head_bytes,
                    "head_after_bytes": after_bytes,
                    "peak_bytes": peak_bytes,
                    "peak_to_head": peak_bytes / larger_bytes,
                }
            )
            if runner.half.weight_bits != bits:
                raise RuntimeError(f"asked for {bits} bits, the head has {runner.half.weight_bits}")
    finally:
        head_switch.close()
        frames.stop()
    pipe.send(rows)


class _Frames:
    """A thread that runs frame after frame and notes when each ended and how long it took."""

    def __init__(self, infer: Callable[[], np.ndarray]) -> None:
        self._infer = infer
        self._done: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                began_s = time.perf_counter()
                self._infer()
                end_s = time.perf_counter()
                self._done.append((end_s, end_s - began_s))
        except BaseException as error:
            self._error = error

    def count(self) -> int:
        """Frames so far."""
        return len(self._done)

    def since(self, first: int) -> list[tuple[float, float]]:
        """End and duration in seconds of the frames from number `first` on."""
        return self._done[first:]

    def wait_for(self, frames: int) -> None:
        """Until so many more frames have run from begin to end.

        Raises:
            RuntimeError: they do not come.
        """
        target, deadline_s = self.count() + frames + 1, time.monotonic() + SWITCH_TIMEOUT_S
        while self.count() < target:
            if self._error is not None:
                raise RuntimeError(f"a frame failed: {self._error}") from self._error
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"no {frames} frames within {SWITCH_TIMEOUT_S:g} s")
            time.sleep(0.005)

    def stop(self) -> None:
        """Ends the thread."""
        self._ended.set()
        self._thread.join(SWITCH_TIMEOUT_S)
