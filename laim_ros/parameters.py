"""Every ROS parameter of every node, declared once as data.

The nodes declare from these tables, `config/coinference.yaml` and the table in the README are generated from them, and
nothing else repeats a default. No ROS here, so that tools can read the tables where ROS is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from laim_ros.plan import BIT_WIDTHS, PICTURE_FORMATS, Plan, PlanError

ParameterValue = bool | int | float | str | list[str]

DEFAULT_MODEL = "laim-mini-blip2"
DEFAULT_PICTURE_CODEC = "jpeg90"
_MOST_KLT_BITS = 8

QUANTIZERS = ("auto", "uniform", "uniform_l1", "uniform_absmax", "power_of_two", "exponential", "exponential_l1")
ENGINES = ("auto", "onednn", "torch", "float")
"""What `laim_ros.quantization` knows by name. Repeated here, because importing it takes PyTorch; a test compares."""

CLOCKS = ("none", "cpufreq")
ENERGY_METERS = ("auto", "none", "rapl", "ina")
"""What `laim_ros.power` knows by name. Repeated here, so that the tables need nothing else; a test compares."""


class ParameterValueError(ValueError):
    """A value that a parameter does not take; the message names the parameter and what it takes."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One ROS parameter.

    Attributes:
        name: name, with its unit where it has one.
        default: default value; its type is the parameter's type. An integer is also taken where the default is a float.
        description: one sentence for people.
        minimum, maximum: inclusive bounds of a number; None where there is none.
        choices: the values allowed, or empty for any.
        live: True where a change acts on a node that runs; False where it is read when the node is configured.
    """

    name: str
    default: ParameterValue
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[ParameterValue, ...] = ()
    live: bool = False

    def check(self, value: object) -> ParameterValue:
        """`value` in the type of the default.

        Raises:
            ParameterValueError: wrong type, out of bounds, or not among the choices.
        """
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if kind is list and isinstance(value, (list, tuple)):
            value = list(value)
        if type(value) is not kind or (kind is list and not all(isinstance(item, str) for item in value)):
            raise ParameterValueError(f"{self.name} takes {_TYPE_NAMES[kind]}, not {value!r}")
        if self.choices and value not in self.choices:
            raise ParameterValueError(f"{self.name} takes one of {_listed(self.choices)}, not {value!r}")
        if kind in (int, float) and not self._in_bounds(value):
            raise ParameterValueError(f"{self.name} takes {self.bounds()}, not {value!r}")
        return value

    def bounds(self) -> str:
        """The values allowed, in words: `0 … 60`, `one of a, b`, or an empty string."""
        if self.choices:
            return f"one of {_listed(self.choices)}"
        if self.minimum is None and self.maximum is None:
            return ""
        if self.maximum is None:
            return f"{self.minimum:g} or more"
        return f"{self.minimum:g} … {self.maximum:g}"

    def _in_bounds(self, value: float) -> bool:
        above = self.minimum is None or value >= self.minimum
        below = self.maximum is None or value <= self.maximum
        return math.isfinite(value) and above and below


_TYPE_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a string", list: "a list of strings"}


def _listed(values: tuple[ParameterValue, ...]) -> str:
    return ", ".join(str(value) for value in values)


_AUTOSTART = Parameter("autostart", True, "Configure and activate without being asked.")
_THREADS = Parameter("num_threads", 0, "Threads for tensor operations; 0 lets PyTorch choose.", minimum=0, maximum=256)
_MODEL = Parameter("model", DEFAULT_MODEL, "Shipped name, local folder or hub id of the model.")
_TRANSPORT = Parameter(
    "image_transport",
    "raw",
    "Which image topic to use: raw (`image`) or `image/compressed`.",
    choices=("raw", "compressed"),
)
_NUM_BEAMS = Parameter("num_beams", 1, "Beams of the caption search; 1 is greedy.", minimum=1, maximum=16)
_MAX_NEW_TOKENS = Parameter("max_new_tokens", 30, "Longest caption or answer, in tokens.", minimum=1, maximum=512)
_DTYPE = Parameter("dtype", "float32", "Number format of the model.", choices=("float32", "bfloat16", "float16"))
_DEVICE = Parameter("device", "auto", "Where the model runs: cpu, cuda, cuda:N, or auto.")

ROBOT: tuple[Parameter, ...] = (
    _MODEL,
    Parameter("last_split", "qformer", "Last stage that is loaded; later split points are refused."),
    Parameter(
        "quantizer",
        "auto",
        "How weights become codes of 1 to 8 bits; auto is uniform, or what a packed folder was made with.",
        choices=QUANTIZERS,
    ),
    Parameter("prune", "", "What the head does without, such as heads:0.25,neurons:0.25; empty leaves nothing out."),
    Parameter(
        "engine", "auto", "What runs a quantized head; auto is the fastest that this machine has.", choices=ENGINES
    ),
    _DEVICE,
    _THREADS,
    _TRANSPORT,
    _NUM_BEAMS,
    _MAX_NEW_TOKENS,
    Parameter("clock", "none", "What sets the processor's clock to robot_clock_hz.", choices=CLOCKS),
    Parameter(
        "energy_meter", "auto", "What measures energy; auto is the first that this machine has.", choices=ENERGY_METERS
    ),
    Parameter("active_w", 10.0, "Watts above idle while the head runs, where nothing measures them.", 0.0, 100_000.0),
    Parameter("radio_w", 1.5, "Watts above idle while packets are sent.", 0.0, 100_000.0),
    Parameter(
        "profile_limit_s",
        3.0,
        "Longest time for measuring the stages when the node is configured; 0 measures nothing.",
        0.0,
        3600.0,
    ),
    _AUTOSTART,
    Parameter(
        "split_point", "qformer", "Last stage run on the robot: input, vit.K, vision, qformer or output.", live=True
    ),
    Parameter(
        "weight_bits",
        32,
        "Bits per weight of the head: 1 to 8, 16 (bfloat16), or 32 (as it is: float32, or what a packed folder has); "
        "another head is loaded while the old one serves.",
        choices=BIT_WIDTHS,
        live=True,
    ),
    Parameter(
        "feature_bits",
        8,
        "Bits per element of the tensor that is sent; codec klt (1 to 8) takes far fewer for the same error.",
        choices=BIT_WIDTHS,
        live=True,
    ),
    Parameter(
        "codec",
        "auto",
        "Feature codec: klt, as fine as feature_bits, or klt1 to klt60 for so many decibels; plain, which needs no "
        f"calibration. At split_point input a picture format with quality ({', '.join(PICTURE_FORMATS)}), such as "
        f"{PICTURE_FORMATS[0]}75. auto is klt where the model is calibrated, else plain, and {DEFAULT_PICTURE_CODEC} "
        "at input.",
        live=True,
    ),
    Parameter(
        "predictive",
        False,
        "Codec klt may code a frame as its difference to one that the edge has confirmed: fewer bytes where the camera "
        "moves slowly.",
        live=True,
    ),
    Parameter(
        "max_packet_bytes",
        0,
        "Largest packet, with its header: codec klt and pictures are coded coarser until they fit; 0 is no limit.",
        minimum=0,
        maximum=2**31 - 1,
        live=True,
    ),
    Parameter(
        "robot_clock_hz", 0.0, "Highest clock of the robot's processor; 0 leaves it alone.", 0.0, 1e11, live=True
    ),
    Parameter("rate_hz", 0.0, "Most frames per second to run; 0 is as many as possible.", 0.0, 1000.0, live=True),
    Parameter(
        "deadline_s", 0.0, "Results later than this after the image count as missed; 0 is none.", 0.0, 3600.0, live=True
    ),
    Parameter(
        "min_change",
        0.0,
        "Frames whose features changed by less than this share since the last one sent repeat its result; 0 sends all.",
        0.0,
        1.0,
        live=True,
    ),
    Parameter("prompt", "", "Text that the caption continues; empty captions freely.", live=True),
    Parameter(
        "question_template", "Question: {question} Answer:", "Prompt made of a message on laim/question.", live=True
    ),
    Parameter("describe_timeout_s", 10.0, "Longest wait of ~/describe for a result.", 0.1, 3600.0, live=True),
    Parameter(
        "probe_period_s",
        0.0,
        "How often a small packet measures the link, more often while its goodput is unknown; 0 is never.",
        0.0,
        3600.0,
        live=True,
    ),
)

EDGE: tuple[Parameter, ...] = (
    _MODEL,
    Parameter("first_split", "input", "Earliest split point that is served; stages before it are not loaded."),
    _DEVICE,
    _DTYPE,
    _THREADS,
    Parameter("robots", [""], "Namespaces of the robots to serve; empty serves every robot that is found."),
    Parameter("discovery_period_s", 0.5, "How often to look for new robots.", 0.05, 60.0),
    Parameter("profile", True, "Measure stages at the start."),
    _AUTOSTART,
    Parameter("num_beams", 1, _NUM_BEAMS.description, minimum=1, maximum=16, live=True),
    Parameter("max_new_tokens", 30, _MAX_NEW_TOKENS.description, minimum=1, maximum=512, live=True),
    Parameter("max_batch", 8, "Most frames, of different robots, finished together.", minimum=1, maximum=64, live=True),
)

CAMERA: tuple[Parameter, ...] = (
    Parameter("source", "scenes", "`scenes` (synthetic), a folder of pictures, a video file, or /dev/videoN."),
    Parameter(
        "image_transport", "raw", "What to publish: raw, compressed, or both.", choices=("raw", "compressed", "both")
    ),
    Parameter("rate_hz", 10.0, "Frames per second.", 0.01, 1000.0),
    Parameter("width", 640, "Width in pixels.", minimum=16, maximum=8192),
    Parameter("height", 480, "Height in pixels.", minimum=16, maximum=8192),
    Parameter("seed", 0, "First synthetic scene.", minimum=0),
    Parameter("jpeg_quality", 90, "Quality of `image/compressed`.", minimum=1, maximum=100),
    Parameter("loop", True, "Start over at the end of a folder or video."),
    Parameter("frame_id", "camera", "frame_id of the images."),
    Parameter("publish_battery", False, "Publish a made-up, draining `battery` (demonstrations)."),
    Parameter(
        "battery_life_s",
        600.0,
        "Time in which the made-up battery drains, from activation on or from when this is set.",
        1.0,
        1e6,
        live=True,
    ),
    _AUTOSTART,
)

ANNOTATOR: tuple[Parameter, ...] = (
    _TRANSPORT,
    Parameter("buffer_frames", 30, "Frames kept while their results are awaited.", minimum=1, maximum=1000),
    Parameter("jpeg_quality", 85, "Quality of `image/annotated/compressed`.", minimum=1, maximum=100),
    _AUTOSTART,
)

PLANNER: tuple[Parameter, ...] = (
    Parameter("robot", "robot", "Name of the robot's node."),
    Parameter("period_s", 0.5, "How often to decide, besides at once where a frame is late or missing.", 0.05, 60.0),
    _AUTOSTART,
    Parameter(
        "mode",
        "auto",
        "auto sets the robot's plan; manual only says on laim/plan what it would set.",
        choices=("auto", "manual"),
        live=True,
    ),
    Parameter(
        "deadline_s", 0.0, "Longest time from an image to its result; 0 takes the robot's own.", 0.0, 3600.0, live=True
    ),
    Parameter(
        "mission_s",
        0.0,
        "How long the battery must last, from activation on or from when this is set; 0 leaves energy unlimited.",
        0.0,
        1e7,
        live=True,
    ),
    Parameter("battery_share", 0.2, "Part of the battery that inference may use.", 0.0, 1.0, live=True),
    Parameter("battery_reserve", 0.1, "Charge that must be left when the mission ends.", 0.0, 1.0, live=True),
    Parameter("battery_capacity_wh", 0.0, "Of the full battery; 0 takes what the battery tells.", 0.0, 1e6, live=True),
    Parameter("battery_timeout_s", 30.0, "News of the battery older than this are stale.", 0.1, 3600.0, live=True),
    Parameter("quality", "", "Quality table (a file of `laim calibrate`); empty looks for the model's own.", live=True),
    Parameter("quality_tolerance", 0.003, "Quality losses that differ by less count as equal.", 0.0, 1.0, live=True),
    Parameter(
        "link_quantile", 0.9, "Share of the link's recent packets that a forecast must cover.", 0.5, 1.0, live=True
    ),
    Parameter("link_timeout_s", 10.0, "News of the link older than this are stale.", 0.1, 3600.0, live=True),
    Parameter(
        "probe_period_s", 2.0, "Sets the robot's probe_period_s while plans are set; 0 is none.", 0.0, 3600.0, live=True
    ),
    Parameter(
        "dwell_s",
        3.0,
        "A plan that keeps deadline and energy budget stays for at least so long.",
        0.0,
        3600.0,
        live=True,
    ),
    Parameter(
        "margin",
        0.15,
        "A change must save this share of energy, and a new plan must keep the deadline with this share to spare.",
        0.0,
        10.0,
        live=True,
    ),
    Parameter("split_points", [""], "Split points to choose from; empty is all that both sides have.", live=True),
    Parameter("weight_bits", [""], "Bits per weight to choose from; empty is all that the robot has.", live=True),
    Parameter("feature_bits", [""], "Bits per element to choose from; empty is 1 to 8.", live=True),
    Parameter(
        "codecs",
        [""],
        "Codecs to choose from, of features and of pictures, such as klt, plain and jpeg75; empty is all, with klt in "
        "place of plain where both sides have the same calibration.",
        live=True,
    ),
    Parameter("clocks", True, "Also choose the clock of the robot's processor.", live=True),
)

SHAPER: tuple[Parameter, ...] = (
    Parameter(
        "goodput_bps", 1e6, "Speed of the made-up link in bits per second; 0 is an outage.", 0.0, 1e12, live=True
    ),
    Parameter(
        "burst_bytes", 1500, "Bytes that may pass at once after a pause; many hide the limit.", 1, 10**9, live=True
    ),
    Parameter("latency_s", 0.005, "Added to every packet, in seconds.", 0.0, 60.0, live=True),
    _AUTOSTART,
)

TABLES: Mapping[str, tuple[Parameter, ...]] = {
    "robot": ROBOT,
    "edge": EDGE,
    "camera": CAMERA,
    "annotator": ANNOTATOR,
    "shaper": SHAPER,
    "planner": PLANNER,
}


def plan_from(values: Mapping[str, ParameterValue], calibrated: Collection[str] = ()) -> Plan:
    """The plan that the robot's parameters describe, with `codec: auto` resolved.

    Args:
        values: the parameters.
        calibrated: split points at which codec `klt` is calibrated; none while no model is loaded.

    Raises:
        PlanError: the values do not fit each other; the message says what would.
    """
    split_point, codec = str(values["split_point"]), str(values["codec"])
    if codec == "auto":
        codec = _auto_codec(split_point, int(values["feature_bits"]), calibrated)
    clock_hz = float(values.get("robot_clock_hz", 0.0))  # a frame on the command line has none
    try:
        return Plan(split_point, int(values["weight_bits"]), int(values["feature_bits"]), codec, clock_hz)
    except PlanError as error:
        raise PlanError(
            f"{error}; codec auto fits every split point" if "codec" in str(error) else str(error)
        ) from None


def why_plain(values: Mapping[str, ParameterValue], calibrated: Collection[str]) -> str:
    """Why `codec: auto` is `plain`, as one sentence; empty where it is not, or where nothing is sent.

    Args:
        values, calibrated: as in `plan_from`, which has taken them.
    """
    split_point, bits = str(values["split_point"]), int(values["feature_bits"])
    auto = values["codec"] == "auto" and split_point != "output"
    if not auto or _auto_codec(split_point, bits, calibrated) != "plain":
        return ""
    if bits > _MOST_KLT_BITS:
        return f"codec auto: plain, because klt takes feature_bits of 1 to {_MOST_KLT_BITS}, not {bits}"
    there = f" (it has one at {', '.join(calibrated)})" if calibrated else ""
    return f"codec auto: plain, because the model has no calibration of klt at '{split_point}'{there}"


def _auto_codec(split_point: str, feature_bits: int, calibrated: Collection[str]) -> str:
    if split_point == "input":
        return DEFAULT_PICTURE_CODEC
    return "klt" if split_point in calibrated and feature_bits <= _MOST_KLT_BITS else "plain"


def check_template(template: str) -> str:
    """The question template, checked.

    Raises:
        ParameterValueError: it does not hold `{question}` exactly once.
    """
    if template.count("{question}") != 1:
        raise ParameterValueError(f"question_template must hold {{question}} once, not {template!r}")
    return template
