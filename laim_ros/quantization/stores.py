"""Where a head's weights come from, part by part: a checkpoint that is quantized on the way, or a packed folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Protocol

import torch

from laim_ros.models.identity import packed_head
from laim_ros.models.source import ModelSource
from laim_ros.models.weights import read_tensors, require_complete
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.granularity import Granularity
from laim_ros.quantization.parts import BLOCK_LINEARS, BLOCK_NORMS, HeadParts, block_index, block_prefix
from laim_ros.quantization.pruning import (
    Pruning,
    choose_blocks,
    influences,
    prune_block,
    prune_linear,
    prune_tower,
)
from laim_ros.quantization.quantize import QUANTIZER_NAMES, quantize
from laim_ros.quantization.quantized_weight import BITS, QuantizedWeight
from laim_ros.quantization.storage.read import PackedStore
from laim_ros.quantization.weights import BlockWeights, LinearWeights, NormWeights

if TYPE_CHECKING:  # it takes scenes and picture sources along, which no robot needs
    from laim_ros.quantization.calibration import Calibration

FLOAT_BITS = (16, 32)
"""Weight bits at which a store gives floats."""

Observer = Callable[[str, torch.Tensor, QuantizedWeight], None]
"""Is told the prefix of each linear layer, its weight (N, K) before magnitude pruning, and what became of it."""


class WeightStore(Protocol):
    """A head's weights at some number of bits. Nothing is read before it is asked for, and nothing is kept."""

    def block(self, prefix: str) -> BlockWeights | None:
        """A block of the vision tower.

        Args:
            prefix: such as `vision_model.encoder.layers.0.`.

        Returns:
            None for a block that pruning has dropped.

        Raises:
            QuantizationError, ModelError: weights that are missing, damaged, or cannot be quantized.
        """
        ...

    def linear(self, prefix: str) -> LinearWeights:
        """A linear layer outside the vision blocks, such as `qformer.encoder.layer.0.attention.attention.query`.

        Raises:
            QuantizationError, ModelError: as `block`.
        """
        ...

    def tensor(self, key: str) -> torch.Tensor:
        """Any other tensor of the head, float32.

        Raises:
            QuantizationError, ModelError: as `block`.
        """
        ...


class _CheckpointError(QuantizationError):
    """A tensor of the checkpoint that cannot be used; the message names model and tensor already."""


class CheckpointStore:
    """A checkpoint of floats, read one block at a time, pruned and quantized on the way.

    Args:
        source: of the checkpoint.
        bits: 1–8; 16 and 32 give floats, float32 in memory.
        quantizer, granularity: as `quantize` takes them.
        pruning: done first.
        observe: told of every layer that has been quantized.
        make: quantizes a weight in the place of `quantize`, such as into the nested form.
        calibration: pictures that show what structured pruning loses. Blocks are then best asked for in order: each is
            fitted to what the pruned ones before it make of the pictures, so that going back starts over.

    Raises:
        QuantizationError: no such bits, a model that cannot be quantized, or pruning that does not go with the rest.
    """

    def __init__(
        self,
        source: ModelSource,
        bits: int,
        quantizer: str = "uniform",
        granularity: str = "channel",
        pruning: Pruning | None = None,
        *,
        observe: Observer | None = None,
        make: Callable[[torch.Tensor], QuantizedWeight] | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        if bits not in BITS and bits not in FLOAT_BITS:
            raise QuantizationError(f"weight bits {bits} are none of 1 to 8, 16, 32")
        if quantizer not in QUANTIZER_NAMES:
            raise QuantizationError(f"quantizer '{quantizer}' must be one of {', '.join(QUANTIZER_NAMES)}")
        Granularity.parse(granularity)
        self.source = source
        self.bits = bits
        self.pruning = pruning or Pruning()
        self.pruning.require_kept_by(quantizer, bits)
        self.parts = HeadParts.of(source)
        self._observe = observe
        self._make = make or partial(quantize, bits=bits, quantizer=quantizer, granularity=granularity)
        self._tokens = None if calibration is None else calibration.tokens
        self._fitted: Iterator[BlockWeights | None] | None = None
        self._next = 0

    @cached_property
    def dropped(self) -> frozenset[int]:
        """Blocks that pruning drops, from 0; finding out reads the whole vision tower once."""
        if not self.pruning.blocks:
            return frozenset()
        if self._tokens is None:
            return _dropped_by_weights(self.source, self.pruning.blocks)
        return choose_blocks(influences(self._floats, self.parts.blocks, self._tokens), self.pruning.blocks)

    def block(self, prefix: str) -> BlockWeights | None:
        """See `WeightStore`."""
        index = block_index(prefix)
        if index in self.dropped:
            return None
        with self._naming(prefix):
            block = self._pruned(index)
        names = [f"{prefix}{name}" for name in BLOCK_LINEARS]
        linears = (block.qkv, block.projection, block.fc1, block.fc2)
        qkv, projection, fc1, fc2 = (self._quantized(name, linear) for name, linear in zip(names, linears, strict=True))
        return BlockWeights(
            block.norm1, qkv, projection, block.norm2, fc1, fc2, heads=block.heads, head_width=block.head_width
        )

    def linear(self, prefix: str) -> LinearWeights:
        """See `WeightStore`."""
        return self._quantized(prefix, self._linear(prefix, self._read([prefix])))

    def tensor(self, key: str) -> torch.Tensor:
        """See `WeightStore`."""
        return self._tensors([key])[key]

    def _pruned(self, index: int) -> BlockWeights:
        structured = self.pruning.structured
        if self._tokens is None or not (structured.heads or structured.neurons):
            return prune_block(self._floats(index), structured)
        fitted = self._fitted
        if fitted is None or index < self._next:
            fitted = prune_tower(self._floats, self.parts.blocks, structured, self._tokens, self.dropped)
            self._next = 0
        self._fitted = None  # until it has gone well: an iterator that has failed gives no more
        for _ in range(self._next, index):
            next(fitted)
        block = next(fitted)
        self._fitted, self._next = fitted, index + 1
        return block

    def _quantized(self, prefix: str, linear: LinearWeights) -> LinearWeights:
        with self._naming(f"{prefix}.weight"):
            pruned = prune_linear(linear, self.pruning)
            if self.bits in FLOAT_BITS:
                return pruned
            weight = self._make(pruned.weight)
        if self._observe is not None:
            self._observe(prefix, linear.weight, weight)
        return LinearWeights(weight, linear.bias)

    @contextmanager
    def _naming(self, what: str) -> Iterator[None]:
        try:
            yield
        except _CheckpointError:
            raise
        except QuantizationError as error:
            raise QuantizationError(f"model '{self.source.name}': {what}: {error}") from error

    def _floats(self, index: int) -> BlockWeights:
        """A block as it lies in the checkpoint, float32."""
        prefix = block_prefix(index)
        norms = [f"{prefix}{name}.{kind}" for name in BLOCK_NORMS for kind in ("weight", "bias")]
        tensors = self._read([f"{prefix}{name}" for name in BLOCK_LINEARS], norms)
        qkv, projection, fc1, fc2 = (self._linear(f"{prefix}{name}", tensors) for name in BLOCK_LINEARS)
        norm1, norm2 = (
            NormWeights(tensors[f"{prefix}{name}.weight"], tensors[f"{prefix}{name}.bias"], self.parts.eps)
            for name in BLOCK_NORMS
        )
        heads, head_width = self.parts.heads, self.parts.head_width
        return BlockWeights(norm1, qkv, projection, norm2, fc1, fc2, heads=heads, head_width=head_width)

    def _linear(self, prefix: str, tensors: dict[str, torch.Tensor]) -> LinearWeights:
        return LinearWeights(tensors[f"{prefix}.weight"], tensors.get(f"{prefix}.bias"))

    def _read(self, prefixes: Sequence[str], others: Sequence[str] = ()) -> dict[str, torch.Tensor]:
        """Weights and biases of the linear layers with these prefixes, and other tensors by key."""
        keys = [f"{prefix}.weight" for prefix in prefixes]
        keys += [f"{prefix}.bias" for prefix in prefixes if prefix in self.parts.biased]
        return self._tensors([*keys, *others])

    def _tensors(self, keys: Sequence[str]) -> dict[str, torch.Tensor]:
        tensors = read_tensors(self.source, keys, lambda _: torch.float32, torch.device("cpu"))
        require_complete(self.source, set(keys) - tensors.keys())
        for key, tensor in tensors.items():
            if tuple(tensor.shape) != self._shape(key):
                raise _CheckpointError(
                    f"model '{self.source.name}': {key} has shape {tuple(tensor.shape)}, but config.json asks for "
                    f"{self._shape(key)}"
                )
            # `quantize` looks at the weights of linear layers itself.
            if key.removesuffix(".weight") not in self.parts.linears and not torch.isfinite(tensor).all():
                raise _CheckpointError(f"model '{self.source.name}': {key} holds NaN or infinite values")
        return tensors

    def _shape(self, key: str) -> tuple[int, ...]:
        prefix, _, kind = key.rpartition(".")
        if prefix in self.parts.linears:
            return self.parts.linears[prefix] if kind == "weight" else self.parts.linears[prefix][:1]
        if key not in self.parts.others:
            raise _CheckpointError(f"model '{self.source.name}': {key} is no weight of the head")
        return self.parts.others[key]


@lru_cache(maxsize=4)
def _dropped_by_weights(source: ModelSource, count: int) -> frozenset[int]:
    """The blocks to drop, by the weights alone: the same at every width, and finding out reads them all."""
    store = CheckpointStore(source, 32)
    return choose_blocks(influences(store._floats, store.parts.blocks, None), count)


def open_store(
    source: ModelSource,
    bits: int,
    quantizer: str = "auto",
    granularity: str = "auto",
    pruning: Pruning | None = None,
) -> WeightStore:
    """The store of a checkpoint or of a packed folder.

    Args:
        source: of either.
        bits: 1–8; 16 and 32 for a checkpoint.
        quantizer, granularity: `auto` takes what a packed folder was made with; for a checkpoint `uniform`, `channel`.
        pruning: none (or nothing) takes what a packed folder was made with.

    Raises:
        QuantizationError: a packed folder that was made otherwise or has not these bits; else as the stores.
        ModelError: files missing.
    """
    if packed_head(source) is None:
        quantizer = "uniform" if quantizer == "auto" else quantizer
        granularity = "channel" if granularity == "auto" else granularity
        return CheckpointStore(source, bits, quantizer, granularity, pruning)
    store = PackedStore(source, bits)
    made = store.manifest
    asked = {"quantizer": quantizer, "granularity": granularity, "prune": str(pruning or "auto")}
    for name, value in asked.items():
        if value not in ("auto", getattr(made, name)):
            raise QuantizationError(
                f"packed model '{source.name}' was made with {name} '{getattr(made, name)}', not '{value}'; leave "
                f"{name} out, or pack '{made.model}' again with `laim quantize`"
            )
    return store


__all__ = ["FLOAT_BITS", "CheckpointStore", "PackedStore", "WeightStore", "open_store"]
