"""The launch arguments and nodes as data."""

from __future__ import annotations

import sys

import pytest

from laim_ros.bringup import ARGUMENTS, ArgumentError, command_line, nodes_for, parse_arguments
from laim_ros.parameters import TABLES


def started(**arguments: str) -> dict[str, object]:
    return {spec.name: spec for spec in nodes_for(arguments)}


def test_defaults_start_robot_and_edge_with_nothing_set() -> None:
    specs = started()
    assert list(specs) == ["robot", "edge"]
    for spec in specs.values():
        assert (spec.namespace, dict(spec.parameters), spec.remappings, spec.params_file) == ("/", {}, (), "")


@pytest.mark.parametrize(
    ("role", "demo_camera", "names"),
    [
        ("all", "false", ["robot", "edge"]),
        ("all", "true", ["robot", "edge", "camera", "annotator"]),
        ("robot", "false", ["robot"]),
        ("robot", "True", ["robot", "camera", "annotator"]),
        ("edge", "false", ["edge"]),
    ],
)
def test_role_and_demo_camera_choose_the_nodes(role: str, demo_camera: str, names: list[str]) -> None:
    assert list(started(role=role, demo_camera=demo_camera)) == names


@pytest.mark.parametrize(
    ("planner", "role", "names"),
    [
        ("auto", "all", ["robot", "edge", "planner"]),
        ("manual", "robot", ["robot", "planner"]),
        ("off", "robot", ["robot"]),
        ("off", "edge", ["edge"]),
    ],
)
def test_the_planner_runs_beside_the_robot_when_it_is_asked_for(planner: str, role: str, names: list[str]) -> None:
    specs = started(planner=planner, role=role)
    assert list(specs) == names
    if planner != "off":
        assert specs["planner"].parameters == {"mode": planner}


def test_deadline_and_mission_are_numbers_for_those_who_keep_them() -> None:
    specs = started(planner="auto", deadline_s="0.4", mission_s="3600")
    assert specs["robot"].parameters == {"deadline_s": 0.4}
    assert specs["edge"].parameters == {}
    assert specs["planner"].parameters == {"mode": "auto", "deadline_s": 0.4, "mission_s": 3600.0}
    assert "mission_s:=3600.0" in command_line(specs["planner"])
    assert started(deadline_s="1")["robot"].parameters == {"deadline_s": 1.0}


@pytest.mark.parametrize("namespace", ["r1", "/r1", "r1/", "/fleet/r1"])
def test_a_namespace_holds_the_robot_and_not_the_edge(namespace: str) -> None:
    specs = started(namespace=namespace, demo_camera="true", planner="auto")
    expected = "/" + namespace.strip("/")
    assert {name: spec.namespace for name, spec in specs.items()} == {
        "robot": expected,
        "edge": "/",
        "planner": expected,
        "camera": expected,
        "annotator": expected,
    }


@pytest.mark.parametrize("image", ["/camera/image_raw", "/camera/image_raw/compressed"])
def test_image_remaps_the_raw_and_the_compressed_topic(image: str) -> None:
    specs = started(image=image, demo_camera="true")
    expected = (("image", "/camera/image_raw"), ("image/compressed", "/camera/image_raw/compressed"))
    assert [specs[name].remappings for name in ("robot", "camera", "annotator")] == [expected] * 3
    assert specs["edge"].remappings == ()


def test_an_image_topic_that_is_compressed_is_read_as_such_unless_told_otherwise() -> None:
    assert started(image="/c/compressed")["robot"].parameters == {"image_transport": "compressed"}
    assert started(image="/c/compressed", image_transport="raw")["robot"].parameters == {"image_transport": "raw"}
    assert started(image="/c")["robot"].parameters == {}


def test_parameters_go_to_the_nodes_that_have_them() -> None:
    specs = started(
        model="owner/name",
        device="cuda:0",
        image_transport="compressed",
        use_sim_time="true",
        autostart="False",
        demo_camera="true",
    )
    common = {"use_sim_time": True, "autostart": False}
    assert {name: dict(spec.parameters) for name, spec in specs.items()} == {
        "robot": {"model": "owner/name", "image_transport": "compressed", **common},
        "edge": {"model": "owner/name", "device": "cuda:0", **common},
        "camera": {"image_transport": "compressed", **common},
        "annotator": {"image_transport": "compressed", **common},
    }


def test_choices_of_the_head_go_to_the_robot_alone() -> None:
    specs = started(weight_bits="4", quantizer="exponential", prune="heads:0.25", engine="torch", demo_camera="true")
    head = {"weight_bits": 4, "quantizer": "exponential", "prune": "heads:0.25", "engine": "torch"}
    assert {name: dict(spec.parameters) for name, spec in specs.items()} == {
        "robot": head,
        "edge": {},
        "camera": {},
        "annotator": {},
    }


def test_the_edge_may_have_a_model_of_its_own() -> None:
    specs = started(model="packed", edge_model="whole")
    assert (specs["robot"].parameters["model"], specs["edge"].parameters["model"]) == ("packed", "whole")
    assert started(edge_model="whole")["robot"].parameters == {}


def test_every_parameter_that_is_passed_on_exists() -> None:
    given = {
        argument.name: "1" if argument.number else (argument.choices or ("x",))[0]
        for argument in ARGUMENTS
        if argument.to_nodes
    }
    for spec in nodes_for({**given, "demo_camera": "true", "planner": "manual"}):
        for name, value in spec.parameters.items():
            if name != "use_sim_time":  # every ROS node has it
                next(parameter for parameter in TABLES[spec.name] if parameter.name == name).check(value)


def test_a_model_whose_name_looks_like_something_else_stays_text() -> None:
    for name in ("7", "true", "1e3", "null", "[a]"):
        spec = started(model=name)["robot"]
        assert spec.parameters["model"] == name
        assert f'model:="{name}"' in command_line(spec)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"speed": "1"}, "unknown argument 'speed'.*role.*demo_camera"),
        ({"role": "cloud"}, "role takes one of all, robot, edge, not 'cloud'"),
        ({"image_transport": "theora"}, "image_transport takes one of raw, compressed, not 'theora'"),
        ({"use_sim_time": "yes"}, "use_sim_time takes one of true, false, not 'yes'"),
        ({"log_level": "loud"}, "log_level takes one of debug"),
        ({"namespace": "robot-1"}, "namespace: 'robot-1' is not a ROS name"),
        ({"namespace": "a//b"}, "namespace: 'a//b' is not a ROS name"),
        ({"image": "/camera/0"}, "image: '/camera/0' is not a ROS name"),
        ({"image": "/camera/"}, "image: '/camera/' is not a ROS name"),
        ({"params_file": "no/such.yaml"}, r"params_file: there is no file .*no/such\.yaml"),
        ({"weight_bits": "9"}, "weight_bits takes one of 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, not '9'"),
        ({"engine": "warp"}, "engine takes one of auto, onednn, torch, float, not 'warp'"),
        ({"role": "edge", "weight_bits": "4"}, "weight_bits is the robot's.*leave it out"),
        ({"role": "edge", "prune": "heads:0.5"}, "prune is the robot's.*leave it out"),
        ({"role": "robot", "edge_model": "m"}, "edge_model is the edge's.*leave it out"),
        ({"role": "edge", "namespace": "r1"}, "namespace is the robot's.*leave it out"),
        ({"role": "edge", "planner": "auto"}, "planner is the robot's.*leave it out"),
        ({"role": "edge", "deadline_s": "1"}, "deadline_s is the robot's.*leave it out"),
        ({"mission_s": "60"}, "mission_s is the planner's.*planner:=auto"),
        ({"deadline_s": "-1"}, "deadline_s takes a number that is not negative, not '-1'"),
        ({"deadline_s": "soon"}, "deadline_s takes a number"),
        ({"role": "edge", "demo_camera": "true"}, "demo_camera starts the robot's camera"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_do(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        nodes_for(arguments)


def test_words_become_arguments() -> None:
    words = ["namespace:=r1", "model:=", "image:=/a:=b"]
    assert parse_arguments(words) == {"namespace": "r1", "model": "", "image": "/a:=b"}


@pytest.mark.parametrize(
    ("words", "message"),
    [(["role"], "'role' is not of the form name:=value"), (["a:=1", "a:=2"], "a is given twice")],
)
def test_words_of_another_form_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_arguments(words)


def test_command_line_in_full(tmp_path) -> None:
    params_file = tmp_path / "p.yaml"
    params_file.touch()
    spec = started(namespace="x", image="/cam", model="m", params_file=str(params_file), log_level="debug")["robot"]
    assert command_line(spec.with_parameters(rate_hz=5.0, autostart=False)) == [
        sys.executable,
        *("-m", "laim_ros.nodes.robot_node", "--ros-args"),
        *("-r", "__node:=robot", "-r", "__ns:=/x"),
        *("-r", "image:=/cam", "-r", "image/compressed:=/cam/compressed"),
        *("--params-file", str(params_file)),
        *("-p", 'model:="m"', "-p", "rate_hz:=5.0", "-p", "autostart:=false"),
        *("--log-level", "debug"),
    ]
