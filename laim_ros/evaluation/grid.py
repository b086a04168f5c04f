"""`Grid`: which ways to run a model are measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from laim_ros.plan import FEATURE_CODECS, Plan, is_feature_codec

WEIGHT_BITS = (2, 3, 4, 6, 8, 16, 32)
FEATURE_BITS = (1, 2, 3, 4, 6, 8)
PICTURES = (
    *(f"jpeg{quality}" for quality in (10, 25, 50, 75, 90, 95)),
    *(f"webp{quality}" for quality in (1, 10, 40, 75)),
)
_MOST_KLT_BITS = 8


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination that makes sense of these.

    Attributes:
        split_points: of the model, in any order.
        weight_bits: of the head; at `input` there is none.
        feature_bits: of what is sent between `input` and `output`.
        codecs: those of pictures are for `input`, the others for features. Where none of a kind is given, the usual
            ones: `PICTURES`; `klt` where it is calibrated and takes so many feature_bits, else `plain`.
        calibrated: split points at which codec `klt` is calibrated.
    """

    split_points: tuple[str, ...]
    weight_bits: tuple[int, ...] = WEIGHT_BITS
    feature_bits: tuple[int, ...] = FEATURE_BITS
    codecs: tuple[str, ...] = ()
    calibrated: Collection[str] = ()

    def plans(self) -> tuple[Plan, ...]:
        """One per row of the table, in the order of the split points; fields that a split point does not use are 32.

        Raises:
            PlanError: a value that no plan has.
        """
        plans = []
        for split_point in self.split_points:
            if split_point == "input":
                pictures = [codec for codec in self.codecs if not is_feature_codec(codec)] or PICTURES
                plans += [Plan(split_point, 32, 32, codec) for codec in pictures]
            elif split_point == "output":
                plans += [Plan(split_point, weight_bits, 32) for weight_bits in self.weight_bits]
            else:
                plans += [
                    Plan(split_point, weight_bits, feature_bits, codec)
                    for weight_bits in self.weight_bits
                    for codec, feature_bits in self._of_features(split_point)
                ]
        return tuple(plans)

    def _of_features(self, split_point: str) -> list[tuple[str, int]]:
        """Codecs and feature_bits; a codec with a number of its own makes nothing of these."""
        named = [codec for codec in self.codecs if is_feature_codec(codec)]
        if named:
            return [
                (codec, bits) for codec in named for bits in (self.feature_bits if codec in FEATURE_CODECS else (32,))
            ]
        klt = split_point in self.calibrated
        return [("klt" if klt and bits <= _MOST_KLT_BITS else "plain", bits) for bits in self.feature_bits]


def usual_split_points(points: Sequence[str]) -> tuple[str, ...]:
    """Those that matter of a model's: nothing, half and all of the vision tower, the Q-Former, everything.

    Args:
        points: all of the model's, in order.
    """
    blocks = [point for point in points if point.startswith("vit.")]
    return ("input", blocks[(len(blocks) - 1) // 2], "vision", "qformer", "output")
