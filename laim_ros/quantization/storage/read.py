"""`PackedStore`: a packed head as a store, straight out of the file, never through floating-point weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from laim_ros.models.source import SINGLE_FILE, ModelSource
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.nested import derive
from laim_ros.quantization.parts import BLOCK_LINEARS, BLOCK_NORMS, HeadParts, block_index
from laim_ros.quantization.planes import PLANE_WIDTHS
from laim_ros.quantization.quantized_weight import QuantizedWeight
from laim_ros.quantization.storage.layout import FLOAT_DTYPES, head_layout, linear_shapes
from laim_ros.quantization.storage.manifest import Manifest, read_manifest
from laim_ros.quantization.weights import BlockWeights, LinearWeights, NormWeights

_AGAIN = "copy it again, or pack it again with `laim quantize`"


class PackedStore:
    """The head in a folder that `laim quantize` wrote; a `WeightStore`.

    The file is opened anew for every part. Codes are windows on it: memory that the system can drop and read again, and
    that goes with the last tensor that uses it; scales, biases and the rest are copies.

    Args:
        source: of the folder.
        bits: those of the folder; of 8 bits with a uniform quantizer also fewer.

    Attributes:
        manifest: what the folder says of itself.

    Raises:
        QuantizationError: bits that the folder cannot give, another format, or files that do not belong together,
            are damaged or cut short.
        ModelError: files missing.
    """

    def __init__(self, source: ModelSource, bits: int) -> None:
        self.source = source
        self.bits = bits
        self.manifest = read_manifest(source)
        _require_bits(self.manifest, bits, source.name)
        self._parts = HeadParts.of(source)
        if len(self.manifest.blocks) != self._parts.blocks:
            raise self._damaged(f"{len(self.manifest.blocks)} blocks, where config.json has {self._parts.blocks}")
        self._shapes = linear_shapes(self._parts, self.manifest.blocks)
        self._path = next(iter(source.shard_paths(source.shards)), source.folder / SINGLE_FILE)
        self._require_whole()

    def block(self, prefix: str) -> BlockWeights | None:
        """See `WeightStore`."""
        shape = self.manifest.blocks[block_index(prefix)]
        if shape is None:
            return None
        with self._opened() as file:
            qkv, projection, fc1, fc2 = (self._linear(file, f"{prefix}{name}") for name in BLOCK_LINEARS)
            norm1, norm2 = (
                NormWeights(
                    *(self._floats(file, f"{prefix}{name}.{kind}") for kind in ("weight", "bias")), self._parts.eps
                )
                for name in BLOCK_NORMS
            )
        return BlockWeights(norm1, qkv, projection, norm2, fc1, fc2, heads=shape.heads, head_width=shape.head_width)

    def linear(self, prefix: str) -> LinearWeights:
        """See `WeightStore`."""
        with self._opened() as file:
            return self._linear(file, prefix)

    def tensor(self, key: str) -> torch.Tensor:
        """See `WeightStore`."""
        with self._opened() as file:
            return self._floats(file, key)

    def _linear(self, file: Any, prefix: str) -> LinearWeights:
        made = self.manifest
        planes = tuple(
            file.get_tensor(f"{prefix}.weight.planes.{number}") for number in range(len(PLANE_WIDTHS[made.bits]))
        )
        scale = self._floats(file, f"{prefix}.weight.scale")
        lower = self._floats(file, f"{prefix}.weight.lower_scales") if made.nested else None
        weight = QuantizedWeight(self._shapes[prefix], made.bits, made.family, scale, planes, lower)
        bias = self._floats(file, f"{prefix}.bias") if prefix in self._parts.biased else None
        return LinearWeights(weight if self.bits == made.bits else derive(weight, self.bits), bias)

    def _floats(self, file: Any, key: str) -> torch.Tensor:
        tensor = file.get_tensor(key).to(torch.float32, copy=True)
        if not torch.isfinite(tensor).all():
            raise self._damaged(f"{key} holds NaN or infinite values")
        return tensor

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            with safe_open(self._path, framework="pt") as file:
                yield file
        except (SafetensorError, OSError) as error:
            raise self._damaged(f"{self._path.name} cannot be read ({error})") from error

    def _require_whole(self) -> None:
        """Whether the file is the one that the manifest describes: its size, its header, the manifest's digest."""
        made, name = self.manifest, self._path.name
        size = _size(self._path)
        if size != made.file_bytes:
            raise self._damaged(f"{name} has {size:,} bytes, where quantization.json says {made.file_bytes:,}")
        with self._opened() as file:
            metadata = file.metadata() or {}
        if metadata.get("manifest_sha256") != made.digest():
            raise self._damaged(f"{name} and quantization.json do not belong together")
        found = {key: (info.dtype, info.shape) for key, info in self.source.tensors.items()}

        def stored_dtype(key: str) -> str:
            dtype = found.get(key, ("F32",))[0]
            return dtype if dtype in FLOAT_DTYPES else "F32"

        expected = head_layout(self._parts, made.blocks, made.bits, made.granularity, made.nested, stored_dtype)
        wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        if wrong:
            raise self._damaged(f"{name} does not hold '{wrong[0]}' as config.json and quantization.json ask for it")

    def _damaged(self, what: str) -> QuantizationError:
        return QuantizationError(f"packed model '{self.source.name}': {what}; {_AGAIN}")


def _require_bits(made: Manifest, bits: int, name: str) -> None:
    if bits == made.bits or (made.has_lower_bits and 1 <= bits < 8):
        return
    if 1 <= bits <= 8:
        fix = f"pack '{made.model}' again with `laim quantize --bits {bits}`, or with --bits 8 for all of 1 to 8"
    else:
        fix = f"use the model that it was made of, '{made.model}'"
    has = "1 to 8" if made.has_lower_bits else made.bits
    raise QuantizationError(f"packed model '{name}' has weights of {has} bits, not {bits}; {fix}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
