"""`calibrate_codec`: what the transform codec must know of a model's features, from frames that the model looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from laim_ros.codec.calibration import WHOLE_ELEMENTS, SplitCalibration, write_calibrations
from laim_ros.codec.fitting import Sensitivity, fitted
from laim_ros.evaluation.errors import EvaluationError
from laim_ros.models import SplitModel
from laim_ros.models.base import split_index

MOST_FEATURE_BYTES = 1 << 30
"""Of all frames at one split point: at real size those of 740 frames. The fit takes as much again."""

PROBED_FRAMES, PROBES = 64, 2
"""Frames that the output's sensitivity is measured on, and random directions of the output for each."""

_BATCH = 32
_PROBED_ELEMENTS = 1 << 19
"""Of the boundary tensors of a batch that gradients are taken of: all activations up to the output are kept."""


def calibrate_codec(
    model: SplitModel,
    pixels: np.ndarray,
    split_points: Sequence[str],
    tell: Callable[[str], object] = lambda text: None,
) -> dict[str, SplitCalibration]:
    """Calibrations of the codec `klt`, by split point.

    The same frames give the same calibrations, to the bit only on the same machine.

    Args:
        model: loaded from `input` to `qformer` at least.
        pixels: uint8 (N, H, W, 3), the frames at the model's size. Where the features of all would take more than
            `MOST_FEATURE_BYTES`, some are taken, evenly spread.
        split_points: at which features are sent: neither `input` nor `output`.
        tell: told what is being done.

    Raises:
        CodecError: fewer than two frames, or all of them the same to the model.
        ModelError: no such split point.
    """
    points = sorted(set(split_points), key=lambda point: split_index(model.split_points, point))
    shapes = {point: model.boundary_shape(point) for point in points}
    pixels = pixels[_spread(len(pixels), most_frames(model, points))]
    tell("codec: sensitivity of the output")
    large = [point for point, shape in shapes.items() if np.prod(shape) > WHOLE_ELEMENTS and point != "qformer"]
    sensitivities = measure_sensitivities(model, pixels, large)
    made, at, features = {}, "input", pixels
    for point in points:
        tell(f"codec: features at {point}")
        features, at = _advanced(model, features, at, point), point
        tell(f"codec: fit at {point}")
        made[point] = fitted(features, sensitivities.get(point))
    return made


def most_frames(model: SplitModel, split_points: Sequence[str]) -> int:
    """How many frames are looked at: `MOST_FEATURE_BYTES` of the largest boundary tensor."""
    largest = max((int(np.prod(model.boundary_shape(point))) for point in split_points), default=1)
    return max(2, MOST_FEATURE_BYTES // (4 * largest))


def save_calibrations(
    paths: Sequence[Path], model_id: str, calibrations: Mapping[str, SplitCalibration], source: str
) -> dict[Path, int]:
    """Writes the same calibrations to one or more files; their folders are made.

    Returns:
        The files' sizes in bytes.

    Raises:
        EvaluationError: a file that cannot be written.
    """
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_calibrations(path, model_id, calibrations, source)
        except OSError as error:
            raise EvaluationError(f"{path} cannot be written: {error.strerror or error}; make room there") from error
    return {path: path.stat().st_size for path in paths}


def measure_sensitivities(model: SplitModel, pixels: np.ndarray, split_points: Sequence[str]) -> dict[str, Sensitivity]:
    """How much the Q-Former's features depend on the elements of boundary tensors (T, D).

    A probe is the gradient of a random direction (standard normal) of the Q-Former's features: the mean of g gᵀ over
    probes is JᵀJ, J the Jacobian, and eᵀ JᵀJ e what an error e does to the output to first order. Of the whole matrix,
    T·D squared, two margins are kept: over tokens and over channels. Each probe is brought to length 1 before, as
    else a few frames of huge gradients outweigh all others; and to each margin comes as much again spread evenly, as
    an error is not small, nor every scene like these.

    Args:
        model: loaded from `input` to `qformer` at least.
        pixels: uint8 (N, H, W, 3); `PROBED_FRAMES` of them are looked at.
        split_points: before `qformer`.
    """
    if not split_points:
        return {}
    pixels = pixels[_spread(len(pixels), PROBED_FRAMES)]
    shapes = {point: model.boundary_shape(point) for point in split_points}
    channels = {point: np.zeros((shape[-1], shape[-1])) for point, shape in shapes.items()}
    tokens = {point: np.zeros(shape[0]) for point, shape in shapes.items()}
    batch = max(1, _PROBED_ELEMENTS // max(int(np.prod(shape)) for shape in shapes.values()))
    directions = torch.Generator().manual_seed(0)
    for begin in range(0, len(pixels), batch):
        for gradients in _probes(model, torch.from_numpy(pixels[begin : begin + batch]), split_points, directions):
            for point, gradient in gradients.items():
                square = np.square(gradient).sum(axis=2, dtype=np.float64)
                length = np.sqrt(square.sum(axis=1)).clip(1e-30)
                flat = (gradient / length[:, None, None].astype(np.float32)).reshape(-1, gradient.shape[2])
                channels[point] += flat.T @ flat
                tokens[point] += (square / np.square(length)[:, None]).sum(axis=0)
    return {
        point: Sensitivity(
            channels[point] / max(np.trace(channels[point]) / len(channels[point]), 1e-30)
            + np.eye(len(channels[point])),
            np.sqrt(tokens[point] / max(tokens[point].mean(), 1e-30) + 1),
        )
        for point in split_points
    }


def _probes(
    model: SplitModel, pixels: torch.Tensor, split_points: Sequence[str], directions: torch.Generator
) -> list[dict[str, np.ndarray]]:
    """Gradients at the split points, float32 (B, T, D), one entry per probe; frames do not mix."""
    first = min(split_points, key=model.split_points.index)
    at, boundaries = pixels.to(model.device), {}
    stages = [stage for stage in model.stages if stage.name != "output"]
    for stage in stages:
        with torch.set_grad_enabled(bool(boundaries)):
            at = stage.function(at)
        if stage.name == first:
            at = at.detach().clone().requires_grad_(True)
        if stage.name in split_points:
            boundaries[stage.name] = at
    found = []
    for _ in range(PROBES):
        direction = torch.randn(at.shape, generator=directions).to(at.device, at.dtype)
        gradients = torch.autograd.grad((at * direction).sum(), list(boundaries.values()), retain_graph=True)
        found.append(
            {
                point: gradient.to("cpu", torch.float32).numpy()
                for point, gradient in zip(boundaries, gradients, strict=True)
            }
        )
    return found


def _advanced(model: SplitModel, features: np.ndarray, start: str, stop: str) -> np.ndarray:
    """float32 (N, T, D) of all frames; in the place of those before, where these are as large."""
    shape = model.boundary_shape(stop)
    same = features.dtype == np.float32 and features.shape[1:] == shape
    into = features if same else np.empty((len(features), *shape), np.float32)
    for begin in range(0, len(features), _BATCH):
        batch = torch.from_numpy(features[begin : begin + _BATCH])
        into[begin : begin + _BATCH] = model.run(batch, start, stop).to("cpu", torch.float32).numpy()
    return into


def _spread(count: int, most: int) -> np.ndarray:
    """Numbers of so many frames at most, evenly spread."""
    return np.arange(min(count, most)) * count // min(count, most)
