"""Calibrations of codec `klt` made in no time, for tests that are not about how good they are: no transform at all."""

from __future__ import annotations

import numpy as np

from laim_ros.codec import SplitCalibration
from laim_ros.codec.calibration import WHOLE_ELEMENTS
from laim_ros.plan import MOST_DECIBELS

_ALMOST_GAUSS = 2
"""Of `probabilities.SHAPES`."""


def made_calibration(frames: np.ndarray) -> SplitCalibration:
    """For features like these: float (N, *shape of the boundary tensor), two at least."""
    return _calibration(frames.mean(axis=0), frames.std(axis=0), len(frames))


def bell_shaped_calibration(shape: tuple[int, ...], seed: int = 0) -> SplitCalibration:
    """For features of this shape with standard deviations from 2 down to 1/8; each seed gives other means."""
    means = np.random.default_rng(seed).uniform(-1, 1, shape)
    return _calibration(means, np.geomspace(2, 0.125, means.size).reshape(shape), 100)


def _calibration(means: np.ndarray, deviations: np.ndarray, frames: int) -> SplitCalibration:
    rows = 1 if means.size <= WHOLE_ELEMENTS else means.size // means.shape[-1]
    means, deviations = means.reshape(rows, -1), np.maximum(deviations.reshape(rows, -1), 1e-3)
    # A quantizer of step Δ has an error of Δ²/12.
    errors = float((deviations**2).mean()) * 10.0 ** (-np.arange(MOST_DECIBELS + 1) / 10)
    return SplitCalibration(
        mean=means.astype(np.float16),
        token_weights=np.ones(rows, np.float32),
        channels=np.eye(means.shape[1], dtype=np.float16),
        tokens=np.eye(rows, dtype=np.float16),
        scales=np.round(4 * np.log2(deviations)).astype(np.int8),
        shapes=np.full(means.shape, _ALMOST_GAUSS, np.uint8),
        steps=np.round(8 * np.log2(np.sqrt(12 * errors))).astype(np.int16),
        frames=frames,
    )
