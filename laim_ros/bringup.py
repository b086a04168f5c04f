"""What to start: the launch arguments and the nodes as data.

`launch/coinference.launch.py`, `laim up` and `laim demo` all read this, so the same words start the same system with
and without ROS's own launch tool. Nothing here imports ROS.

An argument left empty is not passed on: the node keeps what `params_file` says, or else its default. An argument that
is given wins over `params_file`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from laim_ros.parameters import ENGINES, QUANTIZERS, ParameterValue
from laim_ros.plan import BIT_WIDTHS

PACKAGE = "laim_ros"

_BOOLEANS = ("true", "false")
_BIT_WIDTHS = tuple(str(bits) for bits in BIT_WIDTHS)
_TOPIC = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COMPRESSED = "/compressed"


class ArgumentError(ValueError):
    """A launch argument that is unknown or has a value it does not take; the message names it and what would do."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One launch argument.

    Attributes:
        name: as written before `:=`.
        default: value when it is not given; "" leaves the matter to `params_file` and the node.
        description: one sentence for people.
        choices: the values allowed besides the default; empty for any.
        to_nodes: True where nodes have a parameter of this name and, unless it is empty, get it.
        number: True where the value is a number that is not negative.
    """

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()
    to_nodes: bool = False
    number: bool = False

    def help(self) -> str:
        """The description, with the choices and what an empty value means."""
        choices = f" One of: {', '.join(self.choices)}." if self.choices else ""
        empty = " Empty: as params_file or the node has it." if self.to_nodes else ""
        return self.description + choices + empty

    def check(self, value: str) -> str:
        """`value`, in lower case where it is a choice.

        Raises:
            ArgumentError: not among the choices, or no number.
        """
        if self.number and value and not _NUMBER.fullmatch(value):
            raise ArgumentError(f"argument {self.name} takes a number that is not negative, not '{value}'")
        if not self.choices or value == self.default:
            return value
        if value.lower() not in self.choices:
            raise ArgumentError(f"argument {self.name} takes one of {', '.join(self.choices)}, not '{value}'")
        return value.lower()


ARGUMENTS: tuple[Argument, ...] = (
    Argument("role", "all", "What runs on this machine.", ("all", "robot", "edge")),
    Argument("namespace", "", "Namespace of the robot. The edge has none: it serves every robot that it finds."),
    Argument("model", "", "Shipped name, local folder or hub id of the model, on both sides.", to_nodes=True),
    Argument(
        "edge_model", "", "Model of the edge, where the robot's is a packed head whose own model is not found here."
    ),
    Argument("weight_bits", "", "Bits per weight of the robot's head.", _BIT_WIDTHS, to_nodes=True),
    Argument("quantizer", "", "How the robot's weights become codes of 1 to 8 bits.", QUANTIZERS, to_nodes=True),
    Argument("prune", "", "What the robot's head does without, such as heads:0.25,neurons:0.25.", to_nodes=True),
    Argument("engine", "", "What runs the robot's quantized head.", ENGINES, to_nodes=True),
    Argument("device", "", "Where the edge runs the model: cpu, cuda, cuda:N or auto.", to_nodes=True),
    Argument(
        "planner",
        "off",
        "Sets the robot's plan for battery, link and deadline (auto), or only says what it would set (manual).",
        ("auto", "manual", "off"),
    ),
    Argument("deadline_s", "", "Longest time from an image to its result; 0 is none.", to_nodes=True, number=True),
    Argument("mission_s", "", "How long the battery must last; 0 is no limit.", to_nodes=True, number=True),
    Argument("image", "", "Image topic of the camera, in place of `image`; TOPIC/compressed follows it."),
    Argument("image_transport", "", "Which of the two image topics is read.", ("raw", "compressed"), to_nodes=True),
    Argument("params_file", "", "YAML file of node parameters, like config/coinference.yaml."),
    Argument("use_sim_time", "", "Take the time from /clock, as when a bag is played.", _BOOLEANS, to_nodes=True),
    Argument("autostart", "", "Nodes configure and activate themselves.", _BOOLEANS, to_nodes=True),
    Argument(
        "log_level", "info", "Least severe messages that are logged.", ("debug", "info", "warn", "error", "fatal")
    ),
    Argument("demo_camera", "false", "Also start a camera of synthetic scenes and the annotator.", _BOOLEANS),
)


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node to start, in one process.

    Attributes:
        executable: name for `ros2 run laim_ros EXECUTABLE`.
        module: the same as a Python module with a `main`.
        name: node name.
        namespace: absolute namespace; "/" is the root.
        parameters: what is set on top of `params_file`.
        remappings: (from, to) names.
        params_file: absolute path of a YAML file, or "".
        log_level: least severe messages that are logged.
    """

    executable: str
    module: str
    name: str
    namespace: str = "/"
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()
    params_file: str = ""
    log_level: str = "info"

    def with_parameters(self, **values: ParameterValue) -> NodeSpec:
        """The same node with more parameters set."""
        return replace(self, parameters={**self.parameters, **values})


@dataclass(frozen=True, slots=True)
class _Template:
    """A node before the arguments are known: on which side it runs, and what it takes from them.

    `parameters` names the node's parameters that have an argument; `only_with` what must have a value other than
    `off` and `false` for the node to be started.
    """

    name: str
    side: str
    parameters: tuple[str, ...]
    sees_images: bool = False
    only_with: str = ""

    def runs(self, values: Mapping[str, str]) -> bool:
        wanted = not self.only_with or values[self.only_with] not in ("off", "false")
        return values["role"] in ("all", self.side) and wanted

    def value(self, name: str, values: Mapping[str, str]) -> str:
        own = values["edge_model"] if (name, self.side) == ("model", "edge") else ""
        return own or values[_ARGUMENT_OF.get(name, name)]


_ARGUMENT_OF = {"mode": "planner"}
"""Argument of a parameter of another name."""

_COMMON = ("use_sim_time", "autostart")
_HEAD = ("weight_bits", "quantizer", "prune", "engine")
_TEMPLATES: tuple[_Template, ...] = (
    _Template("robot", "robot", ("model", *_HEAD, "deadline_s", "image_transport", *_COMMON), sees_images=True),
    _Template("edge", "edge", ("model", "device", *_COMMON)),
    _Template("planner", "robot", ("mode", "deadline_s", "mission_s", *_COMMON), only_with="planner"),
    _Template("camera", "robot", ("image_transport", *_COMMON), sees_images=True, only_with="demo_camera"),
    _Template("annotator", "robot", ("image_transport", *_COMMON), sees_images=True, only_with="demo_camera"),
)


def nodes_for(arguments: Mapping[str, str]) -> list[NodeSpec]:
    """The nodes that these launch arguments start; arguments that are missing have their defaults.

    Raises:
        ArgumentError: an argument is unknown, has a value that it does not take, or contradicts another.
    """
    values = _checked(arguments)
    namespace = "/" + values["namespace"].strip("/")
    remappings = _image_remappings(values["image"])
    return [
        NodeSpec(
            executable=f"{template.name}_node",
            module=f"{PACKAGE}.nodes.{template.name}_node",
            name=template.name,
            namespace=namespace if template.side == "robot" else "/",
            parameters={
                name: _typed(name, value) for name in template.parameters if (value := template.value(name, values))
            },
            remappings=remappings if template.sees_images else (),
            params_file=values["params_file"],
            log_level=values["log_level"],
        )
        for template in _TEMPLATES
        if template.runs(values)
    ]


def command_line(spec: NodeSpec) -> list[str]:
    """The command that starts a node with the Python that runs this, as `ros2 run` would."""
    command = [sys.executable, "-m", spec.module, "--ros-args", "-r", f"__node:={spec.name}"]
    if spec.namespace != "/":
        command += ["-r", f"__ns:={spec.namespace}"]
    for source, target in spec.remappings:
        command += ["-r", f"{source}:={target}"]
    if spec.params_file:
        command += ["--params-file", spec.params_file]
    for name, value in spec.parameters.items():
        # JSON is YAML: quotes keep a model called 7 a string.
        command += ["-p", f"{name}:={json.dumps(value, ensure_ascii=False)}"]
    return [*command, "--log-level", spec.log_level]


def parse_arguments(words: Iterable[str]) -> dict[str, str]:
    """`name:=value` words as a dictionary, as the `ros2 launch` command takes them.

    Raises:
        ArgumentError: a word has another form, or names an argument twice.
    """
    arguments: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not separator or not name:
            raise ArgumentError(f"'{word}' is not of the form name:=value; {_known(ARGUMENTS)}")
        if name in arguments:
            raise ArgumentError(f"argument {name} is given twice")
        arguments[name] = value
    return arguments


def _checked(arguments: Mapping[str, str]) -> dict[str, str]:
    """All arguments, defaults filled in, each one and their combination checked."""
    known = {argument.name: argument for argument in ARGUMENTS}
    for name in arguments:
        if name not in known:
            raise ArgumentError(f"unknown argument '{name}'; {_known(ARGUMENTS)}")
    values = {name: argument.check(arguments.get(name, argument.default)) for name, argument in known.items()}
    if values["namespace"].strip("/"):
        _check_name("namespace", values["namespace"].rstrip("/"))
    if values["image"]:
        _check_name("image", values["image"])
        if values["image"].endswith(_COMPRESSED) and not values["image_transport"]:
            values["image_transport"] = "compressed"
    _refuse_what_is_lost(values)
    values["params_file"] = _params_file(values["params_file"])
    return values


def _refuse_what_is_lost(values: Mapping[str, str]) -> None:
    """What belongs to the other side would be lost without a word on a machine that runs one side alone."""
    if values["role"] == "robot" and values["device"]:
        raise ArgumentError(
            "argument device is the edge's; with role 'robot' leave it out, and set the robot's parameter device in "
            "a params_file"
        )
    if values["role"] == "robot" and values["edge_model"]:
        raise ArgumentError("argument edge_model is the edge's; with role 'robot' leave it out")
    if values["mission_s"] and values["planner"] == "off":
        raise ArgumentError("argument mission_s is the planner's; start that with planner:=auto, or leave it out")
    if values["role"] != "edge":
        return
    for name, reason in {
        **dict.fromkeys(_HEAD, "the edge runs whatever the robot leaves it"),
        **dict.fromkeys(("image", "image_transport"), "the edge sees no images"),
        **dict.fromkeys(("planner", "deadline_s", "mission_s"), "the planner runs beside the robot"),
    }.items():
        if values[name] not in ("", "off"):
            raise ArgumentError(f"argument {name} is the robot's; with role 'edge' leave it out: {reason}")
    if values["namespace"].strip("/"):
        raise ArgumentError(
            "argument namespace is the robot's; with role 'edge' leave it out: the edge serves every namespace "
            "(its parameter robots narrows that)"
        )
    if values["demo_camera"] == "true":
        raise ArgumentError("argument demo_camera starts the robot's camera; use it with role 'robot' or 'all'")


def _check_name(argument: str, name: str) -> None:
    if not _TOPIC.fullmatch(name):
        raise ArgumentError(
            f"argument {argument}: '{name}' is not a ROS name: words of letters, digits and _ that do not start with a "
            "digit, joined by single /"
        )


def _params_file(name: str) -> str:
    if not name:
        return ""
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise ArgumentError(f"argument params_file: there is no file {path}")
    return str(path)


def _image_remappings(image: str) -> tuple[tuple[str, str], ...]:
    """Remappings of the raw and the compressed image topic; `image` may name either."""
    if not image:
        return ()
    raw = image.removesuffix(_COMPRESSED)
    return (("image", raw), ("image" + _COMPRESSED, raw + _COMPRESSED))


def _typed(name: str, value: str) -> ParameterValue:
    """The argument's text as a parameter value."""
    argument = next(argument for argument in ARGUMENTS if argument.name == _ARGUMENT_OF.get(name, name))
    if argument.choices == _BOOLEANS:
        return value == "true"
    if argument.number:
        return float(value)
    return int(value) if argument.choices == _BIT_WIDTHS else value


def _known(arguments: Sequence[Argument]) -> str:
    return f"arguments are {', '.join(argument.name for argument in arguments)}"
