"""`Calibration`: what a model's vision tower is given for a few pictures, so that pruning can see what it loses."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from laim_ros.models import SplitModel, load
from laim_ros.models.source import ModelSource
from laim_ros.quantization.errors import QuantizationError
from laim_ros.scenes import render, sample_scene
from laim_ros.sources import PICTURE_SUFFIXES, FolderSource, SourceError, evenly_spread, picture_paths

PICTURES = 64
"""How many are taken where nobody says: enough to choose heads by; neurons are content with 16."""

MOST_PICTURES = 1024
"""At real size each takes 1.4 MB, and 45 MB for a while."""

_SCENES = re.compile(r"scenes(?::(?P<count>.*))?")
_SCENE_SIZE = (480, 640)
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Calibration:
    """The vision tower's input for calibration pictures.

    Attributes:
        tokens: float32 (B, patches + 1, width), after the embeddings and before the first block.
        pictures: which, in words, such as `64 pictures of scenes`.
    """

    tokens: torch.Tensor
    pictures: str

    @classmethod
    def of(cls, source: ModelSource, pictures: str, warn: Callable[[str], object] = lambda text: None) -> Calibration:
        """Looks at pictures through a model's embeddings, of which alone the weights are read.

        Args:
            source: of the model.
            pictures: `scenes` or `scenes:N` for the first N training scenes (so none that captions are judged by), or a
                folder of pictures, of which 64 are taken, evenly spread over the names in their order.
            warn: told of each picture that is skipped because it cannot be read.

        Raises:
            QuantizationError: no such pictures, or none that can be read.
            ModelError: no model whose embeddings can be had.
        """
        found, name = _opened(pictures, warn)
        model = load(source, last="vit.1", builder=_NoBlocks())
        tokens: list[torch.Tensor] = []
        batch: list[np.ndarray] = []
        # Resized one by one: pictures of a camera are large, and there may be many.
        for picture in found:
            batch.append(model.resize(picture))
            if len(batch) == _BATCH:
                tokens.append(_run(model, batch))
                batch = []
        if batch:
            tokens.append(_run(model, batch))
        together = torch.cat(tokens)
        return cls(together, f"{len(together)} picture{'s' if len(together) > 1 else ''} of {name}")


class _NoBlocks:
    """A `HeadBuilder` that leaves the vision blocks out: what comes out at `vit.1` is what the first block is given."""

    weight_bits, engine, nbytes = 32, "none", 0

    def block(self, prefix: str) -> nn.Module:
        """Nothing at all."""
        return nn.Identity()

    def linear(self, prefix: str) -> nn.Module:
        """Never asked for before the Q-Former."""
        raise NotImplementedError(prefix)


def _run(model: SplitModel, batch: list[np.ndarray]) -> torch.Tensor:
    return model.run(torch.from_numpy(np.stack(batch)), "input", "vit.1")


def _opened(pictures: str, warn: Callable[[str], object]) -> tuple[Iterator[np.ndarray], str]:
    """Pictures, uint8 (h, w, 3) of any size, and what they are of."""
    if match := _SCENES.fullmatch(pictures):
        count = PICTURES if match["count"] is None else _count(pictures, match["count"])
        return (render(sample_scene(seed, "train"), *_SCENE_SIZE).image for seed in range(count)), "scenes"
    folder = Path(os.path.expanduser(pictures))
    if not pictures or not folder.is_dir():
        raise QuantizationError(
            f"pictures '{pictures}': there is no such folder; give a folder of pictures, or scenes:{PICTURES} for "
            "rendered ones"
        )
    try:
        paths = picture_paths(folder)
    except OSError as error:
        raise QuantizationError(f"pictures '{pictures}': {error.strerror or error}; give another folder") from error
    if not paths:
        raise QuantizationError(
            f"pictures '{pictures}': the folder holds none ({', '.join(sorted(PICTURE_SUFFIXES))}); give another, or "
            f"scenes:{PICTURES} for rendered ones"
        )
    paths = evenly_spread(paths, PICTURES)
    # Names need not be text, but the manifest is.
    name = os.fsencode(folder.resolve().name).decode(errors="replace")
    return _read(paths, pictures, warn), name


def _count(pictures: str, text: str) -> int:
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= count <= MOST_PICTURES:
        raise QuantizationError(
            f"pictures '{pictures}': '{text}' is no number of scenes from 1 to {MOST_PICTURES}; write for instance "
            f"scenes:{PICTURES}"
        )
    return count


def _read(paths: list[Path], pictures: str, warn: Callable[[str], object]) -> Iterator[np.ndarray]:
    # Not shrunk before the model's own preparation does it.
    source = FolderSource(paths, sys.maxsize, sys.maxsize, loop=False, warn=warn)
    try:
        while (frame := source.frame(0.0)) is not None:
            yield frame.image
    except SourceError as error:
        raise QuantizationError(f"pictures '{pictures}': {error}; give another folder") from error
