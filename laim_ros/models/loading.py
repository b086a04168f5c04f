"""`load`: the way into this folder."""

from __future__ import annotations

import torch

from laim_ros.models.base import HeadBuilder, SplitModel
from laim_ros.models.blip2 import load_blip2
from laim_ros.models.errors import ModelError
from laim_ros.models.identity import refuse_packed
from laim_ros.models.source import ModelSource, find_source, shipped_listing

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LOADERS = {"blip-2": load_blip2}
"""By `model_type` in config.json."""


def load(
    model: str | ModelSource,
    *,
    first: str = "input",
    last: str = "output",
    dtype: str = "float32",
    device: str = "cpu",
    builder: HeadBuilder | None = None,
) -> SplitModel:
    """Loads the stages of a model after `first` up to `last`; the weights of other stages are not read.

    Args:
        model: a shipped name (`laim-mini-blip2`), a local folder, a hub id (`Salesforce/blip2-opt-2.7b`), or what one
            of these has been found to be.
        first: split point where the loaded stages begin: `input`, `vit.K`, `vision`, `qformer`.
        last: split point where they end: any of those, or `output` for the text too.
        dtype: `float32`, `bfloat16` or `float16`.
        device: `cpu`, `cuda`, `cuda:N`, or `auto` (cuda where there is one).
        builder: makes the head's layers, in float32; None takes transformers' own.

    Raises:
        ModelError: the model is not found, cannot be split, or lacks files or weights; an unknown split point, dtype
            or device.
    """
    if dtype not in _DTYPES:
        raise ModelError(f"dtype '{dtype}' is none of {', '.join(_DTYPES)}")
    where = find_device(device)
    source = find_source(model) if isinstance(model, str) else model
    if builder is None:
        refuse_packed(source)
    kind = source.config.get("model_type")
    if kind not in _LOADERS:
        raise ModelError(
            f"model '{source.name}' is of type '{kind}'; supported are {', '.join(_LOADERS)} "
            f"(shipped models: {shipped_listing()})"
        )
    return _LOADERS[kind](source, first=first, last=last, dtype=_DTYPES[dtype], device=where, builder=builder)


def find_device(device: str) -> torch.device:
    """The device of that name, which is there.

    Raises:
        ModelError: no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ModelError(f"device '{device}' is none of cpu, cuda, cuda:N, auto")
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise ModelError(
                f"device '{device}': PyTorch sees no CUDA device; use 'cpu' or 'auto', or install the driver and a "
                "CUDA build of PyTorch"
            )
        if found.index is not None and found.index >= torch.cuda.device_count():
            raise ModelError(f"device '{device}': there are only {torch.cuda.device_count()} CUDA devices here")
    return found
