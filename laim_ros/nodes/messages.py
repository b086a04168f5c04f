"""Typed dataclasses to ROS messages and back; nobody else touches the fields of laim messages.

All are standard messages, so that any viewer and any bag tool decodes them without this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

PACKET_FORMAT = "laim/1"
"""`format` of the CompressedImage that carries a packet."""

UNKNOWN_SEQUENCE = -1
"""Sequence number in the result of a packet too damaged to tell its own."""

_Record = TypeVar("_Record")


class MessageError(ValueError):
    """A message that does not hold what its topic promises; the text says what is wrong."""


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
    """

    model: str = ""
    model_id: str = ""
    first: str = ""
    last: str = ""
    split_points: str = ""
    device: str = ""
    dtype: str = ""
    weight_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reference:
    """The truth about one frame of a camera that knows it: a caption, and the scene as JSON."""

    caption: str
    scene: str = ""


def packet_message(header: Header, packet: bytes) -> CompressedImage:
    """A packet on its way; `header` is the image's own."""
    return CompressedImage(header=header, format=PACKET_FORMAT, data=packet)


def packet_bytes(message: CompressedImage) -> bytes:
    """The packet in a message.

    Raises:
        MessageError: the message carries a picture, or a newer kind of packet.
    """
    if message.format != PACKET_FORMAT:
        raise MessageError(f"format '{message.format[:40]}' is not '{PACKET_FORMAT}': this is no laim packet")
    return message.data.tobytes()


def result_message(header: Header, name: str, result: FrameResult) -> DiagnosticArray:
    """A result: one status per prompt, the text in `message`, the figures in `values`."""
    level = DiagnosticStatus.ERROR if result.error else DiagnosticStatus.OK
    texts = result.texts or ("",) * len(result.prompts)
    return _array(
        header,
        [
            _status(name, level, result.error or text, {"prompt": prompt, **_flat(result)})
            for text, prompt in zip(texts, result.prompts, strict=True)
        ],
    )


def result_from(message: DiagnosticArray) -> FrameResult:
    """The result in a message.

    Raises:
        MessageError: no status, or a figure is missing or of the wrong kind.
    """
    _require_status(message, "result")
    first = _values(message.status[0])
    texts = tuple(status.message for status in message.status)
    prompts = tuple(_values(status).get("prompt", "") for status in message.status)
    failed = message.status[0].level == DiagnosticStatus.ERROR
    known = {"texts": () if failed else texts, "prompts": prompts, "error": texts[0] if failed else ""}
    return _record(FrameResult, first, known)


def link_message(header: Header, name: str, report: LinkReport) -> DiagnosticArray:
    """A link report; `header` is the image's own."""
    text = f"{report.latency_s * 1e3:.0f} ms from image to result"
    return _array(header, [_status(name, DiagnosticStatus.OK, text, _flat(report))])


def link_from(message: DiagnosticArray) -> LinkReport:
    """The link report in a message.

    Raises:
        MessageError: no status, or a figure is missing or of the wrong kind.
    """
    _require_status(message, "link report")
    return _record(LinkReport, _values(message.status[0]))


def profile_message(header: Header, name: str, profile: Profile) -> DiagnosticArray:
    """A robot's or an edge's profile."""
    text = f"{profile.model}, stages after {profile.first} up to {profile.last}"
    return _array(header, [_status(name, DiagnosticStatus.OK, text, _flat(profile))])


def profile_from(message: DiagnosticArray) -> Profile:
    """The profile in a message.

    Raises:
        MessageError: no status, or a figure is missing or of the wrong kind.
    """
    _require_status(message, "profile")
    return _record(Profile, _values(message.status[0]))


def reference_message(header: Header, name: str, reference: Reference) -> DiagnosticArray:
    """The truth about a frame; `header` is the image's own."""
    return _array(header, [_status(name, DiagnosticStatus.OK, reference.caption, {"scene": reference.scene})])


def reference_from(message: DiagnosticArray) -> Reference:
    """The truth in a message.

    Raises:
        MessageError: the message holds no status.
    """
    _require_status(message, "reference")
    return Reference(message.status[0].message, _values(message.status[0]).get("scene", ""))


def diagnostics_message(
    header: Header, name: str, level: bytes, text: str, values: Mapping[str, object]
) -> DiagnosticArray:
    """One status for `/diagnostics`; `name` is the node's fully qualified name."""
    return _array(header, [_status(name, level, text, {key: _text(value) for key, value in values.items()})])


def _array(header: Header, statuses: Iterable[DiagnosticStatus]) -> DiagnosticArray:
    return DiagnosticArray(header=header, status=list(statuses))


def _status(name: str, level: bytes, text: str, values: Mapping[str, str]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=text, hardware_id=name, values=pairs)


def _values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def _require_status(message: DiagnosticArray, what: str) -> None:
    if not message.status:
        raise MessageError(f"a {what} without a status")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


_OWN_PLACE = frozenset({"texts", "prompts", "error"})
"""Fields that have a place of their own in a status and need no key."""


def _flat(record: object) -> dict[str, str]:
    return {item.name: _text(getattr(record, item.name)) for item in fields(record) if item.name not in _OWN_PLACE}


_PARSERS = {"int": int, "float": float, "str": str, "bool": {"true": True, "false": False}.__getitem__}


def _record(kind: type[_Record], values: Mapping[str, str], known: Mapping[str, object] | None = None) -> _Record:
    filled: dict[str, object] = dict(known or {})
    for item in fields(kind):
        if item.name in filled:
            continue
        try:
            filled[item.name] = _PARSERS[item.type](values[item.name])
        except (KeyError, ValueError):
            found = repr(values[item.name][:40]) if item.name in values else "missing"
            raise MessageError(f"{kind.__name__}.{item.name} should be {item.type}, it is {found}") from None
    return kind(**filled)
