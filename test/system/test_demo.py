"""`laim demo` as a newcomer runs it: real nodes, real DDS, the model that ships."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from pathlib import Path

import cv2
import pytest
from demo_runs import laim

from laim_ros.demo.link import LINK
from laim_ros.paths import checkpoints_directory

NAME = "laim-mini-blip2"
QUICK = ("--seconds", "5", "--start-limit", "270")
ENDLESS = ("--seconds", "3600", "--start-limit", "270")
NODES = ("camera", "shaper", "robot", "edge", "planner")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model that ships, or a random one where it does not."""
    if (checkpoints_directory() / NAME / "config.json").is_file():
        return NAME
    from laim_ros.models.random_checkpoint import make_random_blip2

    return str(make_random_blip2(tmp_path_factory.mktemp("checkpoint") / "random"))


def test_the_tour_shows_captions_and_writes_figures_and_a_contact_sheet(model: str, tmp_path: Path) -> None:
    # Long enough for several frames of each plan on a machine that is busy with other things.
    tour = ("--tour", "--seconds", "15", "--start-limit", "270")
    with laim("demo", *tour, "--model", model, "--json", "figures/demo.json", folder=tmp_path) as run:
        status = run.end()
        assert status == 0, run.output + run.errors
        assert run.descendants() == []
    for node in ("camera", "robot", "edge"):
        assert f"{node} ready" in run.output
        assert (tmp_path / "out" / "demo_logs" / f"{node}.log").is_file()
    assert "captions true and complete" in run.output

    figures = json.loads((tmp_path / "figures" / "demo.json").read_text())
    assert figures["frames"] == len(figures["each_frame"]) >= 4
    assert 0 <= figures["true_share"] <= 1
    assert figures["bytes_per_frame"] > 100
    assert 0 < figures["latency_p50_s"] <= figures["latency_p95_s"] < 60
    assert {"laim_ros", "torch", "transformers", "rclpy", "python"} <= figures["versions"].keys()
    assert all(figures["versions"][name] for name in ("laim_ros", "torch", "transformers", "rclpy", "python"))

    for frame in figures["each_frame"]:
        assert frame["true_caption"]
        assert frame["packet_bytes"] > 0
        parts = frame["robot_s"] + frame["link_s"] + frame["edge_s"]
        assert math.isclose(parts, frame["latency_s"], rel_tol=1e-3)
    right = sum(frame["right"] for frame in figures["each_frame"])
    assert math.isclose(figures["true_share"], right / figures["frames"])
    codec = "klt" if model == NAME else "plain"
    plans = [(plan["split_point"], plan["sent_as"], plan["weights"]) for plan in figures["plans"]]
    assert plans == [
        ("qformer", f"8 {codec}", "32"),
        ("qformer", f"2 {codec}", "32"),
        ("vit.2", f"2 {codec}", "32"),
        ("qformer", f"2 {codec}", "4"),
        ("input", "jpeg90", "–"),
    ]
    assert figures["plans"][1]["bytes_per_frame"] < figures["plans"][0]["bytes_per_frame"]
    assert model != NAME or figures["plans"][1]["bytes_per_frame"] < 60
    assert sum(plan["frames"] for plan in figures["plans"]) == figures["frames"]

    sheet = cv2.imread(str(tmp_path / "out" / "demo_sheet.png"))
    assert sheet is not None
    tiles_across = min(4, len({frame["true_caption"] for frame in figures["each_frame"]}) + 1)
    assert sheet.shape[1] >= 400 * min(2, tiles_across)
    assert sheet.shape[0] > 396 + 84
    assert sheet.std() > 20  # something is on it


def test_demo_with_a_plan_of_its_own_asks_and_keeps_to_it(model: str, tmp_path: Path) -> None:
    plan = ("--split-point", "input", "--codec", "jpeg50")
    with laim("demo", *QUICK, *plan, "--model", model, "--json", "demo.json", folder=tmp_path) as run:
        assert run.end() == 0, run.output + run.errors
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert [(entry["split_point"], entry["sent_as"]) for entry in figures["plans"]] == [("input", "jpeg50")]
    for entry in figures["questions"]["answers"]:
        assert entry["question"]
        assert entry["true_answer"]
        assert entry["right"] == (entry["answer"] == entry["true_answer"])


def test_the_planner_follows_the_link_and_says_why(model: str, tmp_path: Path) -> None:
    arguments = ("--seconds", "20", "--start-limit", "270", "--model", model, "--json", "demo.json")
    with laim("demo", *arguments, folder=tmp_path) as run:
        status = run.end()
        assert status == 0, run.output + run.errors
        assert run.descendants() == []
    for node in NODES:
        assert f"{node} ready" in run.output
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert [each["goodput_bps"] for each in figures["link_set"]] == [phase.goodput_bps for phase in LINK]
    assert "16 kbit/s (a token bucket inside this demo)" in run.output
    charges = [each["charge"] for each in figures["battery"] if each["charge"] is not None]
    assert charges[0] > 0.9
    assert charges[-1] < 0.5
    decided = [each for each in figures["plan_history"] if each["choices"]]
    assert len(decided) >= 2, run.output
    assert all(each["reason"] and each["deadline_s"] == figures["deadline_s"] for each in decided)
    for each in decided:
        assert f"plan: {each['plan']}, because {each['reason']}" in run.output
    # What the planner decided is what was carried out.
    split_points = {each["split_point"] for each in decided}
    assert split_points & {frame["split_point"] for frame in figures["each_frame"]}
    alone = [frame for frame in figures["each_frame"] if frame["split_point"] == "output"]
    assert all(frame["packet_bytes"] == 0 and frame["latency_s"] > 0 for frame in alone)
    assert any(frame["at_s"] > 14 for frame in figures["each_frame"]), "captions flow after the outage"
    assert cv2.imread(str(tmp_path / "out" / "demo_sheet.png")).shape[0] > 396 + 84 + 400


@pytest.mark.parametrize("when", [r"starting", r"camera ready"])
def test_an_interrupt_leaves_no_process_behind(when: str, model: str, tmp_path: Path) -> None:
    with laim("demo", "--tour", *ENDLESS, "--model", model, folder=tmp_path) as run:
        run.wait_for(when)
        assert run.end(signal.SIGINT) == 128 + signal.SIGINT
        assert run.descendants() == []
    assert "Traceback" not in run.output + run.errors


def test_being_terminated_leaves_no_process_behind_and_shows_what_there_was(model: str, tmp_path: Path) -> None:
    with laim("demo", "--tour", *ENDLESS, "--model", model, "--json", "demo.json", folder=tmp_path) as run:
        run.wait_for(r"\n +[\d.]+s [✓✗] ")
        assert run.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert run.descendants() == []
    assert json.loads((tmp_path / "demo.json").read_text())["frames"] >= 1
    assert (tmp_path / "out" / "demo_sheet.png").is_file()


def test_being_killed_leaves_no_process_behind(model: str, tmp_path: Path) -> None:
    with laim("demo", *ENDLESS, "--model", model, folder=tmp_path) as run:
        run.wait_for(r"planner ready")
        assert len(run.descendants()) == len(NODES)
        run.end(signal.SIGKILL)
        run.wait_until_alone()


def test_a_node_that_dies_is_named_with_the_end_of_its_log(model: str, tmp_path: Path) -> None:
    with laim("demo", "--tour", *ENDLESS, "--model", model, folder=tmp_path) as run:
        run.wait_for(r"plan: ")
        os.kill(run.node_pid("edge"), signal.SIGKILL)
        assert run.end() == 1
        assert run.descendants() == []
    assert run.errors.splitlines()[-1] == "laim demo: edge was ended by SIGKILL"
    assert "serving robot" in run.errors


def test_a_split_point_that_the_model_does_not_have_is_one_clear_message(model: str, tmp_path: Path) -> None:
    with laim("demo", "--split-point", "vit.99", "--model", model, "--start-limit", "270", folder=tmp_path) as run:
        assert run.end() == 1
        assert run.descendants() == []
    assert "vit.99" in run.errors.splitlines()[-1]


def test_no_caption_in_time_says_which_node_is_late(model: str, tmp_path: Path) -> None:
    with laim("demo", "--tour", "--model", model, "--start-limit", "1", folder=tmp_path) as run:
        assert run.end() == 1
        assert run.descendants() == []
    # The camera is quick: it may or may not have come up by then. The robot has not.
    assert re.search(r"laim demo: no caption within 1 s: .*robot is \w", run.errors.splitlines()[-1])
