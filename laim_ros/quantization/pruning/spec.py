"""`Pruning`: what is taken out of the head before it is quantized, as a user writes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from laim_ros.quantization.errors import QuantizationError

_EXAMPLE = "write for instance 'magnitude:0.5', 'heads:0.25,neurons:0.3' or 'blocks:2'"


@dataclass(frozen=True, slots=True)
class Pruning:
    """How much of the head is pruned. Nothing by default; false where it is nothing.

    Attributes:
        magnitude: share of the weights of each linear layer that become zero, the smallest ones; 0 ≤ r < 1. It makes
            nothing smaller or faster by itself; all linear layers of the head take part.
        heads: share of the attention heads that each block of the vision tower loses; 0 ≤ r < 1, one head always stays.
        neurons: share of the neurons between the two MLP layers that each block loses; 0 ≤ r < 1.
        blocks: how many whole blocks the vision tower loses.

    Only the vision tower loses heads, neurons and blocks: 98 % of a BLIP-2 head's arithmetic is done there.
    """

    magnitude: float = 0.0
    heads: float = 0.0
    neurons: float = 0.0
    blocks: int = 0

    def __post_init__(self) -> None:
        for kind in ("magnitude", "heads", "neurons"):
            ratio = getattr(self, kind)
            if not 0 <= ratio < 1:  # fails for NaN, too
                raise QuantizationError(f"prune '{kind}:{ratio:g}': a share is at least 0 and below 1; {_EXAMPLE}")
        if self.blocks < 0:
            raise QuantizationError(f"prune 'blocks:{self.blocks}': give how many blocks to drop, 0 or more")

    @classmethod
    def parse(cls, text: str) -> Pruning:
        """Reads `kind:amount` pairs with commas between, such as `magnitude:0.5` or `heads:0.25,blocks:2`; "" is none.

        Raises:
            QuantizationError: another kind, an amount out of range, or a kind twice.
        """
        found: dict[str, float | int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            kind, _, amount = (piece.strip() for piece in part.partition(":"))
            if kind not in cls.__slots__:
                raise QuantizationError(f"prune '{part}': the kinds are {', '.join(cls.__slots__)}; {_EXAMPLE}")
            if kind in found:
                raise QuantizationError(f"prune '{text}' names {kind} twice; give it once")
            found[kind] = _whole(part, amount) if kind == "blocks" else _share(part, amount)
        return cls(**found)

    def __bool__(self) -> bool:
        return any(getattr(self, kind) for kind in self.__slots__)

    @property
    def structured(self) -> Pruning:
        """The part that makes the vision tower smaller: everything but `magnitude`."""
        return replace(self, magnitude=0.0)

    def __str__(self) -> str:
        """As `parse` reads it."""
        amounts = ((kind, getattr(self, kind)) for kind in self.__slots__)
        return ",".join(f"{kind}:{amount!r}" for kind, amount in amounts if amount)

    def require_kept_by(self, quantizer: str, bits: int) -> None:
        """Zeros survive quantization only where the quantizer has a level at zero.

        Args:
            quantizer: a family (`uniform`, `power_of_two`, `exponential`) or any name that begins with one.
            bits: 1–8, or 16 and 32 for floats, which hold every zero.

        Raises:
            QuantizationError: magnitude pruning with a quantizer that would fill the holes again.
        """
        if self.magnitude and bits <= 8 and (bits == 1 or not quantizer.startswith("uniform")):
            which = "1 bit has" if bits == 1 else f"the quantizer '{quantizer}' has"
            raise QuantizationError(
                f"prune 'magnitude:{self.magnitude:g}' with {bits} bits: {which} no level at zero and would fill the "
                "pruned weights again; use 'uniform' with 2 bits or more, or prune heads, neurons or blocks"
            )


def _share(part: str, amount: str) -> float:
    try:
        return float(amount)
    except ValueError:
        raise QuantizationError(f"prune '{part}': '{amount}' is no number; {_EXAMPLE}") from None


def _whole(part: str, amount: str) -> int:
    number = _share(part, amount)
    if not math.isfinite(number) or number != int(number):
        raise QuantizationError(f"prune '{part}': give how many whole blocks to drop, such as 'blocks:2'")
    return int(number)
