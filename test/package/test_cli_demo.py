"""What the words of `laim demo` ask for; test/system/test_demo.py runs it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from laim_ros.cli import main
from laim_ros.cli.demo import settings_from
from laim_ros.cli.parser import make_parser
from laim_ros.demo.link import LINK, phase_at
from laim_ros.demo.settings import TOUR, DemoSettings, PlanStep, free_domain
from laim_ros.parameters import TABLES


def settings(*words: str) -> DemoSettings:
    return settings_from(make_parser().parse_args(["demo", *words]))


def test_the_planner_chooses_for_half_a_minute_unless_plans_are_given() -> None:
    assert settings() == DemoSettings()
    assert settings().planned
    assert settings().seconds == 30
    assert settings("--deadline", "250ms").deadline_s == 0.25
    tour = settings("--tour")
    assert tour.steps == TOUR
    assert not tour.planned


def test_a_split_point_is_one_plan() -> None:
    assert settings("--split-point", "vision", "--feature-bits", "3").steps == (PlanStep("vision", 3),)
    assert settings("--split-point", "input", "--codec", "jpeg40").steps == (PlanStep("input", codec="jpeg40"),)
    assert settings("--split-point", "qformer", "--weight-bits", "4").steps == (PlanStep("qformer", weight_bits=4),)


def test_weights_stay_as_they_are_unless_a_step_asks_for_others() -> None:
    assert [step.parameters.get("weight_bits") for step in TOUR] == [None, None, None, 4, None]
    # No frame goes through the head of another step's bits: after it there are pictures, which need none.
    assert TOUR[-1].split_point == "input"


def test_places_follow_the_out_folder_unless_named() -> None:
    assert settings("--out", "a").sheet == Path("a/demo_sheet.png")
    assert settings("--out", "a").logs == Path("a/demo_logs")
    named = settings("--out", "a", "--sheet", "b.png", "--json", "c.json")
    assert (named.sheet, named.report) == (Path("b.png"), Path("c.json"))


def test_plans_share_the_time_and_a_short_demo_has_fewer() -> None:
    half_a_minute = settings("--seconds", "30", "--tour")
    assert [half_a_minute.step_at(at_s) for at_s in (0, 5.9, 6.1, 12.1, 18.1, 24.1, 99)] == [0, 0, 1, 2, 3, 4, 4]
    assert [settings("--seconds", "6", "--tour").step_at(at_s) for at_s in (0, 2.9, 3.1, 6)] == [0, 0, 1, 1]
    assert settings("--seconds", "1", "--tour").step_at(1) == 0


def test_the_link_is_good_sags_breaks_and_recovers() -> None:
    speeds = [LINK[phase_at(LINK, 100.0, at_s)].goodput_bps for at_s in range(101)]
    first, last = speeds[0], speeds[-1]
    sagged = min(speed for speed in speeds if speed)
    assert first == last > 20 * sagged
    assert [speed for speed, _ in groupby(speeds)] == [first, sagged, 0.0, last]


def test_with_the_planner_packets_go_through_the_shaper_alone() -> None:
    nodes = {spec.name: spec for spec in settings("--deadline", "300ms", "--seconds", "40").nodes()}
    assert list(nodes) == ["camera", "shaper", "robot", "edge", "planner"]
    assert (
        dict(nodes["robot"].remappings).items()
        >= {
            "laim/features": "laim/features_in",
            "laim/probe": "laim/probe_in",
        }.items()
    )
    assert nodes["shaper"].parameters["goodput_bps"] == LINK[0].goodput_bps
    assert nodes["robot"].parameters["last_split"] == "output", "or there is nothing to do in an outage"
    assert nodes["planner"].parameters.items() >= {"mode": "auto", "deadline_s": 0.3, "mission_s": 40.0}.items()
    assert nodes["camera"].parameters["publish_battery"] is True
    assert 40 < settings("--seconds", "40").battery_life_s < nodes["camera"].parameters["battery_life_s"]
    for name, spec in nodes.items():
        for parameter, value in spec.parameters.items():
            next(entry for entry in TABLES[name] if entry.name == parameter).check(value)


def test_the_nodes_get_what_was_asked_for() -> None:
    asked = settings("--rate-hz", "7", "--seed", "5", "--model", "m", "--split-point", "vit.1", "--feature-bits", "2")
    nodes = {spec.name: spec.parameters for spec in asked.nodes()}
    assert list(nodes) == ["camera", "robot", "edge"]
    assert nodes["camera"]["rate_hz"] == 7
    assert nodes["camera"]["seed"] == 5
    assert nodes["robot"].items() >= {"model": "m", "split_point": "vit.1", "feature_bits": 2}.items()
    assert nodes["edge"]["model"] == "m"


def test_a_robot_that_does_everything_loads_everything() -> None:
    nodes = {spec.name: spec.parameters for spec in settings("--split-point", "output").nodes()}
    assert nodes["robot"]["last_split"] == "output"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--split-point", "middle"], "split_point 'middle'"),
        (["--split-point", "qformer", "--feature-bits", "9"], "feature_bits 9"),
        (["--split-point", "qformer", "--codec", "jpeg90"], "codec 'jpeg90'"),
        (["--feature-bits", "4"], "--split-point"),
        (["--tour", "--split-point", "qformer"], "--tour"),
        (["--tour", "--deadline", "1s"], "--deadline"),
        (["--deadline", "soon"], "--deadline"),
        (["--weight-bits", "4"], "--split-point"),
        (["--split-point", "qformer", "--weight-bits", "0"], "weight_bits 0"),
        (["--rate-hz", "0"], "--rate-hz"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_starts(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["demo", "--out", str(tmp_path / "out"), *words]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("laim demo: ")
    assert told in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_told_before_anything_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "out")]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert main(["demo", "--out", str(tmp_path), "--json", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_a_free_domain_is_one_that_every_system_can_have() -> None:
    assert all(1 <= free_domain() <= 101 for _ in range(5))
