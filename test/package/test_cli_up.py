"""`laim up`: the words of `ros2 launch`, and processes that end with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from laim_ros.bringup import ARGUMENTS
from laim_ros.cli import main

PATIENCE_S = 240.0


def test_show_args_names_every_argument_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--show-args"]) == 0
    shown = capsys.readouterr().out
    for argument in ARGUMENTS:
        assert re.search(rf"\n  {argument.name}\n      .+\n .*default: '{argument.default}'", shown), argument.name


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["camera:=true"], "unknown argument 'camera'"),
        (["role"], "'role' is not of the form name:=value"),
        (["role:=boss"], "role takes one of all, robot, edge"),
        (["role:=edge", "role:=robot"], "given twice"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", *words]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("laim up: ")
    assert told in shown
    assert shown.count("\n") == 1


def test_lines_begin_with_the_node_and_all_ends_on_an_interrupt() -> None:
    environment = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "laim_ros.cli", "up", "namespace:=r1", "autostart:=false", "demo_camera:=true"]
    up = subprocess.Popen(
        [*command, "log_level:=debug"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    expected, seen, deadline_s = {"r1/robot", "r1/camera", "r1/annotator", "edge"}, set(), time.monotonic() + PATIENCE_S
    try:
        for line in up.stdout:
            seen |= set(re.findall(r"^\[([\w/]+)\] ", line))
            if seen == expected or time.monotonic() > deadline_s:
                break
        children = _children(up.pid)
        up.send_signal(signal.SIGINT)
        rest = up.communicate(timeout=PATIENCE_S)[0]
    finally:
        if up.poll() is None:
            up.kill()
    assert seen == expected, rest
    assert len(children) == 4
    assert up.returncode == 0
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]


def test_a_node_that_ends_ends_the_others() -> None:
    environment = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "laim_ros.cli", "up", "autostart:=false", "log_level:=debug"]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        up.stdout.readline()
        children = _children(up.pid)
        os.kill(children[0], signal.SIGKILL)
        errors = up.communicate(timeout=PATIENCE_S)[1]
    finally:
        if up.poll() is None:
            up.kill()
    assert up.returncode == 1
    assert re.fullmatch(r"laim up: \w+ was ended by SIGKILL; the others are ended too", errors.splitlines()[-1])
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]


def _children(parent: int) -> list[int]:
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        return [int(pid) for pid in file.read().split()]
