"""Codec `klt` and how it is fitted, held against sources whose covariance, and so whose best rate, is known."""

from __future__ import annotations

import numpy as np
import pytest
from codec_streams import klt_stream
from made_calibration import bell_shaped_calibration

from laim_ros.codec import WIRE_VERSION, CodecError, Codecs, SplitCalibration, StreamDescription, codec_for
from laim_ros.codec.fitting import Sensitivity, fitted
from laim_ros.plan import Plan

pytestmark = pytest.mark.filterwarnings("error")

WHOLE, SEPARABLE = (6, 16), (33, 64)
"""Shapes below and above what is transformed as a whole."""


class Gaussian:
    """Frames (T, D) whose covariance is a Kronecker product of two known matrices, around a mean."""

    def __init__(self, shape: tuple[int, int], seed: int = 0) -> None:
        self.shape, self._random = shape, np.random.default_rng(seed)
        self._mean = self._random.normal(0, 3, shape)
        spectra = [np.geomspace(4, 0.002, size) for size in shape]
        self._roots = [self._rotation(size) * np.sqrt(spectrum) for size, spectrum in zip(shape, spectra, strict=True)]
        self.variances = np.kron(*spectra)

    def frames(self, count: int) -> np.ndarray:
        white = self._random.standard_normal((count, *self.shape))
        return (self._roots[0] @ white @ self._roots[1].T + self._mean).astype(np.float32)

    def _rotation(self, size: int) -> np.ndarray:
        return np.linalg.qr(self._random.standard_normal((size, size)))[0]

    def least_bits(self, distortion: float) -> tuple[float, int]:
        """Bits per frame that this distortion takes at least, and of how many components any are sent.

        Reverse water-filling: all components above the water level get it as their distortion [Cover & Thomas,
        theorem 10.3.3]; the level by bisection.
        """
        low, high = 0.0, float(self.variances.max())
        for _ in range(100):
            level = (low + high) / 2
            low, high = (level, high) if np.minimum(level, self.variances).sum() < distortion else (low, level)
        above = self.variances[self.variances > level]
        return float(0.5 * np.log2(above / level).sum()), len(above)


def coded(calibration: SplitCalibration, frames: np.ndarray, codec: str) -> tuple[list[int], np.ndarray]:
    """Payloads' sizes in bytes, and what is decoded on another machine."""
    stream = klt_stream(calibration, frames.shape[1:], codec)
    robot, edge = codec_for(stream, calibration), codec_for(stream, calibration)
    payloads = [robot.encode(frame) for frame in frames]
    return [len(payload) for payload in payloads], np.stack([edge.decode(payload) for payload in payloads])


@pytest.fixture(scope="module", params=[WHOLE, SEPARABLE], ids=["whole", "separable"])
def source(request: pytest.FixtureRequest) -> Gaussian:
    return Gaussian(request.param)


@pytest.fixture(scope="module")
def calibration(source: Gaussian) -> SplitCalibration:
    return fitted(source.frames(1500 if source.shape == WHOLE else 300))


@pytest.mark.parametrize("decibels", [6, 12, 24, 40])
def test_a_gaussian_source_takes_little_more_than_its_rate_distortion_function(
    source: Gaussian, calibration: SplitCalibration, decibels: int
) -> None:
    frames = source.frames(200 if source.shape == WHOLE else 40)
    sizes, decoded = coded(calibration, frames, f"klt{decibels}")
    distortion = float(np.square(decoded - frames).sum(axis=(1, 2)).mean())
    assert 10 * np.log10(source.variances.sum() / distortion) == pytest.approx(decibels, abs=0.7)
    least, sent = source.least_bits(distortion)
    # A uniform quantizer loses 0.254 bits where much is sent of a component [Gish & Pierce 1968]. The tables know
    # ratios of deviation to step by half octaves, and shapes on both sides of the Gaussian: another tenth of a bit.
    assert least * 0.99 < 8 * np.mean(sizes) < least + 0.36 * sent + 8


def test_features_come_back_whatever_their_magnitude(source: Gaussian, calibration: SplitCalibration) -> None:
    frames = source.frames(3)
    scale = np.abs(frames).max()
    strange = np.stack(
        [
            1000 * frames[0],
            np.where(np.arange(frames[0].size).reshape(source.shape) == 7, 300 * scale, frames[1]),
            np.zeros_like(frames[2]),
        ]
    ).astype(np.float32)
    _, usual = coded(calibration, frames, "klt20")
    sizes, decoded = coded(calibration, strange, "klt20")
    # Without a metric the transform is orthonormal: an error in each coefficient is as long in the features.
    step = 2.0 ** (int(calibration.steps[20]) / 8)
    bound = step * np.sqrt(frames[0].size)
    for restored, original in zip((*usual, *decoded), (*frames, *strange), strict=True):
        assert np.sqrt(np.square(restored - original).sum()) < bound + 2e-3 * np.abs(original).max()
    assert sizes[0] > coded(calibration, frames[:1], "klt20")[0][0]


def test_errors_go_where_the_output_does_not_depend_on_them() -> None:
    source = Gaussian(SEPARABLE)
    rows, columns = SEPARABLE
    tokens = np.where(np.arange(rows) < 8, 4.0, 1.0)
    direction = np.linalg.qr(np.random.default_rng(1).standard_normal((columns, 1)))[0][:, 0]
    sensitivity = Sensitivity(np.eye(columns) + 99 * np.outer(direction, direction), tokens)
    calibration = fitted(source.frames(200), sensitivity)
    frames = source.frames(30)
    error = coded(calibration, frames, "klt40")[1] - frames
    by_row = np.square(error).mean(axis=(0, 2))
    assert by_row[8:].mean() / by_row[:8].mean() == pytest.approx(16, rel=0.2)
    along = np.square(error @ direction).mean()
    assert np.square(error).sum(axis=2).mean() / columns / along == pytest.approx(100, rel=0.2)


def test_a_few_frames_give_something_sane() -> None:
    source = Gaussian(WHOLE)
    few, many = fitted(source.frames(10)), fitted(source.frames(1500))
    frames = source.frames(100)
    (few_sizes, few_decoded), (sizes, decoded) = (coded(each, frames, "klt12") for each in (few, many))
    assert np.mean(few_sizes) < 1.4 * np.mean(sizes)
    assert np.square(few_decoded - frames).sum() < 1.6 * np.square(decoded - frames).sum()


def test_a_bound_on_bytes_is_kept_by_coding_coarser(source: Gaussian, calibration: SplitCalibration) -> None:
    (frame,) = source.frames(1)
    stream = klt_stream(calibration, source.shape, "klt48")
    codec = codec_for(stream, calibration)
    errors = []
    for most_bytes in (0, 40, 20, 8):
        payload = codec.encode(frame, most_bytes)
        assert len(payload) <= (most_bytes or 10_000)
        errors.append(np.square(codec_for(stream, calibration).decode(payload) - frame).sum())
    assert errors == sorted(errors)
    assert len(set(errors)) == 4
    with pytest.raises(CodecError, match="bytes fit into 1; allow more"):
        codec.encode(1e6 * frame, 1)


def test_what_cannot_be_fitted_is_refused() -> None:
    frames = Gaussian(WHOLE).frames(20)
    with pytest.raises(CodecError, match="at least two frames"):
        fitted(frames[:1])
    with pytest.raises(CodecError, match="all frames are the same"):
        fitted(np.repeat(frames[:1], 5, axis=0))
    frames[3, 0, 0] = np.nan
    with pytest.raises(CodecError, match="NaN or an infinity"):
        fitted(frames)


def test_a_calibration_that_is_not_the_streams_is_refused() -> None:
    source = Gaussian(WHOLE)
    one, other = fitted(source.frames(20)), fitted(source.frames(20))
    stream = klt_stream(one, WHOLE)
    codec_for(stream, one)
    with pytest.raises(CodecError, match="give both sides the same"):
        codec_for(stream, other)
    with pytest.raises(CodecError, match="there is none here"):
        codec_for(stream, None)
    with pytest.raises(CodecError, match="is for 96 elements, the stream has 48"):
        codec_for(klt_stream(one, (3, 16)), one)


def test_two_senders_of_equal_streams_do_not_mix_what_they_refer_to() -> None:
    """Two robots of one name, such as in two domains that a bridge joins, at the same numbers."""
    calibration = bell_shaped_calibration((8, 16))
    plan = Plan("qformer", 32, 6, "klt")
    stream = StreamDescription(
        WIRE_VERSION, "robot", "00", plan, (8, 16), calibration=calibration.digest, predictive=True
    )
    edge = Codecs({"qformer": calibration})
    robots = [(Codecs({"qformer": calibration}), edge.for_sender(), random_frame(seed)) for seed in range(2)]
    for sequence in range(4):
        for robot, at_edge, first in robots:
            frame = first + np.float32(0.01 * sequence)
            payload = robot.encode(stream, frame, sequence, sequence - 1 if sequence else None)
            assert np.abs(at_edge.decode(stream, payload, sequence) - frame).mean() < 0.05


def random_frame(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((8, 16), np.float32)
