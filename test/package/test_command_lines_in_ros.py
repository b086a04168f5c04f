"""What real rclpy makes of the command lines: names, remappings, and which value wins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from laim_ros.bringup import command_line, nodes_for

_READ = """
import json, sys, rclpy
rclpy.init(args=sys.argv)
node = rclpy.create_node("other", automatically_declare_parameters_from_overrides=True)
parameters = {name: node.get_parameter(name).value for name in ("model", "prompt") if node.has_parameter(name)}
topics = [node.resolve_topic_name(name) for name in ("image", "image/compressed")]
print(json.dumps([node.get_fully_qualified_name(), topics, parameters]))
rclpy.shutdown()
"""


def as_rclpy_reads(arguments: dict[str, str]) -> list[object]:
    robot = nodes_for(arguments)[0]
    ros_arguments = command_line(robot)[3:]
    environment = {**os.environ, "ROS_DOMAIN_ID": "94", "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    done = subprocess.run(
        [sys.executable, "-c", _READ, *ros_arguments], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_names_and_remappings() -> None:
    name, topics, parameters = as_rclpy_reads({"namespace": "r1", "image": "/cam/image_raw", "model": "7"})
    assert name == "/r1/robot"
    assert topics == ["/cam/image_raw", "/cam/image_raw/compressed"]
    assert parameters == {"model": "7"}


@pytest.mark.parametrize("node", ["/**/robot", "/r1/robot", "/**"])
def test_an_argument_wins_over_the_parameter_file_and_an_empty_one_does_not(node: str, tmp_path: Path) -> None:
    params_file = tmp_path / "params.yaml"
    params_file.write_text(f"{node}:\n  ros__parameters:\n    model: of_file\n    prompt: of_file\n")
    given = {"namespace": "r1", "params_file": str(params_file)}
    assert as_rclpy_reads(given)[2] == {"model": "of_file", "prompt": "of_file"}
    assert as_rclpy_reads({**given, "model": "of_argument"})[2] == {"model": "of_argument", "prompt": "of_file"}


@pytest.mark.parametrize("namespace", ["", "r1"])
def test_the_generated_parameter_file_reaches_the_node_in_any_namespace(namespace: str) -> None:
    config = Path(__file__).parents[2] / "config" / "coinference.yaml"
    _, _, parameters = as_rclpy_reads({"namespace": namespace, "params_file": str(config)})
    assert parameters == {"model": "laim-mini-blip2", "prompt": ""}
