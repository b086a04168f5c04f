"""Children that end with us, whatever they do about it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from laim_ros.processes import Child, end_all, exit_in_words

SHORT = {signal.SIGINT: 0.5, signal.SIGTERM: 0.5, signal.SIGKILL: 20.0}
READY = "print('ready', flush=True)"


def child(code: str) -> Child:
    made = Child("child", [sys.executable, "-c", code], os.environ, subprocess.PIPE)
    assert made.process.stdout.readline() == b"ready\n", made.process.stdout.read()
    return made


@pytest.mark.parametrize(
    ("before", "status"),
    [
        ("", -signal.SIGINT),
        ("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); ", -signal.SIGTERM),
        ("import signal; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; ", -signal.SIGKILL),
    ],
)
def test_a_child_is_asked_politely_first_and_killed_last(before: str, status: int) -> None:
    code = f"import time; {before}{READY}; time.sleep(600)"
    stubborn = child(code)
    end_all([stubborn], SHORT)
    assert stubborn.exit_status == status
    assert stubborn.group_ended


def test_what_a_child_has_started_ends_too() -> None:
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); " + READY
    parent = child(code)
    parent.process.wait()
    assert not parent.group_ended
    end_all([parent], SHORT)
    assert parent.group_ended


def test_a_child_ends_when_we_are_killed() -> None:
    # The child tells its own number, when it is past the moment in which it finds its parent gone by itself.
    child_code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    code = (
        "import os, sys, time; from laim_ros.processes import Child\n"
        f"Child('c', [sys.executable, '-c', {child_code!r}], os.environ, sys.stdout)\n"
        "time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    us = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    pid = int(us.stdout.readline())
    us.kill()
    us.wait()
    deadline_s = time.monotonic() + 60
    try:
        while _lives(pid):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise


def test_a_program_that_is_not_there_says_so() -> None:
    missing = Child("c", ["no_such_program"], os.environ, subprocess.PIPE)
    assert b"cannot start no_such_program" in missing.process.stdout.read()
    assert missing.process.wait() == 1


def test_exits_in_words() -> None:
    assert exit_in_words(2) == "ended with status 2"
    assert exit_in_words(-9) == "was ended by SIGKILL"


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
