"""The model id: tells whether two halves on two machines belong to the same checkpoint."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from laim_ros.models.errors import ModelError
from laim_ros.models.source import ModelSource, find_source

PACKED_FILE = "quantization.json"
"""Marks a folder that holds a packed head (`laim_ros/quantization/storage/`), and says what of."""

ID_DIGITS = 32
"""Hex digits of a model id: 128 bits, so that two checkpoints never share one by chance."""

_HASHED_WEIGHTS = ("query_tokens", "language_projection.")
"""Weights whose values are part of the id: small, and different after any training."""

_IRRELEVANT = frozenset({"transformers_version", "_name_or_path", "dtype", "torch_dtype"})
"""Keys of the configuration that change when a checkpoint is merely saved again."""

_ID = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")


def model_id(source: ModelSource) -> str:
    """Hex hash over the configuration, every tensor's name, dtype and shape, and the values of a few small tensors.

    It does not depend on how the checkpoint is cut into shards, nor on which stages are loaded. Reads headers and a few
    megabytes, never whole shards. A packed head carries the id of the model that it was made of.

    Raises:
        ModelError: files that are missing or cannot be read.
    """
    packed = packed_head(source)
    if packed is not None:
        return packed["model_id"]
    remembered = _remembered(source)
    if remembered is not None and remembered.is_file():
        return remembered.read_text(encoding="ascii")
    digest = hashlib.sha256()
    digest.update(json.dumps(_canonical(source.config), sort_keys=True, separators=(",", ":")).encode())
    for key in sorted(source.tensors):
        info = source.tensors[key]
        digest.update(json.dumps([key, info.dtype, info.shape]).encode())
    for key in sorted(source.tensors):
        if key.startswith(_HASHED_WEIGHTS):
            digest.update(source.tensor_bytes(key))
    identity = digest.hexdigest()[:ID_DIGITS]
    if remembered is not None:
        remembered.write_text(identity, encoding="ascii")
    return identity


def packed_head(source: ModelSource) -> dict[str, Any] | None:
    """What a packed head says of itself, with `model` and `model_id` of the model it was made of; None for others.

    Raises:
        ModelError: it says so in no way that can be read.
    """
    if not (source.folder / PACKED_FILE).is_file():
        return None
    content = source.json(PACKED_FILE)
    identity, name = content.get("model_id"), content.get("model")
    if not (isinstance(identity, str) and _ID.fullmatch(identity) and isinstance(name, str)):
        raise ModelError(
            f"model '{source.name}': {PACKED_FILE} names no source model; pack it again with `laim quantize`"
        )
    return content


def refuse_packed(source: ModelSource) -> None:
    """Raises ModelError if the folder holds a packed head, which has no language model and no weights as floats."""
    packed = packed_head(source)
    if packed is not None:
        raise ModelError(
            f"model '{source.name}' is a quantized head that only a robot can run; give the model that it was made of: "
            f"'{packed['model']}'"
        )


def find_whole(model: str) -> ModelSource:
    """The model of that name, or where that is a packed head, the one that it was made of.

    Raises:
        ModelError: there is none, or what is found under its name is another model by now.
    """
    source = find_source(model)
    packed = packed_head(source)
    if packed is None:
        return source
    try:
        whole = find_source(packed["model"])
        if model_id(whole) != packed["model_id"]:
            raise ModelError(f"'{packed['model']}' is another model by now, or another of this name")
    except ModelError as error:
        raise ModelError(
            f"model '{model}' is a quantized head that only a robot can run, and the model that it was made of is not "
            f"found here: {error}"
        ) from None
    return whole


def _remembered(source: ModelSource) -> Path | None:
    """Where the id of a hub snapshot is kept: without a network, a robot cannot read the other shards' headers.

    A snapshot's folder belongs to one commit, so what is in it never changes. Local folders do change: no memory there.
    """
    return source.folder / ".laim_model_id" if source.hub is not None else None


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items() if key not in _IRRELEVANT}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return value
