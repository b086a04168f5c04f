"""`fitted`: the transform codec's calibration from the features of some frames.

The transform is the Karhunen–Loève transform of the frames, exactly where the tensor is small, else by channels and by
tokens apart: orthonormal in a metric that says how much the output depends on each direction [Goyal, IEEE Signal
Processing Magazine 2001]. What the codec will do to a coefficient is known to the bit, so its model is not estimated by
moments but chosen: the class of `probabilities` that codes the frames' own levels in the fewest bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from laim_ros.codec.calibration import MOST_STEP, WHOLE_ELEMENTS, SplitCalibration
from laim_ros.codec.errors import CodecError
from laim_ros.codec.probabilities import (
    BUCKETS,
    SHAPES,
    TOTAL,
    buckets_of,
    class_indices,
    quantize,
    rebuild,
    tables,
)
from laim_ros.plan import MOST_DECIBELS

_FOLDS = 5
_CHUNK_ELEMENTS = 1 << 22
_STEP_ELEMENTS, _STEP_FRAMES = 1 << 20, 8
"""Coefficients on which the distortion of every step is measured, and frames at least."""

_MODEL_DECIBELS = tuple(range(2, 42, 3))
"""Where models are compared: from one coefficient in a hundred being more than 0 to nearly all."""

_SCALE_OFFSETS = range(-6, 5)
"""Quarter octaves by which a model's standard deviation may differ from the measured one."""

_LAPLACE = 1
"""Of `probabilities.SHAPES`: what a coefficient of which little has been seen is taken for."""

_PRIOR_FRAMES = 6.0
"""What that counts for."""

_TINY = 2.0**-24


@dataclass(frozen=True, slots=True, eq=False)
class Sensitivity:
    """How much the output depends on a boundary tensor (T, D).

    Attributes:
        channels: float64 (D, D), symmetric, positive definite: an error e of a row counts eᵀ · channels · e.
        tokens: float64 (T,), positive: an error of row t counts tokens[t]² of it.
    """

    channels: np.ndarray
    tokens: np.ndarray

    @classmethod
    def equal(cls, rows: int, columns: int) -> Sensitivity:
        """The output depends on all elements alike."""
        return cls(np.eye(columns), np.ones(rows))


@dataclass(frozen=True, slots=True, eq=False)
class _Transform:
    """As in `SplitCalibration`, already rounded to what is stored."""

    mean: np.ndarray
    token_weights: np.ndarray
    channels: np.ndarray
    tokens: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """float32 (N, T, D) to the coefficients, float32 (N, T, D)."""
        rows = (features - self.mean.astype(np.float32)) * self.token_weights[:, None]
        coefficients = rows @ self.channels.astype(np.float32)
        if len(self.tokens) > 1:
            coefficients = self.tokens.astype(np.float32).T @ coefficients
        return coefficients


def fitted(features: np.ndarray, sensitivity: Sensitivity | None = None) -> SplitCalibration:
    """The calibration of one split point.

    Args:
        features: float32 (N, T, D), the boundary tensors of N frames.
        sensitivity: of the output; None takes all elements as equal. Not used for a tensor that is coded as a whole.

    Raises:
        CodecError: not an array of at least two frames, a NaN or an infinity in it, or frames that are all the same.
    """
    if features.ndim != 3 or len(features) < 2:
        raise CodecError(f"codec calibration: needs at least two frames of rows and columns, not {features.shape}")
    if not np.isfinite(features.sum(dtype=np.float64)):
        raise CodecError("codec calibration: features hold a NaN or an infinity")
    if (features == features[0]).all():
        raise CodecError("codec calibration: all frames are the same; look at others")
    frames, rows, columns = features.shape
    if rows * columns <= WHOLE_ELEMENTS:
        transform = _whole_transform(features)
        # By a transform that they have no part in: with as many elements as frames, these look simpler by their own.
        coefficients = np.concatenate(
            [_whole_transform(features[rest])(features[out].reshape(len(out), 1, -1)) for out, rest in _folds(frames)]
        )
        variance = _power(coefficients)
    else:
        transform = _separable_transform(features, sensitivity or Sensitivity.equal(rows, columns))
        coefficients = np.empty_like(features)
        for part in _chunks(features):
            coefficients[part] = transform(features[part])
        variance = _power(coefficients)
        # As if channels and tokens varied independently: of that, few frames tell enough.
        prior = variance.mean(1, keepdims=True) * variance.mean(0, keepdims=True) / max(variance.mean(), _TINY)
        variance = (variance * frames + prior * _PRIOR_FRAMES) / (frames + _PRIOR_FRAMES)
    scales, shapes = _models(coefficients, variance)
    return SplitCalibration(
        mean=transform.mean,
        token_weights=transform.token_weights,
        channels=transform.channels,
        tokens=transform.tokens,
        scales=scales,
        shapes=shapes,
        steps=_steps(coefficients, scales, shapes),
        frames=frames,
    )


def _folds(frames: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Numbers of frames left out, and of the others: each is left out once."""
    numbers = np.arange(frames)
    for fold in range(min(_FOLDS, frames)):
        out = numbers % _FOLDS == fold
        yield numbers[out], numbers[~out]


def _chunks(features: np.ndarray) -> Iterator[slice]:
    size = max(1, _CHUNK_ELEMENTS // features[0].size)
    return (slice(begin, begin + size) for begin in range(0, len(features), size))


def _power(coefficients: np.ndarray) -> np.ndarray:
    """Mean square of each coefficient over the frames, float64 (T, D)."""
    power = np.zeros(coefficients.shape[1:])
    for part in _chunks(coefficients):
        power += np.square(coefficients[part]).sum(axis=0, dtype=np.float64)
    return power / len(coefficients)


def _whole_transform(features: np.ndarray) -> _Transform:
    """Of the whole tensor in one row: the principal components of all its elements.

    The frames' covariance is drawn to the Kronecker product of those of rows and columns, which 30 frames are enough
    for, the more the less the frames agree: by the share that minimises the expected square error [Ledoit & Wolf,
    Journal of Multivariate Analysis 2004, with this target].
    """
    frames, rows, columns = features.shape
    flat = features.reshape(frames, -1).astype(np.float64)
    mean = _half(flat.mean(axis=0))
    flat -= mean
    covariance = flat.T @ flat / frames
    by_rows = flat.reshape(frames, rows, columns)
    tokens = np.einsum("ntc,nsc->ts", by_rows, by_rows)
    channels = np.einsum("ntc,ntd->cd", by_rows, by_rows)
    target = np.kron(tokens, channels) * (np.trace(covariance) / max(np.trace(tokens) * np.trace(channels), _TINY))
    spread = (np.square(np.square(flat).sum(axis=1)).sum() - frames * np.square(covariance).sum()) / frames**2
    share = np.clip(spread / max(np.square(covariance - target).sum(), _TINY), 0, 1)
    covariance += share * (target - covariance)
    basis = np.linalg.eigh(covariance)[1][:, ::-1]
    return _Transform(mean[None], np.ones(1, np.float32), _half(basis), np.ones((1, 1), np.float16))


def _separable_transform(features: np.ndarray, sensitivity: Sensitivity) -> _Transform:
    """Of channels, in the metric that the sensitivity is, then of tokens: of each the principal components."""
    _, rows, columns = features.shape
    mean = _half(features.mean(axis=0, dtype=np.float64))
    weights = sensitivity.tokens.astype(np.float32)
    values, vectors = np.linalg.eigh(sensitivity.channels)
    root = (vectors * np.sqrt(values)) @ vectors.T
    covariance = np.zeros((columns, columns))
    for part in _chunks(features):
        flat = ((features[part] - mean) * weights[:, None]).reshape(-1, columns)
        covariance += flat.T @ flat
    basis = np.linalg.eigh(root @ covariance @ root)[1][:, ::-1]
    channels = _half(root @ basis)
    by_channels = _Transform(mean, weights, channels, np.ones((1, 1), np.float16))
    across = np.zeros((rows, rows))
    for part in _chunks(features):
        flat = by_channels(features[part]).transpose(1, 0, 2).reshape(rows, -1)
        across += flat @ flat.T
    return _Transform(mean, weights, channels, _half(np.linalg.eigh(across)[1][:, ::-1]))


def _half(array: np.ndarray) -> np.ndarray:
    most = float(np.finfo(np.float16).max)
    return np.clip(array, -most, most).astype(np.float16)


def _models(coefficients: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shape of each coefficient that code the frames in the fewest bits: int8 and uint8 (T, D).

    Every frame's level at a step falls into a bucket; what all buckets of a coefficient cost under each class is one
    product of matrices. To the frames come a few more, distributed as the variance says: what has rarely been seen is
    not taken for impossible.
    """
    frames, count = len(coefficients), coefficients[0].size
    flat = coefficients.reshape(frames, count)
    variance = variance.reshape(count)
    middle = np.clip(np.rint(2 * np.log2(np.maximum(variance, _TINY))), -128, 127).astype(np.int32)
    steps = [_step_of(variance.sum() / count * 10 ** (-decibels / 10)) for decibels in _MODEL_DECIBELS]
    candidates = [(offset, shape) for shape in range(len(SHAPES)) for offset in _SCALE_OFFSETS]
    scales, shapes = np.empty(count, np.int8), np.empty(count, np.uint8)
    cost_bits = tables().cost_bits.T.astype(np.float64)
    masses = tables().frequencies[:, :BUCKETS] / TOTAL
    size = max(1, _CHUNK_ELEMENTS // max(frames, BUCKETS * 4))
    for begin in range(0, count, size):
        part = slice(begin, begin + size)
        some, scale = flat[:, part], middle[part]
        width = scale.size
        costs = np.zeros((len(candidates), width))
        for step in steps:
            buckets = buckets_of(np.abs(quantize(some / np.float32(2.0 ** (step / 8)))))
            places = buckets + np.arange(width) * BUCKETS
            counts = np.bincount(places.reshape(-1), minlength=width * BUCKETS).reshape(width, BUCKETS).astype(float)
            counts += _PRIOR_FRAMES * masses[class_indices(scale, np.full(width, _LAPLACE), step)]
            every = counts @ cost_bits
            for row, (offset, shape) in enumerate(candidates):
                classes = class_indices(scale + offset, np.full(width, shape), step)
                costs[row] += every[np.arange(width), classes]
        best = costs.argmin(axis=0)
        offsets, chosen = np.array(candidates).T
        scales[part] = np.clip(scale + offsets[best], -128, 127)
        shapes[part] = chosen[best]
    return scales.reshape(coefficients.shape[1:]), shapes.reshape(coefficients.shape[1:])


def _step_of(variance: float) -> int:
    """Of the uniform quantizer whose error would have that variance, Δ²/12."""
    return int(np.clip(round(4 * np.log2(max(12 * variance, _TINY**2))), -MOST_STEP, MOST_STEP))


def _steps(coefficients: np.ndarray, scales: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """The step for each signal-to-distortion ratio, int16 (61,): the one whose distortion comes nearest."""
    frames = min(len(coefficients), max(_STEP_FRAMES, _STEP_ELEMENTS // coefficients[0].size))
    chosen = np.linspace(0, len(coefficients) - 1, frames).round().astype(int)
    some = coefficients[chosen].reshape(frames, -1)
    scales, shapes = scales.reshape(-1), shapes.reshape(-1)
    power = np.square(some).sum(dtype=np.float64)
    finest = _step_of(power / some.size * 10 ** (-MOST_DECIBELS / 10)) - 8
    tried, reached = [], []
    for step in range(finest, MOST_STEP):
        size = np.float32(2.0 ** (step / 8))
        classes = np.broadcast_to(class_indices(scales, shapes, step), some.shape)
        error = some - rebuild(quantize(some / size), classes) * size
        tried.append(step)
        reached.append(10 * np.log10(power / np.square(error).sum(dtype=np.float64)))
        if reached[-1] < 0.05:
            break
    wanted = np.arange(MOST_DECIBELS + 1)
    return np.interp(wanted, reached[::-1], tried[::-1]).round().astype(np.int16)
