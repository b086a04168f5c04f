"""A safetensors file whose tensors are written one by one, in any order: its header is known before the first."""

from __future__ import annotations

import json
import math
from typing import BinaryIO

import torch

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.parts import BLOCK_LINEARS, BLOCK_NORMS
from laim_ros.quantization.quantized_weight import QuantizedWeight
from laim_ros.quantization.storage.layout import ITEM_BYTES, Layout, Shape
from laim_ros.quantization.weights import BlockWeights, LinearWeights, NormWeights

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "U8": torch.uint8}
_ALIGNMENT = 8
"""Of the first tensor in the file, as safetensors writes it."""
_DIGEST_DIGITS = 64


def header_bytes(layout: Layout) -> int:
    """Size of what comes before the first tensor."""
    return len(_header(layout, "0" * _DIGEST_DIGITS))


def file_bytes(layout: Layout) -> int:
    """Size of the whole file."""
    return header_bytes(layout) + sum(_nbytes(entry) for entry in layout.values())


class HeadFile:
    """Puts a head's tensors at their places in the file.

    Args:
        file: open and empty.
        layout: of every tensor that will come.
        manifest_digest: hex SHA-256, for the header.
    """

    def __init__(self, file: BinaryIO, layout: Layout, manifest_digest: str) -> None:
        header = _header(layout, manifest_digest)
        file.write(header)
        self._file, self._layout = file, layout
        self._begin, begin = {}, len(header)
        for name in _ordered(layout):
            self._begin[name] = begin
            begin += _nbytes(layout[name])
        self.written: set[str] = set()

    def tensor(self, name: str, tensor: torch.Tensor) -> None:
        """Writes a tensor, in the dtype of the layout.

        Raises:
            QuantizationError: it has not the layout's shape.
        """
        dtype, shape = self._layout[name]
        if tuple(tensor.shape) != shape:
            raise QuantizationError(f"{name} has shape {tuple(tensor.shape)} where {shape} was to come")
        stored = tensor.to(_DTYPES[dtype]).contiguous()
        self._file.seek(self._begin[name])
        self._file.write(stored.view(-1).view(torch.uint8).numpy().data)
        self.written.add(name)

    def linear(self, prefix: str, linear: LinearWeights) -> None:
        """Writes a quantized layer."""
        weight = linear.weight
        assert isinstance(weight, QuantizedWeight)
        for number, plane in enumerate(weight.planes):
            self.tensor(f"{prefix}.weight.planes.{number}", plane)
        self.tensor(f"{prefix}.weight.scale", weight.scale)
        if weight.lower_scales is not None:
            self.tensor(f"{prefix}.weight.lower_scales", weight.lower_scales)
        if linear.bias is not None:
            self.tensor(f"{prefix}.bias", linear.bias)

    def block(self, prefix: str, block: BlockWeights) -> None:
        """Writes a block with its normalisations."""
        linears = (block.qkv, block.projection, block.fc1, block.fc2)
        for name, linear in zip(BLOCK_LINEARS, linears, strict=True):
            self.linear(f"{prefix}{name}", linear)
        for name, norm in zip(BLOCK_NORMS, (block.norm1, block.norm2), strict=True):
            self._norm(f"{prefix}{name}", norm)

    def require_all(self) -> None:
        """Raises QuantizationError if anything of the layout has not been written."""
        missing = sorted(self._layout.keys() - self.written)
        if missing:
            raise QuantizationError(f"{missing[0]} and {len(missing) - 1} other tensors were not written")

    def _norm(self, prefix: str, norm: NormWeights) -> None:
        self.tensor(f"{prefix}.weight", norm.weight)
        self.tensor(f"{prefix}.bias", norm.bias)


def _ordered(layout: Layout) -> list[str]:
    """Wide elements first, so that all are aligned, and then as they are read."""
    return sorted(layout, key=lambda name: -ITEM_BYTES[layout[name][0]])


def _header(layout: Layout, digest: str) -> bytes:
    """The safetensors header: its length, and JSON padded with blanks."""
    content: dict[str, object] = {"__metadata__": {"format": "pt", "manifest_sha256": digest}}
    begin = 0
    for name in _ordered(layout):
        dtype, shape = layout[name]
        end = begin + _nbytes(layout[name])
        content[name] = {"dtype": dtype, "shape": shape, "data_offsets": (begin, end)}
        begin = end
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _nbytes(entry: tuple[str, Shape]) -> int:
    return math.prod(entry[1]) * ITEM_BYTES[entry[0]]
