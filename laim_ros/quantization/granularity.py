"""How many weights share a scale: the whole tensor, an output channel, or a group of inputs of one channel."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from laim_ros.quantization.errors import QuantizationError


@dataclass(frozen=True, slots=True)
class Granularity:
    """Which weights share a scale.

    Attributes:
        kind: `tensor`, `channel` or `group`.
        group_size: inputs per group; 0 unless `kind` is `group`.
    """

    kind: str
    group_size: int = 0

    @classmethod
    def parse(cls, text: str) -> Granularity:
        """From `tensor`, `channel` or `group:128`.

        Raises:
            QuantizationError: none of these.
        """
        if text in ("tensor", "channel"):
            return cls(text)
        if match := re.fullmatch(r"group:([1-9]\d{0,8})", text):
            return cls("group", int(match[1]))
        raise QuantizationError(
            f"granularity '{text}' must be 'tensor', 'channel', or a group of inputs as 'group:128'"
        )

    def __str__(self) -> str:
        return f"group:{self.group_size}" if self.kind == "group" else self.kind

    def scale_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Shape of the scales of a weight (N, K): (1, 1), (N, 1) or (N, K / G).

        Raises:
            QuantizationError: the group does not divide K.
        """
        outputs, inputs = shape
        if self.kind == "tensor":
            return (1, 1)
        if self.kind == "channel":
            return (outputs, 1)
        if inputs % self.group_size:
            raise QuantizationError(
                f"groups of {self.group_size} do not divide the {inputs} inputs of a weight of {tuple(shape)}; "
                "choose a divisor, or 'channel'"
            )
        return (outputs, inputs // self.group_size)

    def rows(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight (N, K) as (S, n): S scales, each for the n weights of its row; a view where memory allows.

        Raises:
            QuantizationError: the group does not divide K.
        """
        channels, groups = self.scale_shape((weight.shape[0], weight.shape[1]))
        return weight.reshape(channels * groups, -1)
