"""What the nodes tell each other, as plain values; `laim_ros/nodes/messages.py` puts them into messages."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_SEQUENCE = -1
"""Sequence number in the result of a packet too damaged to tell its own."""


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

    @property
    def latency_s(self) -> float:
        """Robot, link and edge together, in seconds; NaN while the link is unknown."""
        return self.robot_s + self.link_s + self.edge_s


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What the robot measured when a result came back, all on its own steady clock.

    Attributes:
        sequence: sequence number of the frame.
        latency_s: from the arrival of the image to the arrival of its result; robot_s + link_s + edge_s.
        goodput_bps, round_trip_s: running estimate; NaN until it can be told.
        packets_sent, results_received, deadline_misses: since activation.
    """

    sequence: int = 0
    packet_bytes: int = 0
    robot_s: float = float("nan")
    link_s: float = float("nan")
    edge_s: float = float("nan")
    latency_s: float = float("nan")
    goodput_bps: float = float("nan")
    round_trip_s: float = float("nan")
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


@dataclass(frozen=True, slots=True)
class Reference:
    """The truth about one frame of a camera that knows it: a caption, and the scene as JSON."""

    caption: str
    scene: str = ""
