"""`MachineProfile`: how long the stages of a model take on one machine, how it can code, and what power that draws."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from laim_ros.plan import PICTURE_FORMATS, Plan, codes_by_calibration, klt_decibels, picture_format
from laim_ros.planning.errors import PlanningError

Source = Literal["measured", "computed", "estimated"]
"""Where times come from: runs on this machine, specifications, or other widths of the same profile."""

_Seconds = Annotated[float, Meta(ge=0, le=86_400)]
_Watts = Annotated[float, Meta(ge=0, le=100_000)]
_Bytes = Annotated[float, Meta(ge=0, le=4_000_000_000)]
_Size = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Name = Annotated[str, Meta(max_length=200)]

CALIBRATED_DECIBELS = tuple(range(0, 61, 6))
"""Of which `Calibrated.payload_bytes` tells: 6 dB are one of `feature_bits`."""

_VERSION = 2
_MOST_JSON_BYTES = 1_000_000
_DIGITS = "0123456789"
_MOST_SPLIT_POINTS, _MOST_WIDTHS, _MOST_MODES = 200, 16, 64
"""Profiles come over the network, and every combination becomes a choice: these many are more than machines have."""


class PowerMode(Struct, frozen=True, forbid_unknown_fields=True):
    """One clock or power mode of a machine.

    Attributes:
        clock_hz: what `robot_clock_hz` sets; 0 leaves the clock alone.
        slowdown: time that a stage takes, relative to the mode in which the profile was taken.
        active_w: power above idle while a stage runs, in watts.
        name: for people, such as `30W`.
    """

    clock_hz: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    slowdown: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    active_w: _Watts = 0.0
    name: _Name = ""


class StageTimes(Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds of every stage at one bit-width.

    Attributes:
        weight_bits: of the head.
        stage_s: by the split point that ends the stage: `input` is bringing the picture to the model's size,
            `vit.K` block K, `output` the text of one prompt. Only stages that the machine has loaded.
        source: where the times come from.
    """

    weight_bits: Annotated[int, Meta(ge=1, le=32)]
    stage_s: dict[str, _Seconds]
    source: Source = "measured"


class Calibrated(Struct, frozen=True, forbid_unknown_fields=True):
    """That a machine can code by codec `klt` at one split point.

    Attributes:
        digest: of the calibration; robot and edge must have the same.
        payload_bytes: mean over frames at signal-to-distortion ratios of `CALIBRATED_DECIBELS`, as the calibration's
            own probabilities have it: for frames that it does not fit, too little.
    """

    digest: Annotated[str, Meta(min_length=1, max_length=128)]
    payload_bytes: Annotated[tuple[_Bytes, ...], Meta(min_length=11, max_length=11)]

    def bytes_at(self, decibels: float) -> float:
        """Of a payload, at 0 to 60 dB."""
        return float(np.interp(decibels, CALIBRATED_DECIBELS, self.payload_bytes))


class MachineProfile(Struct, frozen=True, forbid_unknown_fields=True):
    """What the stages of one model cost on one machine.

    Attributes:
        machine: processor, for people and as a key: `AMD EPYC 7B13, 2 threads`.
        model: name that the model was loaded by.
        model_id: identity that both halves share.
        engine: what runs the head.
        split_points: all of the model's, in order.
        shapes: of the boundary tensors, by split point; (H, W, 3) at `input`.
        times: one entry per bit-width.
        modes: at least one; the first is the one in which the times hold.
        code_s: seconds to code (robot) or decode (edge) one packet, by split point and codec, such as `plain`, `klt12`,
            `webp75`; at `input`, a picture format without figures is one that this machine does not have.
        calibrations: of codec `klt`, by split point; it codes nothing elsewhere.
        radio_w: power above idle while sending, in watts.
        power_source: where the watts come from: `rapl`, `ina`, `assumed`, `computed`.
        notes: for people: how the figures were got.
    """

    machine: _Name
    model: _Name
    model_id: _Name
    engine: _Name
    split_points: Annotated[tuple[_Name, ...], Meta(max_length=_MOST_SPLIT_POINTS)]
    shapes: dict[str, Annotated[tuple[_Size, ...], Meta(min_length=1, max_length=8)]]
    times: Annotated[tuple[StageTimes, ...], Meta(min_length=1, max_length=_MOST_WIDTHS)]
    modes: Annotated[tuple[PowerMode, ...], Meta(min_length=1, max_length=_MOST_MODES)] = (PowerMode(),)
    code_s: dict[str, dict[_Name, _Seconds]] = {}
    calibrations: dict[str, Calibrated] = {}
    radio_w: _Watts = 0.0
    power_source: _Name = "assumed"
    notes: str = ""
    version: Literal[2] = _VERSION

    @property
    def weight_bits(self) -> tuple[int, ...]:
        """Bit-widths that the profile knows, in its order."""
        return tuple(times.weight_bits for times in self.times)

    def times_at(self, weight_bits: int) -> StageTimes:
        """The times at this bit-width; of the nearest one, marked as estimated, where it was not measured."""
        nearest = min(self.times, key=lambda times: abs(times.weight_bits - weight_bits))
        if nearest.weight_bits == weight_bits:
            return nearest
        return StageTimes(weight_bits, nearest.stage_s, "estimated")

    def span_s(self, weight_bits: int, start: str, stop: str) -> float:
        """Seconds of the stages after `start` up to and with `stop`; `start` "" begins with the picture's resizing.

        Infinite where one of them is not in the profile: this machine has not loaded it.

        Raises:
            PlanningError: no such split point.
        """
        for name in filter(None, (start, stop)):
            if name not in self.split_points:
                raise PlanningError(f"profile of {self.machine}: {self.model} has no split point '{name}'")
        first = self.split_points.index(start) + 1 if start else 0
        stages = self.split_points[first : self.split_points.index(stop) + 1]
        stage_s = self.times_at(weight_bits).stage_s
        return sum((stage_s.get(name, math.inf) for name in stages), 0.0)

    @property
    def digests(self) -> dict[str, str]:
        """Of the calibrations, by split point."""
        return {point: known.digest for point, known in self.calibrations.items()}

    @property
    def picture_formats(self) -> tuple[str, ...]:
        """That this machine codes; JPEG, which every OpenCV has, also where nothing is known."""
        known = [codec.rstrip(_DIGITS) for codec in self.code_s.get("input", {})]
        return tuple(name for name in PICTURE_FORMATS if name in ("jpeg", *known))

    def coding_s(self, plan: Plan) -> float:
        """Seconds to code or decode a packet of this plan; 0 where nothing is sent, or nothing is known.

        Between two finenesses of the same codec that were timed, the time grows evenly; beyond them it stays.
        """
        name, number = _codec_parts(plan)
        timed = sorted(
            (int(codec[len(name) :] or 0), seconds)
            for codec, seconds in self.code_s.get(plan.split_point, {}).items()
            if codec.rstrip(_DIGITS) == name
        )
        return float(np.interp(number, *zip(*timed, strict=True))) if timed else 0.0

    def to_json(self) -> str:
        """The profile as JSON, for files and messages."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> MachineProfile:
        """The profile in a JSON text.

        Raises:
            PlanningError: no profile of this version, or a figure that is missing or out of bounds.
        """
        if len(text) > _MOST_JSON_BYTES:
            raise PlanningError(f"profile: {len(text)} bytes of JSON, at most {_MOST_JSON_BYTES} are read")
        try:
            version = msgspec.json.decode(text, type=_Version).version
            if version != _VERSION:  # before all else: fields that other versions have are not what is wrong
                raise PlanningError(
                    f"profile: version {version}, here is {_VERSION}; measure it again, with the laim_ros used here"
                )
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise PlanningError(f"profile: {error}") from None

    @classmethod
    def read(cls, path: Path) -> MachineProfile:
        """The profile in a file.

        Raises:
            PlanningError: no such file, or as `from_json`.
        """
        try:
            return cls.from_json(path.read_bytes())
        except OSError as error:
            raise PlanningError(f"profile {path}: {error.strerror}") from None
        except PlanningError as error:
            raise PlanningError(f"{path}: {error}") from None


class _Version(Struct, frozen=True):
    """All that is read of a profile of another version."""

    version: int = _VERSION


def _codec_parts(plan: Plan) -> tuple[str, int]:
    """The name of a plan's codec, and how fine it codes: picture quality, or decibels; 0 where it tells no number."""
    if plan.sends_picture:
        return picture_format(plan.codec)
    return ("klt", klt_decibels(plan)) if codes_by_calibration(plan) else (plan.codec, 0)
