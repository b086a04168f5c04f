"""`QuantizedWeight`: a matrix of b-bit codes with its scales, exactly b bits per weight in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laim_ros.quantization import planes
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.levels import levels_of

BITS = range(1, 9)
"""Bit-widths of quantized weights."""


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A weight matrix of N outputs and K inputs.

    A code c is a two's-complement number of `bits` bits. Where the quantizer has levels (`levels_of`), c ≥ 0 stands for
    +levels[c] and c < 0 for -levels[-c - 1]; else (uniform, 2 bits or more) c stands for itself. The weight is that
    times its scale.

    Attributes:
        shape: (N, K).
        bits: 1–8.
        quantizer: `uniform`, `power_of_two` or `exponential`.
        scale: float32 (1, 1) for the whole tensor, (N, 1) per channel, (N, K / G) per group of G inputs.
        planes: uint8 tensors, `bits` bits per weight together; see `planes.pack`.
        lower_scales: float32 (7, *scale.shape), the best scales at 1–7 bits, so that `nested.derive` needs no original
            weights; None where they are not kept.
    """

    shape: tuple[int, int]
    bits: int
    quantizer: str
    scale: torch.Tensor
    planes: tuple[torch.Tensor, ...]
    lower_scales: torch.Tensor | None = None

    @classmethod
    def from_codes(cls, codes: torch.Tensor, scale: torch.Tensor, bits: int, quantizer: str) -> QuantizedWeight:
        """Packs codes.

        Args:
            codes: int8 (N, K).
            scale: float32 (1, 1), (N, 1) or (N, K / G).
            bits: 1–8.
            quantizer: that the codes belong to.

        Raises:
            QuantizationError: shapes that do not fit each other.
        """
        shape = (codes.shape[0], codes.shape[1])
        if scale.ndim != 2 or shape[0] % scale.shape[0] or shape[1] % scale.shape[1]:
            raise QuantizationError(f"scales of shape {tuple(scale.shape)} do not fit a weight of {shape}")
        return cls(shape, bits, quantizer, scale, planes.pack(codes, bits))

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales in memory."""
        lower = 0 if self.lower_scales is None else self.lower_scales.nbytes
        return sum(plane.nbytes for plane in self.planes) + self.scale.nbytes + lower

    def codes(self) -> torch.Tensor:
        """The codes, int8 (N, K); at 8 bits the memory of the plane itself, which may be a window on a file."""
        if self.bits == 8:
            return self.planes[0].view(torch.int8)
        return planes.unpack(self.planes, self.bits, self.shape[0]).bitwise_right_shift(8 - self.bits)

    def dequantize(self) -> torch.Tensor:
        """The weights that the codes stand for, float32 (N, K)."""
        codes = self.codes()
        levels = levels_of(self.quantizer, self.bits)
        if levels is None:
            values = codes.to(torch.float32)
        else:
            # As a table over all codes, ordered as unsigned numbers index it: 0, 1, …, then the negative ones.
            table = torch.cat([levels, -levels.flip(0)]).to(codes.device)
            values = table[codes.to(torch.int32) % len(table)]
        groups = self.scale.shape[1]
        return (values.view(self.shape[0], groups, -1) * self.scale[:, :, None]).view(self.shape)
