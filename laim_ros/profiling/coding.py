"""What codecs cost and need at each split point, on this machine and of its calibrations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np
import torch

from laim_ros.codec import (
    WIRE_VERSION,
    Codec,
    CodecError,
    Codecs,
    Packet,
    SplitCalibration,
    StreamDescription,
    codec_for,
    pack,
    unpack,
)
from laim_ros.codec.probabilities import SHAPES, class_indices, cost_bits, quantize
from laim_ros.coinference import EdgeHalf, RobotHalf
from laim_ros.models import SplitModel
from laim_ros.plan import Plan
from laim_ros.planning.profiles import CALIBRATED_DECIBELS, Calibrated
from laim_ros.profiling.measure import median_s

PICTURES = ("jpeg90", "webp75", "avif50")
"""What is timed at `input`: the default, and the other formats where they look much like it. At other qualities from 10
to 95, WebP takes 0.6 to 1.3 times as long, AVIF 0.4 to 1.5 times."""

FEATURES = ("plain", "klt12", "klt48")
"""What is timed elsewhere: `plain` takes about as long at any number of bits, `klt` the longer the more there are."""

_DRAWN = 1 << 16
"""Coefficients, at least: sizes of a few bytes come out to a few percent."""

Measure = Callable[[SplitModel, StreamDescription, Codec, torch.Tensor], float]


def digests(half: RobotHalf | EdgeHalf) -> dict[str, str]:
    """Of a half's calibrations of codec `klt`, by those of its split points that have one."""
    points = half.model.split_points
    loaded = points[points.index(half.model.first) : points.index(half.model.last) + 1]
    calibrations = half.codecs.calibrations
    return {point: calibrations[point].digest for point in loaded if point in calibrations}


def calibrated(half: RobotHalf | EdgeHalf) -> dict[str, Calibrated]:
    """The same with what the calibrations expect."""
    calibrations = half.codecs.calibrations
    return {point: Calibrated(digest, payload_bytes(calibrations[point])) for point, digest in digests(half).items()}


def payload_bytes(calibration: SplitCalibration) -> tuple[float, ...]:
    """Mean bytes of a frame at each of `CALIBRATED_DECIBELS`, over frames drawn from the calibration's own model.

    The ideal length of their levels, which the coder keeps to within a few percent and a byte.
    """
    frames = max(1, _DRAWN // calibration.scales.size)
    exponents = np.array(SHAPES)[calibration.shapes]
    widths = np.array([math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape)) for shape in SHAPES])
    alphas = np.exp2(calibration.scales / 4) * widths[calibration.shapes]
    # |y| of a generalised Gaussian: (|y|/α)^p has a Gamma distribution with exponent 1/p.
    powers = np.random.default_rng(0).standard_gamma(1 / exponents, (frames, *exponents.shape))
    magnitudes = alphas * powers ** (1 / exponents)
    expected = []
    for decibels in CALIBRATED_DECIBELS:
        step = int(calibration.steps[decibels])
        classes = class_indices(calibration.scales, calibration.shapes, step)
        levels = quantize(magnitudes * 2.0 ** (-step / 8))
        cost = cost_bits(levels, np.broadcast_to(classes, levels.shape))
        expected.append(round(float(cost.sum(dtype=np.float64)) / frames / 8, 1))
    return tuple(expected)


def coding_s(
    model: SplitModel, codecs: Codecs, boundaries: Mapping[str, torch.Tensor], measure: Measure
) -> dict[str, dict[str, float]]:
    """Seconds of `encoding_s` or `decoding_s` with the codecs that this machine has.

    Args:
        codecs: with the calibrations of codec `klt`.
        boundaries: by split point, as `measure.passes` gives them.

    Returns:
        By split point and codec, without those that cannot code: a picture format that OpenCV lacks, `klt` without a
        calibration, any where half precision overflowed.
    """
    seconds: dict[str, dict[str, float]] = {}
    for point, batch in boundaries.items():
        for name in PICTURES if point == "input" else FEATURES:
            plan = Plan(point, feature_bits=8, codec=name)
            with suppress(CodecError):
                calibration = codecs.calibration(plan)
                digest = "" if calibration is None else calibration.digest
                shape = tuple(model.boundary_shape(point))
                stream = StreamDescription(WIRE_VERSION, "profile", model.model_id, plan, shape, digest)
                timed_s = measure(model, stream, codec_for(stream, calibration), batch)
                seconds.setdefault(point, {})[name] = timed_s
    return seconds


def encoding_s(model: SplitModel, stream: StreamDescription, codec: Codec, batch: torch.Tensor) -> float:
    """Seconds from a batch of one, where the model left it, to the packet."""
    return median_s(model.device, lambda: pack(Packet(stream.stream_id, 0, codec.encode(_frame(batch)))))


def decoding_s(model: SplitModel, stream: StreamDescription, codec: Codec, batch: torch.Tensor) -> float:
    """Seconds from the packet to a batch of one, where the model takes it."""
    packet = pack(Packet(stream.stream_id, 0, codec.encode(_frame(batch))))

    def decode() -> torch.Tensor:
        return torch.from_numpy(codec.decode(unpack(packet).payload)[None]).to(model.device)

    return median_s(model.device, decode)


def _frame(batch: torch.Tensor) -> np.ndarray:
    frame = batch[0].cpu()
    return (frame.float() if frame.is_floating_point() else frame).numpy()
