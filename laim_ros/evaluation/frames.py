"""`Frames`: the pictures that a model is measured on, at the model's size, with the truth where it is known."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from laim_ros.evaluation.errors import EvaluationError
from laim_ros.scenes import Scene, render, sample_scene
from laim_ros.sources import PICTURE_SUFFIXES, FolderSource, SourceError, evenly_spread, picture_paths

MOST_PICTURES = 500
"""Taken of a folder: neighbours in a recording show much the same, and each costs time in every row."""

EVERY_PICTURE, FOR_CODEC, FOR_TABLE = slice(None), slice(1, None, 2), slice(0, None, 2)
"""Parts of a folder. A table is measured on other pictures than the codec has been calibrated on, as on its own any
codec does well; but both come from all over the recording."""

_SCENE_SIZE = (480, 640)
_SPLITS = {"held_out": "held-out", "train": "training"}

Resize = Callable[[np.ndarray], np.ndarray]
"""uint8 RGB of any size to uint8 (H, W, 3), as `SplitModel.resize`."""


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Pictures.

    Attributes:
        pixels: uint8 (frames, H, W, 3), RGB.
        source: what they are, for people.
        scenes: what is to be seen, one per picture; empty where nobody knows.
    """

    pixels: np.ndarray
    source: str
    scenes: tuple[Scene, ...] = ()

    @property
    def digest(self) -> str:
        """Hex hash of the pixels: tells whether two runs look at the same frames."""
        return hashlib.sha256(repr(self.pixels.shape).encode() + self.pixels.tobytes()).hexdigest()[:32]


def scene_frames(
    count: int, resize: Resize, tick: Callable[[int], object] = lambda done: None, split: str = "held_out"
) -> Frames:
    """The first scenes of a split, drawn at 640 × 480.

    Args:
        count: how many, from 1 on.
        resize: of the model.
        tick: told how many have been drawn.
        split: `held_out`, which no model is trained and no codec calibrated on, or `train`.
    """
    scenes = tuple(sample_scene(seed, split) for seed in range(count))
    pixels = []
    for number, scene in enumerate(scenes, start=1):
        pixels.append(resize(render(scene, *_SCENE_SIZE).image))
        tick(number)
    return Frames(np.stack(pixels), f"{_SPLITS[split]} scenes", scenes)


def picture_frames(
    folder: Path,
    resize: Resize,
    warn: Callable[[str], object] = lambda text: None,
    part: slice = EVERY_PICTURE,
    most: int = MOST_PICTURES,
) -> Frames:
    """The pictures of a folder, or some of them, evenly spread over the names in their order.

    Args:
        folder: where they lie.
        resize: of the model.
        warn: told of each picture that is skipped because it cannot be read, and of those left out.
        part: which to choose from, such as every second.
        most: how many to take.

    Raises:
        EvaluationError: no such folder, or no picture in it that can be read.
    """
    if not folder.is_dir():
        raise EvaluationError(f"pictures '{folder}': there is no such folder; give a folder of pictures")
    try:
        paths = picture_paths(folder)
    except OSError as error:
        raise EvaluationError(f"pictures '{folder}': {error.strerror or error}; give another folder") from error
    if not paths:
        raise EvaluationError(
            f"pictures '{folder}': the folder holds none ({', '.join(sorted(PICTURE_SUFFIXES))}); give another"
        )
    paths = paths[part] or paths
    if len(paths) > most:
        warn(f"{most} of {len(paths)} pictures in '{folder}' are taken, evenly spread")
        paths = evenly_spread(paths, most)
    # Not shrunk before the model's own preparation does it.
    source, pixels = FolderSource(paths, sys.maxsize, sys.maxsize, loop=False, warn=warn), []
    try:
        while (frame := source.frame(0.0)) is not None:
            pixels.append(resize(frame.image))
    except SourceError as error:
        raise EvaluationError(f"pictures '{folder}': {error}; give another folder") from error
    # Names need not be text, but the table is.
    name = os.fsencode(folder.resolve().name).decode(errors="replace")
    return Frames(np.stack(pixels), f"pictures of {name}")
