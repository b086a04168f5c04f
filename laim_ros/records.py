"""What the nodes tell each other, as plain values; `laim_ros/nodes/messages.py` puts them into messages."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_SEQUENCE = -1
"""Sequence number in the result of a packet too damaged to tell its own."""


def coded_as(split_point: str, feature_bits: int, codec: str) -> str:
    """How a frame was coded, in short: `8 klt`, `4 plain` (bits per element, codec), `klt12`, `jpeg90`; `–` for not."""
    if split_point == "output":
        return "–"
    return f"{feature_bits} {codec}" if codec in ("klt", "plain") and split_point != "input" else codec


def coded_in_words(short: str) -> str:
    """What `coded_as` gives, for people: `8 bits (klt)`, `klt12`, `jpeg90`; bits alone are `8 bits`."""
    bits, _, codec = short.partition(" ")
    if not bits.isdigit():
        return short
    return f"{bits} bits ({codec})" if codec else f"{bits} bits"


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What became of one frame: one text per prompt, and the figures of the edge (or of the robot, if it ran the tail).

    Attributes:
        texts: captions or answers, one per prompt.
        prompts: the prompts they belong to; `""` is a caption.
        sequence: sequence number of the packet.
        error: why there is no text; empty if all went well.
        repeated: True where the frame hardly differed from the last one sent, whose texts these are.
        robot_s: seconds on the robot, from the arrival of the image to the publishing of the packet.
        link_s: seconds on the link, both ways, of the last frame that came back; NaN until one has.
        edge_s: seconds on the edge, from the arrival of the packet to the publishing of the result.
        wait_s, decode_s, tail_s: the parts of edge_s.
        packet_bytes: size of the packet.
        probe: True for the echo of a packet that only measures the link; it has no text and belongs to no frame.
    """

    texts: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ("",)
    sequence: int = 0
    error: str = ""
    repeated: bool = False
    split_point: str = ""
    weight_bits: int = 0
    feature_bits: int = 0
    codec: str = ""
    packet_bytes: int = 0
    robot_s: float = float("nan")
    link_s: float = float("nan")
    edge_s: float = float("nan")
    wait_s: float = 0.0
    decode_s: float = 0.0
    tail_s: float = 0.0
    probe: bool = False

    @property
    def latency_s(self) -> float:
        """Robot, link and edge together, in seconds; NaN while the link is unknown."""
        return self.robot_s + self.link_s + self.edge_s


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What the robot measured when a result came back, all on its own steady clock.

    It also tells of frames that the robot finished by itself, of probes, and now and then of a silence: then only
    `unanswered_s`, the running estimates and the counters mean something.

    Attributes:
        sequence: sequence number of the frame; UNKNOWN_SEQUENCE where the report is about a silence.
        split_point, weight_bits, feature_bits, codec: the plan, as it was carried out for this frame.
        latency_s: from the arrival of the image to the arrival of its result; robot_s + link_s + edge_s.
        robot_wait_s, edge_wait_s: the parts of robot_s and edge_s that were spent waiting for the frame before.
        goodput_bps, round_trip_s: running estimate; NaN until it can be told.
        unanswered_s: how long the oldest packet under way has waited for its answer; 0 where none is.
        energy_j: what the robot spent on the frame above idling, in joules; NaN where nothing measures it.
        energy_source: what measured it: `rapl`, `ina`; empty where nothing does.
        probe: True where the packet only measured the link.
        packets_sent, results_received, deadline_misses: since activation.
    """

    sequence: int = 0
    split_point: str = ""
    weight_bits: int = 0
    feature_bits: int = 0
    codec: str = ""
    packet_bytes: int = 0
    robot_s: float = float("nan")
    link_s: float = float("nan")
    edge_s: float = float("nan")
    latency_s: float = float("nan")
    robot_wait_s: float = 0.0
    edge_wait_s: float = 0.0
    goodput_bps: float = float("nan")
    round_trip_s: float = float("nan")
    unanswered_s: float = 0.0
    energy_j: float = float("nan")
    energy_source: str = ""
    probe: bool = False
    packets_sent: int = 0
    results_received: int = 0
    deadline_misses: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """What a robot or an edge can do.

    Attributes:
        model, model_id: name as given, and the identity that both halves must share.
        first, last: split points between which the stages are loaded.
        split_points: all split points of the model, in order, separated by blanks.
        weight_bytes: memory of the weights.
        weight_bits: bits per weight of the stages up to `qformer`.
        engine: what runs them.
        calibrations: split points at which codec `klt` is calibrated, each with the calibration's hash, as in
            `qformer=1f2e3d4c`, separated by blanks; robot and edge need the same.
        costs: `planning.MachineProfile` as JSON; empty where nothing was measured.
    """

    model: str = ""
    model_id: str = ""
    first: str = ""
    last: str = ""
    split_points: str = ""
    device: str = ""
    dtype: str = ""
    weight_bytes: int = 0
    weight_bits: int = 0
    engine: str = ""
    calibrations: str = ""
    costs: str = ""

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The split points at which codec `klt` is calibrated."""
        return tuple(each.partition("=")[0] for each in self.calibrations.split())


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What the planner decided, what it expects of that, and why.

    Attributes:
        split_point, weight_bits, feature_bits, codec, robot_clock_hz: the plan.
        mode: `auto`, or `manual` where the planner only says what it would do.
        feasible: False where no plan keeps all limits, and this one is the least bad.
        reason: one sentence.
        remarks: what the planner has to do without, and what it takes instead; sentences separated by `; `.
        delay_s, energy_j: expected per frame, with the link's safety margin; energy is the robot's.
        quality_loss: expected, 0 to 1; `quality_source` says of what.
        deadline_s, energy_budget_j: the limits; 0 and infinity where there is none.
        energy_source: where the robot's energy comes from: `rapl`, `ina`, `assumed`, `computed`.
        goodput_bps, round_trip_s: of the link, as forecast; NaN where unknown.
        battery: charge from 0 to 1; NaN where unknown.
        choices, feasible_choices: how many plans there were to choose from.
    """

    split_point: str = ""
    weight_bits: int = 0
    feature_bits: int = 0
    codec: str = ""
    robot_clock_hz: float = 0.0
    mode: str = "auto"
    feasible: bool = True
    reason: str = ""
    remarks: str = ""
    delay_s: float = float("nan")
    energy_j: float = float("nan")
    quality_loss: float = float("nan")
    quality_source: str = ""
    deadline_s: float = 0.0
    energy_budget_j: float = float("inf")
    energy_source: str = ""
    goodput_bps: float = float("nan")
    round_trip_s: float = float("nan")
    battery: float = float("nan")
    choices: int = 0
    feasible_choices: int = 0


@dataclass(frozen=True, slots=True)
class Reference:
    """The truth about one frame of a camera that knows it: a caption, and the scene as JSON."""

    caption: str
    scene: str = ""
