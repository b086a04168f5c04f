"""`Grid`: which ways to run a model are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from laim_ros.plan import FEATURE_CODECS, Plan

WEIGHT_BITS = (2, 3, 4, 6, 8, 16, 32)
FEATURE_BITS = (1, 2, 3, 4, 6, 8)
CODECS = (Plan().codec, *(f"jpeg{quality}" for quality in (10, 25, 50, 75, 90, 95)))


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination that makes sense of these.

    Attributes:
        split_points: of the model, in any order.
        weight_bits: of the head; at `input` there is none.
        feature_bits: of what is sent between `input` and `output`.
        codecs: those of pictures are for `input`, the others for features; where none of a kind is given, the usual
            ones.
    """

    split_points: tuple[str, ...]
    weight_bits: tuple[int, ...] = WEIGHT_BITS
    feature_bits: tuple[int, ...] = FEATURE_BITS
    codecs: tuple[str, ...] = CODECS

    def plans(self) -> tuple[Plan, ...]:
        """One per row of the table, in the order of the split points; fields that a split point does not use are 32.

        Raises:
            PlanError: a value that no plan has.
        """
        plans = []
        for split_point in self.split_points:
            if split_point == "input":
                plans += [Plan(split_point, 32, 32, codec) for codec in self._codecs(of_pictures=True)]
            elif split_point == "output":
                plans += [Plan(split_point, weight_bits, 32) for weight_bits in self.weight_bits]
            else:
                plans += [
                    Plan(split_point, weight_bits, feature_bits, codec)
                    for weight_bits in self.weight_bits
                    for codec in self._codecs(of_pictures=False)
                    for feature_bits in self.feature_bits
                ]
        return tuple(plans)

    def _codecs(self, *, of_pictures: bool) -> list[str]:
        def of_kind(codecs: Sequence[str]) -> list[str]:
            return [codec for codec in codecs if (codec not in FEATURE_CODECS) is of_pictures]

        return of_kind(self.codecs) or of_kind(CODECS)


def usual_split_points(points: Sequence[str]) -> tuple[str, ...]:
    """Those that matter of a model's: nothing, half and all of the vision tower, the Q-Former, everything.

    Args:
        points: all of the model's, in order.
    """
    blocks = [point for point in points if point.startswith("vit.")]
    return ("input", blocks[(len(blocks) - 1) // 2], "vision", "qformer", "output")
