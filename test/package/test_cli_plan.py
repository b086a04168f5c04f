"""`laim plan`: numbers in, the plan and what speaks against the others out."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from laim_ros.cli import main
from laim_ros.planning import MachineProfile, PowerMode, StageTimes
from laim_ros.planning.kept import newest_kept, profile_cache
from laim_ros.planning.profiles import Calibrated

POINTS = ("input", "vit.1", "vision", "qformer", "output")
SHAPES = {"input": (96, 96, 3), "vit.1": (37, 96), "vision": (37, 96), "qformer": (8, 64)}
MODES = (PowerMode(0, 1, 5.0), PowerMode(1e9, 2.0, 2.0))


def profile(machine: str, stage_s: dict[int, float], **changes: object) -> MachineProfile:
    times = tuple(StageTimes(bits, dict.fromkeys(POINTS, seconds)) for bits, seconds in stage_s.items())
    fields = {"model": "m", "model_id": "0123", "engine": "torch", "split_points": POINTS, "shapes": SHAPES}
    return MachineProfile(machine=machine, times=times, **{**fields, **changes})


ROBOT = profile("a board", {32: 0.010, 8: 0.006, 4: 0.005}, modes=MODES, radio_w=1.0)
EDGE = profile("a GPU", {32: 0.002})


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "robot.json").write_text(ROBOT.to_json())
    (tmp_path / "edge.json").write_text(EDGE.to_json())
    return ("--robot-profile", str(tmp_path / "robot.json"), "--edge-profile", str(tmp_path / "edge.json"))


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    status = main(["plan", *words, "--json"])
    return status, json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


LIMITS = [
    ("--goodput", "300kbit", "--round-trip", "20ms", "--deadline", "100ms"),
    ("--goodput", "40kbit", "--deadline", "0.2s", "--energy-budget", "150mJ"),
    ("--goodput", "10Mbit", "--energy-budget", "0.12"),
    ("--goodput", "1.2Mbit/s", "--deadline", "60ms", "--tolerance", "0.2", "--split-points", "input,qformer"),
    ("--battery", "0.6", "--battery-wh", "10", "--mission", "2h", "--period", "0.5s"),
    (),
]


@pytest.mark.parametrize("words", LIMITS)
def test_the_winner_is_what_a_loop_over_the_rows_finds(
    words: tuple[str, ...], files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    status, answer = planned(capsys, *files, "--quality", "none", *words)
    rows, limits = answer["rows"], answer["limits"]
    deadline_s, energy_j = (math.inf if limits[name] is None else limits[name] for name in ("deadline_s", "energy_j"))
    keeping = [row for row in rows if row["delay_s"] <= deadline_s and row["energy_j"] <= energy_j]
    assert status == (0 if keeping else 1)
    assert keeping == [row for row in rows if row["timely"] and row["affordable"]]
    least = min(row["quality_loss"] for row in keeping) + limits["quality_tolerance"]
    best = min(
        (row for row in keeping if row["quality_loss"] <= least),
        key=lambda row: (row["energy_j"], row["delay_s"], row["quality_loss"]),
    )
    (chosen,) = [row for row in rows if row["chosen"]]
    assert chosen == rows[0]
    assert chosen == best
    for row in rows:
        worse = row in keeping and row["quality_loss"] > least
        assert ("points worse than the best" in row["why"]) == worse
        assert (row["why"] == "chosen") == row["chosen"]
        assert math.isclose(row["delay_s"], row["robot_s"] + row["link_s"] + row["edge_s"])


def test_a_rejection_names_the_limit_that_is_broken(files: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    words = (*files, "--quality", "none", "--goodput", "40kbit", "--deadline", "200ms", "--energy-budget", "250mJ")
    rows = planned(capsys, *words)[1]["rows"]
    for row in rows[1:]:
        assert ("of 200 ms" in row["why"]) == (row["delay_s"] > 0.2)
        assert ("of 250 mJ" in row["why"]) == (row["energy_j"] > 0.25)
    assert {(row["timely"], row["affordable"]) for row in rows} == {
        (a, b) for a in (True, False) for b in (True, False)
    }
    assert main(["plan", *words, "--most", "12"]) == 0
    shown = capsys.readouterr().out
    sentence, lines = shown.splitlines()[1], shown.splitlines()[3:]
    assert sentence.startswith("link 40 kbit/s: ")
    assert "250 mJ" in sentence or "200 ms" in sentence
    assert sum(" chosen" in line for line in lines) == 1
    assert sum(" needs " in line for line in lines) == 6
    assert f"{len(rows)} plans, {sum(row['timely'] and row['affordable'] for row in rows)} keep the limits" in shown


def test_the_least_bad_plan_is_shown_where_none_will_do(
    files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*files, "--quality", "none", "--goodput", "40kbit", "--deadline", "1ms")
    assert main(["plan", *words]) == 1
    assert "no plan keeps all limits" in capsys.readouterr().out
    rows = planned(capsys, *words)[1]["rows"]
    assert rows[0]["delay_s"] == min(row["delay_s"] for row in rows)


def test_units_and_the_battery_mean_what_they_say(files: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    words = (*files, "--quality", "none", "--split-points", "qformer", "--weight-bits", "8", "--feature-bits", "2,8")
    rate, plain = (planned(capsys, *words, "--goodput", rate)[1] for rate in ("0.3Mbit", "3e5"))
    assert rate == plain
    assert len(rate["rows"]) == 2 * len(MODES)
    assert {row["link_s"] for row in rate["rows"]} == {row["packet_bytes"] * 8 / 3e5 for row in rate["rows"]}
    battery = ("--battery", "0.6", "--battery-wh", "100", "--mission", "60min", "--share", "0.25", "--period", "2s")
    limits = planned(capsys, *words, *battery)[1]["limits"]
    assert math.isclose(limits["energy_j"], (0.6 - 0.1) * 100 * 3600 * 0.25 / (3600 / 2))
    assert limits["deadline_s"] is None


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--goodput", "fast"], 2, "'fast' is no number with a unit such as 1bit"),
        (["--goodput", "12Mb"], 2, "unit 'Mb' is none of bit, kbit"),
        (["--goodput", "0"], 2, "at least 1 bit"),
        (["--deadline", "-1s"], 2, "--deadline"),
        (["--weight-bits", "8,9"], 2, "'9' is not one of 1, 2"),
        (["--codecs", "jpeg"], 2, "'jpeg' is not klt, klt1 to klt60, plain or a picture format"),
        (["--codecs", "klt61"], 2, "'klt61' is not klt"),
        (["--split-points", "vit.9"], 2, "no split point 'vit.9', only input"),
        (["--battery", "0.5", "--mission", "1h"], 2, "--battery needs --battery-wh"),
        (["--mission", "1h"], 2, "--mission means something with --battery alone"),
        (["--battery", "0.5", "--energy-budget", "2J"], 2, "give one"),
        (["--delay", "2s"], 2, "--delay belongs to --paper"),
        (["--paper", "git"], 2, "--paper has no use for --robot-profile"),
        (["--robot-share", "0.2"], 2, "--robot-share belongs to --paper"),
        (["--quality", "nowhere.json"], 1, "nowhere.json"),
        (["--robot-profile", "nowhere.json"], 1, "nowhere.json"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    words: list[str], status: int, told: str, files: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *files, *words]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("laim plan: ")
    assert told in shown.err
    assert shown.err.count("\n") == 1


def test_profiles_that_nodes_have_kept_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["plan", "--model", "m"]) == 1
    assert "no profile of the robot is kept here for m: run `laim up`" in capsys.readouterr().err
    kept = tmp_path / "laim_ros" / "profiles"
    kept.mkdir(parents=True)
    assert kept == profile_cache()
    for age_s, machine in ((20, "an old board"), (10, "a new board")):
        path = kept / f"robot-0123-{age_s}.json"
        path.write_text(profile(machine, {32: 0.01}).to_json())
        os.utime(path, (1e9 - age_s, 1e9 - age_s))
    (kept / "robot-0123-5.json").write_text("broken")
    (kept / "robot-4567-1.json").write_text(profile("another's", {32: 0.01}, model="other").to_json())
    assert newest_kept("robot", model="m").machine == "a new board"
    assert main(["plan", "--model", "m"]) == 1
    assert "no profile of the edge is kept here for m" in capsys.readouterr().err
    assert {row["split_point"] for row in planned(capsys, "--model", "m", "--edge-profile", "none")[1]["rows"]} == {
        "output"
    }
    (kept / "edge-0123-1.json").write_text(EDGE.to_json())
    answer = planned(capsys, "--model", "m", "--quality", "none")[1]
    assert (answer["robot"], answer["edge"]) == ("a new board", "a GPU")


def test_codecs_are_told_apart_where_both_machines_have_the_same_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibrations = {"qformer": Calibrated("c1", tuple(float(size) for size in range(0, 110, 10)))}
    files = []
    for role, whole in (("robot", ROBOT), ("edge", EDGE)):
        path = tmp_path / f"{role}.json"
        path.write_text(replace(whole, calibrations=calibrations).to_json())
        files += [f"--{role}-profile", str(path)]
    words = [
        *files,
        "--quality",
        "none",
        "--split-points",
        "input,qformer",
        "--weight-bits",
        "8",
        "--feature-bits",
        "2",
    ]
    rows = planned(capsys, *words, "--codecs", "klt,klt9,plain,jpeg50,webp40")[1]["rows"]
    sizes = {row["codec"]: row["packet_bytes"] for row in rows}
    assert set(sizes) == {"klt", "klt9", "plain", "jpeg50"}, "the profiles have no WebP"
    assert (sizes["klt"], sizes["klt9"]) == (24 + 20, 24 + 15)
    assert main(["plan", *words, "--codecs", "klt,klt9,plain"]) == 0
    shown = capsys.readouterr().out
    for sends in (" klt 2 bits ", " klt9 ", " plain 2 bits "):
        assert sends in shown
    (tmp_path / "robot.json").write_text(ROBOT.to_json().replace('"version":2', '"version":1'))
    assert main(["plan", *words]) == 1
    assert "robot.json: profile: version 1, here is 2; measure it again" in capsys.readouterr().err


def test_the_papers_problem_has_the_most_bits_that_keep_its_limits(capsys: pytest.CaptureFixture[str]) -> None:
    status, answer = planned(capsys, "--paper", "blip2", "--delay", "1500ms", "--energy", "2J", "--robot-share", "0.6")
    chosen = [row for row in answer["rows"] if row["why"] == "chosen"]
    feasible = [row for row in answer["rows"] if row["feasible"]]
    assert status == 0
    assert chosen == [max(feasible, key=lambda row: row["weight_bits"])]
    assert all(row["delay_s"] <= 1.5 * (1 + 1e-9) and row["energy_j"] <= 2 * (1 + 1e-9) for row in feasible)
    assert {tuple(row["broken"]) for row in answer["rows"] if not row["feasible"]} >= {("delay", "the robot's clock")}
    assert main(["plan", "--paper", "blip2", "--delay", "1500ms", "--energy", "2J", "--robot-share", "0.6"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{chosen[0]['weight_bits']} bits per weight, the robot at ")
    assert "where 2 J are allowed" in shown
    assert main(["plan", "--paper", "git", "--delay", "1ms"]) == 1
    assert capsys.readouterr().out.startswith("nothing is feasible: ")


def test_neither_pytorch_nor_ros_is_imported(files: tuple[str, ...]) -> None:
    words = ["plan", *files, "--quality", "none", "--goodput", "1Mbit"]
    script = f"import sys; from laim_ros.cli import main; main({words}); print({{'torch', 'rclpy'}} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "set()"
