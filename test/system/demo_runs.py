"""Runs of the `laim` command in a process of its own, and a look at what they leave behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_S = 280.0
"""A bound on hanging on a busy machine, not a measure of speed."""


class LaimRun:
    """A `laim …` under way; its output is read as it comes."""

    def __init__(self, *arguments: str, folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "ROS_DOMAIN_ID"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment["PYTHONUNBUFFERED"] = "1"
        # What one run measures on a busy machine must not be what the user's next one plans with.
        environment["XDG_CACHE_HOME"] = str(folder / "cache")
        # A mark in the environment, inherited by all descendants, by which they are found again.
        self._mark = f"LAIM_TEST_RUN={os.getpid()}_{time.monotonic_ns()}"
        name, _, value = self._mark.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "laim_ros.cli", *arguments],
            cwd=folder,
            env={**environment, name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._readers = [
            threading.Thread(target=self._read, args=(which, getattr(self.process, which)), daemon=True)
            for which in self._lines
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, which: str, stream: object) -> None:
        for line in stream:
            self._lines[which].append(line)

    @property
    def output(self) -> str:
        """What was written to stdout so far."""
        return "".join(self._lines["stdout"])

    @property
    def errors(self) -> str:
        """What was written to stderr so far."""
        return "".join(self._lines["stderr"])

    def wait_for(self, pattern: str) -> None:
        """Waits until stdout matches a regular expression."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self.output):
            assert self.process.poll() is None, f"ended before '{pattern}':\n{self.output}\n{self.errors}"
            assert time.monotonic() < deadline_s, f"no '{pattern}' in:\n{self.output}\n{self.errors}"
            time.sleep(0.02)

    def end(self, sent: signal.Signals | None = None) -> int:
        """Sends a signal, if any, and waits; the exit status."""
        if sent is not None:
            self.process.send_signal(sent)
        status = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)  # the pipes end when the last descendant that holds them has ended
        return status

    def descendants(self) -> list[str]:
        """Command lines of the processes that this run has started and that still live."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == self.process.pid:
                continue
            with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to look at
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def wait_until_alone(self) -> None:
        """Waits until no descendant lives."""
        deadline_s = time.monotonic() + PATIENCE_S
        while left := self.descendants():
            assert time.monotonic() < deadline_s, f"left behind: {left}"
            time.sleep(0.1)

    def node_pid(self, node: str) -> int:
        """Process id of one of its nodes."""
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    command = (folder / "cmdline").read_bytes()
                    if f"laim_ros.nodes.{node}_node".encode() in command:
                        return int(folder.name)
        raise AssertionError(f"there is no {node}")


@contextlib.contextmanager
def laim(*arguments: str, folder: Path) -> Iterator[LaimRun]:
    """A run that is ended with the block, whatever happens in it."""
    run = LaimRun(*arguments, folder=folder)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGTERM)
            try:
                run.process.wait(30.0)
            except subprocess.TimeoutExpired:
                run.process.kill()
                run.process.wait()
