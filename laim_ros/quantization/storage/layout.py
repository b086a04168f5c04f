"""Which tensors a packed head holds, of which dtypes and shapes, known before a single weight is read.

The names are the checkpoint's own. A linear layer has `<prefix>.weight.planes.0` … (see `planes.py`), `.weight.scale`,
`.weight.lower_scales` where nested, and `.bias`; everything else keeps its key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from laim_ros.quantization.granularity import Granularity
from laim_ros.quantization.parts import BLOCK_LINEARS, HeadParts, block_index
from laim_ros.quantization.planes import plane_shapes
from laim_ros.quantization.quantized_weight import BITS
from laim_ros.quantization.storage.manifest import BlockShape

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1}
"""Bytes per element of the dtypes in a packed head, as safetensors spells them."""

FLOAT_DTYPES = ("F32", "F16", "BF16")
"""What is not quantized keeps its dtype, if it is one of these."""

_LOWER_WIDTHS = len(BITS) - 1

Shape = tuple[int, ...]
Layout = Mapping[str, tuple[str, Shape]]
"""dtype and shape of every tensor, by name."""


@dataclass(frozen=True, slots=True)
class Promise:
    """The size of a packed head as bits per weight make it, before any weight is read.

    Attributes:
        weights: number of quantized weights.
        bits: per weight.
        scale_bytes: of all scales.
        float_bytes: of what is not quantized.
        header_bytes: of the names and shapes of the tensors.
    """

    weights: int
    bits: int
    scale_bytes: int
    float_bytes: int
    header_bytes: int

    @classmethod
    def of(cls, layout: Layout, shapes: Mapping[str, tuple[int, int]], bits: int, header_bytes: int) -> Promise:
        """The promise for a layout whose linear layers have these shapes (N, K)."""
        sizes = {name: math.prod(shape) * ITEM_BYTES[dtype] for name, (dtype, shape) in layout.items()}
        scale_bytes = sum(size for name, size in sizes.items() if name.endswith((".weight.scale", ".lower_scales")))
        float_bytes = sum(size for name, size in sizes.items() if layout[name][0] != "U8") - scale_bytes
        weights = sum(math.prod(shape) for shape in shapes.values())
        return cls(weights, bits, scale_bytes, float_bytes, header_bytes)

    @property
    def weight_bytes(self) -> int:
        """Of the codes alone: weights · bits / 8."""
        return -(-self.weights * self.bits // 8)

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.scale_bytes + self.float_bytes + self.header_bytes


def linear_shapes(parts: HeadParts, blocks: tuple[BlockShape | None, ...]) -> dict[str, tuple[int, int]]:
    """(N, K) of the linear layers that pruning leaves, by prefix, in the order in which they are read and written."""
    shapes = {}
    for prefix, (outputs, inputs) in parts.linears.items():
        index = block_index(prefix)
        if index is None:
            shapes[prefix] = (outputs, inputs)
            continue
        block = blocks[index]
        if block is not None:
            inner = block.heads * block.head_width
            shape = ((3 * inner, inputs), (outputs, inner), (block.neurons, inputs), (outputs, block.neurons))
            shapes[prefix] = shape[_place_in_block(prefix)]
    return shapes


def head_layout(
    parts: HeadParts,
    blocks: tuple[BlockShape | None, ...],
    bits: int,
    granularity: str,
    nested: bool,
    dtype_of: Callable[[str], str],
) -> Layout:
    """Every tensor of a packed head.

    Args:
        parts: of the source model.
        blocks: what pruning leaves.
        bits, granularity, nested: as in the manifest.
        dtype_of: dtype for the key of a tensor that is not quantized.

    Raises:
        QuantizationError: groups that do not divide a layer's inputs.
    """
    per = Granularity.parse(granularity)
    layout: dict[str, tuple[str, Shape]] = {}
    for prefix, shape in linear_shapes(parts, blocks).items():
        scale = per.scale_shape(shape)
        for number, plane in enumerate(plane_shapes(shape, bits)):
            layout[f"{prefix}.weight.planes.{number}"] = ("U8", plane)
        layout[f"{prefix}.weight.scale"] = ("F32", scale)
        if nested:
            layout[f"{prefix}.weight.lower_scales"] = ("F32", (_LOWER_WIDTHS, *scale))
        if prefix in parts.biased:
            layout[f"{prefix}.bias"] = (dtype_of(f"{prefix}.bias"), shape[:1])
    for key in other_keys(parts, blocks):
        layout[key] = (dtype_of(key), parts.others[key])
    return layout


def other_keys(parts: HeadParts, blocks: tuple[BlockShape | None, ...]) -> Iterator[str]:
    """Keys outside linear layers, without those of dropped blocks."""
    for key in parts.others:
        index = block_index(key)
        if index is None or blocks[index] is not None:
            yield key


def _place_in_block(prefix: str) -> int:
    return next(place for place, name in enumerate(BLOCK_LINEARS) if prefix.endswith(name))
