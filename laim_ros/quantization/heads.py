"""`Heads`: the robot's half of one model at any bit-width, loaded when asked for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cached_property

import torch
from torch import nn

from laim_ros.models import SplitModel, load
from laim_ros.models.identity import packed_head
from laim_ros.models.loading import find_device
from laim_ros.models.source import find_source
from laim_ros.plan import BIT_WIDTHS
from laim_ros.quantization.engines import Engine, FloatEngine, make_engine
from laim_ros.quantization.errors import GivenUpError, QuantizationError
from laim_ros.quantization.pruning import Pruning
from laim_ros.quantization.quantize import QUANTIZER_NAMES
from laim_ros.quantization.storage.manifest import read_manifest
from laim_ros.quantization.stores import WeightStore, open_store

FLOATS = {32: "float32", 16: "bfloat16"}
"""Number formats of the bit-widths that are not quantized."""

QUANTIZER_CHOICES = ("auto", *QUANTIZER_NAMES)

KEPT_BYTES = 64_000_000
"""Heads that are small are kept, up to so many bytes together: going back to one takes no time."""


class Heads:
    """Loads a model's stages from `input` on, with weights at a given number of bits.

    At 32 and 16 bits, without pruning, these are transformers' own layers in float32 and bfloat16. Everything else is
    read block by block from the checkpoint, or from the folder that `laim quantize` wrote, into an engine's layers.

    Args:
        model: shipped name, local folder or hub id, or a folder that `laim quantize` wrote.
        last: last stage to load; with `output` the text part too, always in floating point.
        device: cpu, cuda, cuda:N or auto.
        quantizer: how weights become codes; `auto` is uniform, or what a packed folder was made with.
        prune: what to leave out, such as `heads:0.25,neurons:0.25`; empty for nothing.
        engine: what runs the quantized layers; `auto` is the fastest that this machine has.

    Raises:
        ModelError: no such model or device.
        QuantizationError: no such quantizer, pruning or engine, or one that cannot be had here.
    """

    def __init__(
        self,
        model: str,
        *,
        last: str = "qformer",
        device: str = "auto",
        quantizer: str = "auto",
        prune: str = "",
        engine: str = "auto",
    ) -> None:
        self._source = find_source(model)
        self._device = find_device(device)
        self._last, self._quantizer, self._engine = last, quantizer, engine
        self._prune = Pruning.parse(prune)
        self._stores: dict[int, WeightStore] = {}
        self._kept: dict[tuple[int, str], SplitModel] = {}
        if quantizer not in QUANTIZER_CHOICES:
            raise QuantizationError(f"quantizer '{quantizer}' is none of {', '.join(QUANTIZER_CHOICES)}")
        make_engine(engine, self._device)
        packed = packed_head(self._source)
        if packed is not None and last == "output":
            raise QuantizationError(
                f"packed model '{model}' has no language model; use last_split qformer, or the model that it was made "
                f"of: '{packed['model']}'"
            )

    @cached_property
    def own_bits(self) -> int:
        """Bits per weight of the model as it is: 32, or those of a packed folder.

        Raises:
            ModelError, QuantizationError: a packed folder that does not say so.
        """
        return 32 if packed_head(self._source) is None else read_manifest(self._source).bits

    def bits_for(self, weight_bits: int) -> int:
        """What asking for so many bits comes to: 32 is the model as it is, with a packed folder what that has."""
        return self.own_bits if weight_bits == 32 else weight_bits

    def check(self, weight_bits: int) -> None:
        """Whether the head can be had at so many bits, without loading it.

        Raises:
            QuantizationError: it cannot; the message says what can.
        """
        if weight_bits not in BIT_WIDTHS:
            raise QuantizationError(f"weight_bits {weight_bits} is none of {', '.join(map(str, BIT_WIDTHS))}")
        weight_bits = self.bits_for(weight_bits)
        if not self._plain(weight_bits):
            self._store(weight_bits)

    def load(
        self, weight_bits: int, *, last: str | None = None, wanted: Callable[[], bool] = lambda: True
    ) -> SplitModel:
        """The head at so many bits, run once. Heads of other widths share nothing with it, and go on working meanwhile.

        Args:
            weight_bits: 1–8, 16, or 32 for the model as it is.
            last: as in the constructor; None takes that one.
            wanted: asked before each layer, whether to go on; not where transformers' own layers are loaded.

        Raises:
            GivenUpError: it was no longer wanted.
            ModelError: files missing or damaged, or no such split point.
            QuantizationError: the head cannot be had at so many bits, or its weights are not finite.
        """
        self.check(weight_bits)
        weight_bits, last = self.bits_for(weight_bits), last or self._last
        model = self._kept.get((weight_bits, last))
        if model is None:
            model = self._loaded(weight_bits, last, wanted)
            # The first run allocates what the later ones use. One that is kept may be at work on a frame right now.
            picture = torch.zeros((1, *model.image_size, 3), dtype=torch.uint8)
            model.run(picture, "input", "qformer" if last == "output" else last)
            if last != "output":
                self._keep(weight_bits, last, model)
        return model

    def _loaded(self, weight_bits: int, last: str, wanted: Callable[[], bool]) -> SplitModel:
        if self._plain(weight_bits):
            return load(self._source, last=last, dtype=FLOATS[weight_bits], device=str(self._device))
        if weight_bits == 16:
            engine: Engine = FloatEngine(self._device, torch.bfloat16)
        else:
            engine = make_engine("float" if weight_bits == 32 else self._engine, self._device)
        builder = _Builder(self._store(weight_bits), engine, weight_bits, wanted)
        model = load(self._source, last=last, device=str(self._device), builder=builder)
        _give_memory_back()
        return model

    def _keep(self, weight_bits: int, last: str, model: SplitModel) -> None:
        self._kept[weight_bits, last] = model
        while sum(kept.weight_bytes for kept in self._kept.values()) > KEPT_BYTES:
            del self._kept[next(iter(self._kept))]

    def _plain(self, weight_bits: int) -> bool:
        """Whether transformers' own layers do."""
        return weight_bits in FLOATS and not self._prune and packed_head(self._source) is None

    def _store(self, weight_bits: int) -> WeightStore:
        if weight_bits not in self._stores:
            self._stores[weight_bits] = open_store(
                self._source, weight_bits, quantizer=self._quantizer, pruning=self._prune
            )
        return self._stores[weight_bits]


def _give_memory_back() -> None:
    """Returns what reading and quantizing took to the system: the C library would keep a tenth of a head for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's only
    if trim is not None:
        trim(0)


class _Builder:
    """A `HeadBuilder` that hands a store's weights to an engine."""

    def __init__(self, store: WeightStore, engine: Engine, weight_bits: int, wanted: Callable[[], bool]) -> None:
        self._store, self._maker, self._wanted = store, engine, wanted
        self.weight_bits, self.engine, self.nbytes = weight_bits, engine.name, 0

    def block(self, prefix: str) -> nn.Module:
        """The engine's block, or the identity where pruning dropped it."""
        self._require_wanted()
        weights = self._store.block(prefix)
        return nn.Identity() if weights is None else self._counted(self._maker.block(weights))

    def linear(self, prefix: str) -> nn.Module:
        """The engine's linear layer."""
        self._require_wanted()
        return self._counted(self._maker.linear(self._store.linear(prefix)))

    def _require_wanted(self) -> None:
        if not self._wanted():
            raise GivenUpError(f"the head of {self.weight_bits} bits is no longer wanted")

    def _counted(self, layer: nn.Module) -> nn.Module:
        self.nbytes += layer.nbytes
        return layer
