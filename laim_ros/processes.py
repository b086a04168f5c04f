"""Nodes as child processes: started in process groups of their own, and ended so that nothing is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

PATIENCE_S: Mapping[signal.Signals, float] = {signal.SIGINT: 8.0, signal.SIGTERM: 4.0, signal.SIGKILL: 5.0}
"""The signals that end a child, politest first, and how long each is given to work."""


class Child:
    """A child process, the leader of its own process group: a Ctrl-C in the terminal reaches it through us alone.

    Should this process be killed outright, the kernel terminates the child.

    Args:
        name: for people.
        command: program and arguments.
        environment: all of its environment variables.
        output: open file, or `subprocess.PIPE`, for its stdout and stderr together.

    Raises:
        OSError: the program cannot be started.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | int
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.process = subprocess.Popen(
            [sys.executable, "-IS", str(Path(__file__).resolve()), str(os.getpid()), *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative where a signal ended it."""
        return self.process.poll()

    def send(self, sent: signal.Signals) -> None:
        """Sends a signal to the whole group; a group that has ended is left alone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, sent)

    @property
    def group_ended(self) -> bool:
        """Whether no process of its group is left."""
        if self.process.poll() is None:
            return False
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


def end_all(children: Sequence[Child], patience_s: Mapping[signal.Signals, float] = PATIENCE_S) -> None:
    """Ends all children and whatever they started: SIGINT, then SIGTERM, then SIGKILL to their groups."""
    for sent, wait_s in patience_s.items():
        left = [child for child in children if not child.group_ended]
        for child in left:
            child.send(sent)
        deadline_s = time.monotonic() + wait_s
        while left and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
            left = [child for child in left if not child.group_ended]
        if not left:
            return


def exit_in_words(status: int) -> str:
    """`ended with status 2`, or `was ended by SIGKILL`."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _become(parent: int, command: Sequence[str]) -> None:
    """Turns this process into `command`, tied to the life of its parent (Linux; elsewhere it is not tied)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            raise SystemExit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise SystemExit(f"cannot start {command[0]}: {error.strerror}") from None


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
