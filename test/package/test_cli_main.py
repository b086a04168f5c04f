"""The `laim` command itself: help at once, errors of one line, exit statuses."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import laim_ros
from laim_ros.cli import main

HEAVY = ("torch", "transformers", "rclpy", "cv2", "rich", "numpy")


def test_help_and_version_import_nothing_heavy() -> None:
    script = (
        "import contextlib, sys\n"
        "from laim_ros.cli import main\n"
        "for words in (['--help'], ['--version'], ['demo', '--help'], ['quantize', '--help'], ['up', '--show-args'],\n"
        "              ['params']):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main(words)\n"
        f"print('HEAVY', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    verbs = re.findall(r"^    ([a-z]+)(?: |$)", shown, re.MULTILINE)
    assert verbs == ["demo", "up", "caption", "models", "quantize", "calibrate", "plan", "params"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"laim_ros {laim_ros.__version__}\n"


def test_without_a_verb_the_help_is_shown_and_the_usage_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "laim VERB --help" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "command", "told"),
    [
        (["nonsense"], "laim", "nonsense"),
        (["demo", "--nonsense"], "laim", "--nonsense"),
        (["demo", "--seconds", "soon"], "laim demo", "'soon' is no number from 1 to 86400"),
        (["up", "--nonsense"], "laim", "--nonsense"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], command: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"{command}: ")
    assert told in shown.err
    assert shown.err.count("\n") == 1
