"""`Plan`: the choice in force of where the model is split and how finely its weights and features are coded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

BIT_WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)
"""Bit-widths that weights and features may have; 16 and 32 are floating point."""

FEATURE_CODECS = ("klt", "plain")
"""The first with a number, too, such as `klt12`."""

PICTURE_FORMATS = ("jpeg", "webp", "avif")

MOST_DECIBELS = 60
_DECIBELS_PER_BIT = 6
_MOST_KLT_BITS = 8

_FEATURE_CODEC = re.compile(r"plain|klt([1-9]|[1-5][0-9]|60)?")
_SPLIT_POINT = re.compile(r"input|vit\.[1-9][0-9]{0,2}|vision|qformer|output")
_PICTURE_CODEC = re.compile(rf"({'|'.join(PICTURE_FORMATS)})([1-9][0-9]?|100)")


class PlanError(ValueError):
    """A plan that cannot be carried out; the message names the field and what would be accepted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to run a split model.

    Attributes:
        split_point: last stage that the robot runs: `input`, `vit.K` (after K blocks), `vision`, `qformer`, `output`.
        weight_bits: bits per weight of the robot's half: 1–8, 16 (bf16), 32.
        feature_bits: bits per element of the tensor that is sent: 1–8, 16, 32. Not used at `input` and `output`.
        codec: name of the feature codec (`plain`; `klt`, as fine as `feature_bits` says; `klt12` for 12 dB between
            signal and distortion, whatever `feature_bits` says), or at `input` a picture format with its quality
            (`jpeg75`).
        robot_clock_hz: clock of the robot's processor in hertz; 0 leaves it alone.

    Raises:
        PlanError: a field is outside what is listed above, or the codec does not fit the split point.
    """

    split_point: str = "qformer"
    weight_bits: int = 32
    feature_bits: int = 8
    codec: str = "plain"
    robot_clock_hz: float = 0.0

    def __post_init__(self) -> None:
        if not _SPLIT_POINT.fullmatch(self.split_point):
            raise PlanError(f"split_point '{self.split_point}' is none of input, vit.K, vision, qformer, output")
        for name in ("weight_bits", "feature_bits"):
            if getattr(self, name) not in BIT_WIDTHS:
                raise PlanError(f"{name} {getattr(self, name)} is none of {', '.join(map(str, BIT_WIDTHS))}")
        if self.sends_picture:
            picture_format(self.codec)
        elif not is_feature_codec(self.codec):
            raise PlanError(
                f"codec '{self.codec}' does not code features (split_point '{self.split_point}'); use one of: "
                f"{', '.join(FEATURE_CODECS)}, or klt1 to klt{MOST_DECIBELS} for so many decibels"
            )
        elif self.codec == "klt" and self.feature_bits > _MOST_KLT_BITS:
            raise PlanError(
                f"feature_bits {self.feature_bits} is more than codec klt takes, 1 to {_MOST_KLT_BITS}; use codec plain"
            )
        if not (math.isfinite(self.robot_clock_hz) and self.robot_clock_hz >= 0):
            raise PlanError(
                f"robot_clock_hz {self.robot_clock_hz} must be finite and not negative (0 leaves the clock)"
            )

    @property
    def sends_picture(self) -> bool:
        """True where the packet holds a picture instead of features."""
        return self.split_point == "input"


def is_feature_codec(codec: str) -> bool:
    """Whether a codec's name is that of one for features."""
    return _FEATURE_CODEC.fullmatch(codec) is not None


def codes_by_calibration(plan: Plan) -> bool:
    """Whether what the plan sends is coded by codec `klt`, which both sides must have the same calibration for."""
    return plan.codec.startswith("klt") and plan.split_point not in ("input", "output")


def klt_decibels(plan: Plan) -> int:
    """Signal-to-distortion ratio in decibels that a plan with codec `klt` asks for.

    A white Gaussian at b bits per element is coded with a distortion of σ² 2^(-2b) at best [Shannon 1959]: 6.02 b dB.
    """
    number = plan.codec.removeprefix("klt")
    return int(number) if number else _DECIBELS_PER_BIT * plan.feature_bits


def in_words(plan: Plan) -> str:
    """The plan for people, such as `qformer at 4 bits (plain), weights at 8 bits`."""
    clock = f", {plan.robot_clock_hz / 1e9:g} GHz" if plan.robot_clock_hz else ""
    if plan.split_point == "input":
        return f"pictures as {plan.codec}{clock}"
    if plan.split_point == "output":
        return f"everything on the robot, weights at {plan.weight_bits} bits{clock}"
    fineness = f"{plan.feature_bits} bits ({plan.codec})" if plan.codec in FEATURE_CODECS else plan.codec
    return f"{plan.split_point} at {fineness}, weights at {plan.weight_bits} bits{clock}"


def picture_format(codec: str) -> tuple[str, int]:
    """Format and quality (1–100) of a picture codec's name, such as `jpeg75`.

    Raises:
        PlanError: the name is not a known format followed by a quality.
    """
    match = _PICTURE_CODEC.fullmatch(codec)
    if match is None:
        raise PlanError(
            f"codec '{codec}' does not code pictures (split_point 'input'); "
            f"use one of {', '.join(PICTURE_FORMATS)} with a quality from 1 to 100, such as jpeg90"
        )
    return match[1], int(match[2])
