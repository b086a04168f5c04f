"""One contender in a process of its own: its memory is its own, and it keeps its model between two inferences."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

FIRST_INFERENCES = 3
LOAD_TIMEOUT_S = 3600.0
INFERENCE_TIMEOUT_S = 300.0
_LOG_LINES = 3


class Runner(Protocol):
    """One way to run the head.

    It may have `facts()`, more columns of its row, and `reference()`, the runner of the same weights in float32.
    """

    def prepare(self) -> None:
        """Makes what later runs find, in a process that ends after it."""
        ...

    def imports(self) -> None:
        """Imports all that loading needs: neither its time nor its memory counts."""
        ...

    def load(self) -> None:
        """Makes everything ready for `infer`."""
        ...

    def infer(self) -> np.ndarray:
        """One picture, batch 1; float32, 32 × 768 numbers."""
        ...


class WorkerError(RuntimeError):
    """A contender that failed; the message says why."""


@dataclass
class Started:
    """How a contender came up.

    Attributes:
        load_s: from imported to loaded.
        start_s: from imported to the end of the first inference.
        memory_bytes: growth of resident memory from before loading to after three inferences.
        anonymous_bytes: the part of that which is no file's and can only be swapped out.
        peak_bytes: growth of resident memory at its highest, over the same time.
        output: of the Q-Former, float32 (32, 768).
        facts: the runner's own.
    """

    load_s: float
    start_s: float
    memory_bytes: int
    anonymous_bytes: int
    peak_bytes: int
    output: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


class Worker:
    """A process that holds one runner.

    Args:
        make: makes the runner, in the process; must be picklable.
        target: what the process does with it: `serve`, or another function of the same kind.
    """

    def __init__(self, make: Callable[[], Runner], target: Callable | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        file, path = tempfile.mkstemp(prefix="bench_head_", suffix=".log")
        os.close(file)
        self._log = Path(path)
        self._here, there = context.Pipe()
        self._process = context.Process(target=_run, args=(target or serve, make, there, str(self._log)), daemon=True)
        self._process.start()
        there.close()

    def receive(self, timeout_s: float) -> Any:
        """What the process sends next.

        Raises:
            WorkerError: it failed, died or took too long.
        """
        try:
            if not self._here.poll(timeout_s):
                raise WorkerError(f"no answer within {timeout_s:g} s")
            answer = self._here.recv()
        except (EOFError, OSError):
            self._process.join(10)
            raise WorkerError(f"the process died with {self._process.exitcode}: {self._last_words()}") from None
        if isinstance(answer, WorkerError):
            raise answer
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        return " / ".join([line.strip() for line in lines if line.strip()][-_LOG_LINES:])

    def infer_s(self) -> float:
        """Seconds that one inference took, in the process itself."""
        self._here.send("infer")
        return self.receive(INFERENCE_TIMEOUT_S)

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._here.send("end")
        self._process.join(20)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._here.close()
        self._log.unlink(missing_ok=True)


def call(make: Callable[[], Runner], target: Callable | None = None) -> Any:
    """Runs `target` in a process of its own and gives what it sends.

    Raises:
        WorkerError: as `Worker.receive`.
    """
    worker = Worker(make, target)
    try:
        return worker.receive(LOAD_TIMEOUT_S)
    finally:
        worker.close()


def _run(target: Callable, make: Callable[[], Runner], pipe: Connection, log: str) -> None:
    """What the process executes: everything written goes to the log, every exception to the parent."""
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    try:
        target(make(), pipe)
    except EOFError:
        pass  # the parent has gone
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        text = " ".join(str(error).split())
        pipe.send(WorkerError(f"{type(error).__name__}: {text[-400:]}"))


def prepare(runner: Runner, pipe: Connection) -> None:
    """Target: prepares."""
    runner.prepare()
    pipe.send(True)


def start(runner: Runner, pipe: Connection) -> None:
    """Target: sends `Started`."""
    runner.imports()
    reset_peak()
    before_bytes, anonymous_before_bytes = resident_bytes(), resident_bytes("RssAnon")
    began_s = time.perf_counter()
    runner.load()
    loaded_s = time.perf_counter()
    output = runner.infer()
    inferred_s = time.perf_counter()
    for _ in range(FIRST_INFERENCES - 1):
        runner.infer()
    pipe.send(
        Started(
            load_s=loaded_s - began_s,
            start_s=inferred_s - began_s,
            memory_bytes=resident_bytes() - before_bytes,
            anonymous_bytes=resident_bytes("RssAnon") - anonymous_before_bytes,
            peak_bytes=resident_bytes("VmHWM") - before_bytes,
            output=np.asarray(output, dtype=np.float32).reshape(output.shape[-2:]),
            facts=runner.facts() if hasattr(runner, "facts") else {},
        )
    )


def serve(runner: Runner, pipe: Connection) -> None:
    """Target: as `start`, then one inference per request."""
    start(runner, pipe)
    while pipe.recv() == "infer":
        began_s = time.perf_counter()
        runner.infer()
        pipe.send(time.perf_counter() - began_s)


def resident_bytes(field_name: str = "VmRSS") -> int:
    """Resident memory of this process; with `VmHWM` its highest since `reset_peak`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"^{field_name}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024


def reset_peak() -> None:
    """Lets `VmHWM` begin at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def available_bytes() -> int:
    """Memory of this machine that could still be given to a process."""
    return int(re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))[1]) * 1024
