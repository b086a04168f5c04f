"""The records of `laim_ros/records.py` to ROS messages and back; nobody else touches the fields of laim messages.

All are standard messages, so that any viewer and any bag tool decodes them without this package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TypeVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import BatteryState, CompressedImage
from std_msgs.msg import Header

from laim_ros.planning import Battery
from laim_ros.records import UNKNOWN_SEQUENCE, FrameResult, LinkReport, PlanReport, Profile, Reference

PACKET_FORMAT = "laim/1"
"""`format` of the CompressedImage that carries a packet."""

_Record = TypeVar("_Record")


class MessageError(ValueError):
    """A message that does not hold what its topic promises; the text says what is wrong."""


def stamp_of(header: Header) -> tuple[int, int]:
    """Seconds and nanoseconds of a stamp, which together name a frame."""
    return header.stamp.sec, header.stamp.nanosec


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
    """A result: one status per prompt, the text in `message`, the figures in `values`; one in all for a probe."""
    if result.probe:
        return _array(header, [_status(name, DiagnosticStatus.OK, "probe", {"prompt": "", **_flat(result)})])
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
    if first.get("probe") == "true":
        known = {"texts": (), "prompts": (), "error": ""}
    return _record(FrameResult, first, known)


def link_message(header: Header, name: str, report: LinkReport) -> DiagnosticArray:
    """A link report; `header` is the image's own where it is about a frame."""
    return _array(header, [_status(name, DiagnosticStatus.OK, _link_words(report), _flat(report))])


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


def plan_message(header: Header, name: str, report: PlanReport) -> DiagnosticArray:
    """What the planner decided: the reason as text, a warning where no plan keeps all limits."""
    level = DiagnosticStatus.OK if report.feasible else DiagnosticStatus.WARN
    return _array(header, [_status(name, level, report.reason, _flat(report))])


def plan_from_message(message: DiagnosticArray) -> PlanReport:
    """The decision in a message.

    Raises:
        MessageError: no status, or a figure is missing or of the wrong kind.
    """
    _require_status(message, "plan")
    return _record(PlanReport, _values(message.status[0]))


def battery_from(message: BatteryState) -> Battery:
    """What a battery tells, NaN where it does not.

    A `percentage` of 0 counts only beside a voltage and without a charge: else it is a field that nobody filled in.
    """
    filled = message.percentage != 0 or (message.voltage > 0 and not message.charge > 0)
    return Battery(
        percentage=message.percentage if filled else math.nan,
        charge_ah=message.charge,
        capacity_ah=message.capacity,
        design_capacity_ah=message.design_capacity,
        voltage_v=message.voltage,
    )


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


def _link_words(report: LinkReport) -> str:
    if report.sequence == UNKNOWN_SEQUENCE:
        return f"no answer for {report.unanswered_s:.1f} s"
    milliseconds = f"{report.latency_s * 1e3:.0f} ms"
    return f"{milliseconds} for a probe and back" if report.probe else f"{milliseconds} from image to result"


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
