"""`Manifest`: what a packed head says of itself, in `quantization.json`."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec

from laim_ros.models.identity import ID_DIGITS, packed_head
from laim_ros.models.source import ModelSource
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.granularity import Granularity
from laim_ros.quantization.pruning import Pruning
from laim_ros.quantization.quantize import QUANTIZER_NAMES, family_of

FORMAT_VERSION = 1
"""A change of what a packed folder holds raises it."""

_MAX_BLOCKS = 1024

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Size = Annotated[int, msgspec.Meta(ge=1, le=65536)]


class BlockShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What pruning has left of a block of the vision tower.

    Attributes:
        heads, head_width: of the attention.
        neurons: between the two layers of the MLP.
    """

    heads: Size
    head_width: Size
    neurons: Size


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describes a packed head; all of it is known before the first weight is written.

    Attributes:
        version: of the format, `FORMAT_VERSION`.
        model, model_id: the model that it was made of: its name then, and its id.
        bits: per weight, 1–8.
        quantizer, granularity, prune: as given to `laim quantize`.
        calibration: the pictures that pruning was fitted to, such as `64 pictures of scenes`; empty where to none.
        nested: whether the best scales of all lower bit-widths are kept.
        last: last stage whose weights are here.
        blocks: of the vision tower in order; None for one that pruning has dropped.
        file_bytes: size of `model.safetensors`.
    """

    version: int
    model: Name
    model_id: Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-f]{{{ID_DIGITS}}}$")]
    bits: Annotated[int, msgspec.Meta(ge=1, le=8)]
    quantizer: Name
    granularity: Name
    prune: Annotated[str, msgspec.Meta(max_length=1024)]
    calibration: Annotated[str, msgspec.Meta(max_length=1024)]
    nested: bool
    last: Name
    blocks: Annotated[tuple[BlockShape | None, ...], msgspec.Meta(min_length=1, max_length=_MAX_BLOCKS)]
    file_bytes: Annotated[int, msgspec.Meta(ge=8)]

    @property
    def pruned(self) -> str:
        """What pruning was done, as the end of a sentence; empty where none."""
        if not self.prune:
            return ""
        return f", pruned by {self.prune}" + (f" with {self.calibration}" if self.calibration else "")

    @property
    def family(self) -> str:
        """The quantizer as `QuantizedWeight` names it: however its scale was found."""
        return family_of(self.quantizer)

    @property
    def has_lower_bits(self) -> bool:
        """Whether every lower bit-width follows from these codes, with `nested` best scales or without."""
        return self.bits == 8 and self.family == "uniform"

    def digest(self) -> str:
        """Hex SHA-256, also in the header of `model.safetensors`: tells whether the two files belong together."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


def read_manifest(source: ModelSource) -> Manifest:
    """The checked manifest of a packed folder.

    Raises:
        QuantizationError: another version, or fields that are missing, unknown or out of bounds.
        ModelError: no such file, or no JSON.
    """
    content: dict[str, Any] = packed_head(source) or {}
    version = content.get("version")
    if version != FORMAT_VERSION:
        raise QuantizationError(
            f"model '{source.name}' is packed in format {version!r}, but this version of laim_ros reads format "
            f"{FORMAT_VERSION}; pack it again with `laim quantize`"
        )
    try:
        manifest = msgspec.convert(content, Manifest)
        if manifest.quantizer not in QUANTIZER_NAMES:
            raise ValueError(f"unknown quantizer '{manifest.quantizer}'")
        Pruning.parse(manifest.prune)
        Granularity.parse(manifest.granularity)
    except (ValueError, TypeError) as error:
        raise QuantizationError(
            f"model '{source.name}': quantization.json cannot be used: {error}; pack it again with `laim quantize`"
        ) from error
    return manifest
