"""`Plan`: the choice in force of where the model is split and how finely its weights and features are coded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

BIT_WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)
"""Bit-widths that weights and features may have; 16 and 32 are floating point."""

FEATURE_CODECS = ("plain",)
PICTURE_FORMATS = ("jpeg",)

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
        codec: name of the feature codec (`plain`), or at `input` a picture format with its quality (`jpeg75`).
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
        elif self.codec not in FEATURE_CODECS:
            raise PlanError(
                f"codec '{self.codec}' does not code features (split_point '{self.split_point}'); "
                f"use one of: {', '.join(FEATURE_CODECS)}"
            )
        if not (math.isfinite(self.robot_clock_hz) and self.robot_clock_hz >= 0):
            raise PlanError(
                f"robot_clock_hz {self.robot_clock_hz} must be finite and not negative (0 leaves the clock)"
            )

    @property
    def sends_picture(self) -> bool:
        """True where the packet holds a picture instead of features."""
        return self.split_point == "input"


def in_words(plan: Plan) -> str:
    """The plan for people, such as `qformer at 4 bits (plain), weights at 8 bits`."""
    clock = f", {plan.robot_clock_hz / 1e9:g} GHz" if plan.robot_clock_hz else ""
    if plan.split_point == "input":
        return f"pictures as {plan.codec}{clock}"
    if plan.split_point == "output":
        return f"everything on the robot, weights at {plan.weight_bits} bits{clock}"
    return f"{plan.split_point} at {plan.feature_bits} bits ({plan.codec}), weights at {plan.weight_bits} bits{clock}"


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
