"""`StreamDescription`: what does not change from packet to packet, sent once as readable JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re

import msgspec

from laim_ros.codec.errors import CodecError
from laim_ros.plan import Plan, PlanError, codes_by_calibration

WIRE_VERSION = 2
"""Version of the stream description, the packet header and the payloads; a change of any of them raises it."""

MAX_JSON_BYTES = 16 * 1024
MAX_ROBOT_CHARACTERS = 256
MAX_HASH_CHARACTERS = 128
MAX_PROMPTS = 8
MAX_PROMPT_CHARACTERS = 1024
MAX_DIMENSIONS = 4
MAX_DIMENSION = 65536
MAX_ELEMENTS = 64 * 1024 * 1024
"""Most elements in one tensor, 256 MiB of float32: a hundred times what the largest model served sends."""

_HEX = re.compile(r"[0-9a-f]*")
_PLAN_FIELDS = frozenset(field.name for field in dataclasses.fields(Plan))


class StreamDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a decoder needs besides the packets.

    Attributes:
        wire: wire version of the sender, `WIRE_VERSION`.
        robot: name of the robot, 1–256 printable characters.
        model_id: identity of the source model, lower-case hex, 1–128 characters.
        plan: the plan that the packets of this stream follow.
        shape: shape of one frame without batch, 1–4 dimensions of 1–65536, at most `MAX_ELEMENTS` elements; (H, W, 3)
            where the plan sends pictures.
        calibration: hash of the codec's calibration, lower-case hex; "" = none.
        prompts: 1–8 prompts of at most 1024 characters, all answered for each frame; "" asks for a caption.
        deadline_s: age in seconds after which a result is no longer wanted; 0 = none.
        predictive: whether packets of codec `klt` may refer to earlier ones, so that a decoder must remember these.

    Raises:
        CodecError: a field is outside these bounds, on construction as on parsing.
    """

    wire: int
    robot: str
    model_id: str
    plan: Plan
    shape: tuple[int, ...]
    calibration: str = ""
    prompts: tuple[str, ...] = ("",)
    deadline_s: float = 0.0
    predictive: bool = False

    def __post_init__(self) -> None:
        _check_wire(self.wire)
        _check_text("robot", self.robot, 1, MAX_ROBOT_CHARACTERS)
        if not self.robot.isprintable():  # it goes to terminals and logs
            raise CodecError(f"stream description: robot {self.robot!r} holds characters that cannot be printed")
        _check_hex("model_id", self.model_id, 1)
        if not isinstance(self.plan, Plan):
            raise CodecError(f"stream description: plan must be a Plan, not {type(self.plan).__name__}")
        _check_shape(self.shape, self.plan.sends_picture)
        _check_hex("calibration", self.calibration, 0)
        if not (isinstance(self.prompts, tuple) and 1 <= len(self.prompts) <= MAX_PROMPTS):
            raise CodecError(
                f"stream description: prompts must be a tuple of 1 to {MAX_PROMPTS} texts ('' for a caption)"
            )
        for number, prompt in enumerate(self.prompts, start=1):
            _check_text(f"prompt {number}", prompt, 0, MAX_PROMPT_CHARACTERS)
        if not (_is_number(self.deadline_s) and 0 <= self.deadline_s < math.inf):
            raise CodecError(
                f"stream description: deadline_s {self.deadline_s} must be finite and not negative (0 for none)"
            )
        if not isinstance(self.predictive, bool):
            raise CodecError(f"stream description: predictive must be true or false, not {self.predictive!r}")
        if self.predictive and not codes_by_calibration(self.plan):
            raise CodecError(
                f"stream description: codec {self.plan.codec} codes every frame by itself, predictive or not"
            )
        self.to_json()  # its length has a bound, too

    def to_json(self) -> str:
        """Canonical JSON: one line, keys sorted; equal descriptions give equal text.

        Raises:
            CodecError: the text would be longer than `MAX_JSON_BYTES`, so that no receiver would take it.
        """
        fields = msgspec.to_builtins(self)
        # An integer in a float field, or a negative zero, is equal to what comes back, but would be written otherwise.
        fields["deadline_s"] = float(self.deadline_s) + 0.0
        plan = fields["plan"]
        plan["robot_clock_hz"] = float(self.plan.robot_clock_hz) + 0.0
        plan["weight_bits"], plan["feature_bits"] = int(self.plan.weight_bits), int(self.plan.feature_bits)
        text = msgspec.json.format(msgspec.json.encode(fields, order="sorted"), indent=0)
        if len(text) > MAX_JSON_BYTES:
            raise CodecError(
                f"stream description: {len(text)} bytes of JSON, more than {MAX_JSON_BYTES}; shorten the prompts"
            )
        return text.decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> StreamDescription:
        """Parse and validate JSON from another machine.

        Raises:
            CodecError: too long, not JSON, a field missing, unknown or out of bounds, or another wire version.
        """
        if len(text) > MAX_JSON_BYTES:
            raise CodecError(f"stream description: more than {MAX_JSON_BYTES} bytes of JSON")
        try:
            fields = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise CodecError(f"stream description: not JSON ({error})") from error
        if not isinstance(fields, dict):
            raise CodecError("stream description: must be a JSON object")
        # Before all else: a newer sender may have fields that we do not know, and the version is the reason to name.
        _check_wire(fields.get("wire"))
        plan = fields.get("plan")
        if isinstance(plan, dict) and not plan.keys() <= _PLAN_FIELDS:  # msgspec would drop them silently
            unknown = str(sorted(plan.keys() - _PLAN_FIELDS))
            raise CodecError(f"stream description: plan has unknown fields {unknown[:200]}")
        try:
            return msgspec.convert(fields, cls)
        except (msgspec.MsgspecError, PlanError, RecursionError) as error:
            if isinstance(error.__cause__, CodecError):
                raise error.__cause__ from error
            raise CodecError(f"stream description: {error}") from error

    @property
    def stream_id(self) -> int:
        """32-bit hash of the canonical JSON; packets carry it."""
        return json_stream_id(self.to_json())


def json_stream_id(text: str) -> int:
    """The stream id of canonical JSON: also of a description that cannot be read here, as from a newer sender."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=4).digest(), "little")


def wrong_wire_version(what: str, theirs: int) -> CodecError:
    """The error for `what` ("packet", "stream description") of wire version `theirs`; says which side to update."""
    older = "this side" if theirs > WIRE_VERSION else "the sender"
    return CodecError(
        f"{what}: wire version {theirs}, this side speaks {WIRE_VERSION}; update laim_ros on the older side ({older})"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_wire(wire: object) -> None:
    if not isinstance(wire, int) or isinstance(wire, bool) or not 0 <= wire < 1 << 32:
        raise CodecError(
            f"stream description: 'wire' must be the wire version (here {WIRE_VERSION}), not {str(wire)[:40]!r}"
        )
    if wire != WIRE_VERSION:
        raise wrong_wire_version("stream description", wire)


def _check_text(name: str, text: object, shortest: int, longest: int) -> None:
    if not isinstance(text, str):
        raise CodecError(f"stream description: {name} must be text, not {type(text).__name__}")
    if not shortest <= len(text) <= longest:
        raise CodecError(f"stream description: {name} has {len(text)} characters, allowed are {shortest} to {longest}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CodecError(f"stream description: {name} is not valid Unicode ({error.reason})") from error


def _check_hex(name: str, text: object, shortest: int) -> None:
    _check_text(name, text, shortest, MAX_HASH_CHARACTERS)
    if not _HEX.fullmatch(text):
        raise CodecError(f"stream description: {name} {text!r} must be a lower-case hexadecimal hash")


def _check_shape(shape: object, picture: bool) -> None:
    if not (isinstance(shape, tuple) and all(type(dimension) is int for dimension in shape)):
        raise CodecError(f"stream description: shape must be a tuple of int, not {str(shape)[:80]}")
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise CodecError(f"stream description: shape has {len(shape)} dimensions, allowed are 1 to {MAX_DIMENSIONS}")
    if not all(1 <= dimension <= MAX_DIMENSION for dimension in shape):
        raise CodecError(f"stream description: shape {str(shape)[:80]} has a dimension outside 1 to {MAX_DIMENSION}")
    if math.prod(shape) > MAX_ELEMENTS:
        raise CodecError(f"stream description: shape {shape} has {math.prod(shape)} elements, more than {MAX_ELEMENTS}")
    if picture and not (len(shape) == 3 and shape[2] == 3 and max(shape) < MAX_DIMENSION):
        raise CodecError(f"stream description: shape {shape} is not that of a picture, (height, width, 3)")
