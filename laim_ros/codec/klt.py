"""`KltCodec`: features by a calibrated transform, dead-zone quantization and static probabilities.

Payload, by `ans.LevelWriter`:

    step         whether the quantizer's step is the stream's own; if not, the step, in eighths of octaves
    reference    only in predictive streams: whether there is one; if so, how many frames back, and how much narrower
                 than the calibrated ones the differences' distributions are, in half octaves
    levels       one per coefficient, those of the largest standard deviation first

The transform is the Karhunen–Loève transform of the calibration's frames: of all transforms the one that leaves least
to code for a Gaussian source [Goyal, IEEE Signal Processing Magazine 2001]. One step for all coefficients, in units
weighted by what the output depends on, is reverse water-filling: a coefficient whose standard deviation is below the
step costs nothing [Cover & Thomas, section 10.3.3].
"""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import lru_cache

import numpy as np

from laim_ros.codec.ans import LevelReader, LevelWriter
from laim_ros.codec.calibration import MOST_STEP, SplitCalibration
from laim_ros.codec.errors import CodecError
from laim_ros.codec.probabilities import PRECISION_BITS, class_indices, cost_bits, quantize, rebuild
from laim_ros.codec.stream import StreamDescription
from laim_ros.plan import klt_decibels

REFERENCES_KEPT = 8
"""Frames of a predictive stream that both sides remember, the newest."""

_WHOLE = 1 << PRECISION_BITS
_STEP_IS_OWN = (64, _WHOLE - 64)
_STEPS = 2 * MOST_STEP + 1
_PREDICTED = (_WHOLE // 2, _WHOLE // 2)
_NARROWER = 16
"""How much narrower differences may be taken to be than the features themselves: up to 15 half octaves."""

_DIFFERENCE_SHAPE = 1
"""Of `probabilities.SHAPES`, for differences between frames: most are nothing, few are large."""

_COARSER_STEPS = 8 * 24


class KltCodec:
    """float32 tensors of one stream to bytes and back. For one thread at a time."""

    def __init__(self, stream: StreamDescription, calibration: SplitCalibration | None) -> None:
        """Codec for `stream`, whose plan must send features.

        Args:
            stream: the stream.
            calibration: of its split point.

        Raises:
            CodecError: no calibration, another one than the stream's, or one of another shape.
        """
        check_calibration(stream, calibration)
        self.name = stream.plan.codec
        self.shape = stream.shape
        self._calibration = calibration
        self._step = int(calibration.steps[klt_decibels(stream.plan)])
        self._predictive = stream.predictive
        self._rows, self._columns = calibration.mean.shape
        self._mean = calibration.mean.astype(np.float32)
        self._channels = calibration.channels.astype(np.float32)
        self._tokens = calibration.tokens.astype(np.float32)
        self._known: OrderedDict[int, np.ndarray] = OrderedDict()
        scales, shapes = (array.reshape(-1)[calibration.order] for array in (calibration.scales, calibration.shapes))

        @lru_cache(8)
        def classes(step: int, narrower: int | None) -> np.ndarray:
            if narrower is None:
                return class_indices(scales, shapes, step)
            less = np.clip(scales.astype(np.int16) - 2 * narrower, -128, 127).astype(np.int8)
            return class_indices(less, np.full_like(shapes, _DIFFERENCE_SHAPE), step)

        self._classes = classes

    def encode(self, array: np.ndarray, most_bytes: int = 0) -> bytes:
        """Code one frame by itself.

        Args:
            array: the stream's shape, float32.
            most_bytes: the step is made coarser until the payload has no more; 0 for no limit.

        Raises:
            CodecError: wrong shape or dtype, a NaN or infinity, or a limit that no step keeps.
        """
        return self._encode(self._coefficients(array), None, 0, most_bytes)[0]

    def encode_after(self, array: np.ndarray, sequence: int, reference: int | None, most_bytes: int = 0) -> bytes:
        """Code one frame of a predictive stream, and remember it.

        Args:
            array: the stream's shape, float32.
            sequence: number of the frame.
            reference: number of an earlier one that the other side has decoded; None for a frame by itself. Where a
                frame by itself takes no more bytes, or the reference is not remembered here, it is coded so.
            most_bytes: as in `encode`.

        Raises:
            CodecError: as `encode`.
        """
        coefficients = self._coefficients(array)
        before = None if reference is None else self._known.get(reference)
        back = 0 if before is None else _distance(sequence, reference)
        if not 1 <= back <= REFERENCES_KEPT:
            before = None
        payload, values = self._encode(coefficients, before, back, most_bytes)
        self._remember(sequence, values)
        return payload

    def decode(self, payload: bytes | memoryview, sequence: int = 0) -> np.ndarray:
        """Decode one frame.

        Args:
            payload: as it came.
            sequence: number of the frame, which matters in predictive streams.

        Returns:
            A new array of the stream's shape, float32, finite.

        Raises:
            CodecError: the payload is not one of this stream, or refers to a frame that is not known here.
        """
        reader = LevelReader(payload)
        step = self._step if reader.pick(_STEP_IS_OWN) else reader.number(_STEPS) - MOST_STEP
        before, narrower = None, None
        if self._predictive and reader.pick(_PREDICTED):
            reference = (sequence - 1 - reader.number(REFERENCES_KEPT)) % (1 << 32)
            narrower = reader.number(_NARROWER)
            before = self._known.get(reference)
            if before is None:
                raise CodecError(
                    f"features: frame {sequence} refers to frame {reference}, which was not decoded here; the next "
                    "frame by itself can be"
                )
        classes = self._classes(step, narrower)
        levels = reader.levels(classes)
        reader.end()
        values = rebuild(levels, classes)
        with np.errstate(over="ignore", invalid="ignore"):
            values *= np.float32(2.0 ** (step / 8))
            if before is not None:
                values += before
            array = self._features(values)
        if not math.isfinite(float(array.sum(dtype=np.float64))):
            raise CodecError("features: decoded values are beyond what float32 holds")
        if self._predictive:
            self._remember(sequence, values)
        return array

    def _encode(
        self, coefficients: np.ndarray, before: np.ndarray | None, back: int, most_bytes: int
    ) -> tuple[bytes, np.ndarray]:
        """The payload, at a step that keeps the limit, and the coefficients as the other side will have them."""
        payload, values = self._encode_at(self._step, coefficients, before, back)
        if not most_bytes or len(payload) <= most_bytes:
            return payload, values
        # The smallest step that keeps the limit; what a step costs falls almost always with its size.
        finer, coarser, found = self._step, min(self._step + _COARSER_STEPS, MOST_STEP), None
        while coarser - finer > 1 or found is None:
            step = coarser if found is None else (finer + coarser) // 2
            tried = self._encode_at(step, coefficients, before, back)
            if len(tried[0]) <= most_bytes:
                coarser, found = step, tried
            elif found is None:
                raise CodecError(f"features: not even {len(tried[0])} bytes fit into {most_bytes}; allow more")
            else:
                finer = step
        return found

    def _encode_at(
        self, step: int, coefficients: np.ndarray, before: np.ndarray | None, back: int
    ) -> tuple[bytes, np.ndarray]:
        size = np.float32(2.0 ** (step / 8))
        classes, levels, narrower = self._classes(step, None), quantize(coefficients / size), None
        if before is not None:
            difference = coefficients - before
            narrow = self._narrower(difference)
            other_classes, other_levels = self._classes(step, narrow), quantize(difference / size)
            reference_bits = math.log2(REFERENCES_KEPT * _NARROWER)
            cost = cost_bits(other_levels, other_classes).sum() + reference_bits
            if cost < cost_bits(levels, classes).sum():
                classes, levels, narrower = other_classes, other_levels, narrow
        writer = LevelWriter()
        writer.pick(int(step == self._step), _STEP_IS_OWN)
        if step != self._step:
            writer.number(step + MOST_STEP, _STEPS)
        if self._predictive:
            writer.pick(int(narrower is not None), _PREDICTED)
            if narrower is not None:
                writer.number(back - 1, REFERENCES_KEPT)
                writer.number(narrower, _NARROWER)
        writer.levels(levels, classes)
        values = rebuild(levels, classes) * size
        return writer.to_bytes(), values if narrower is None else values + before

    def _narrower(self, difference: np.ndarray) -> int:
        """Half octaves by which differences are smaller than features, in the mean over their calibrated scales."""
        calibration = self._calibration
        scales = calibration.scales.reshape(-1)[calibration.order].astype(np.float32)
        # Those of the largest scale alone: the others are below the step, most of them noise of the quantizer.
        most = slice(0, max(16, scales.size // 16))
        ratio = float(np.mean(np.abs(difference[most]) * np.exp2(scales[most] / -4)))
        return min(max(round(-2 * math.log2(max(ratio, 1e-9))) - 1, 0), _NARROWER - 1)

    def _coefficients(self, array: np.ndarray) -> np.ndarray:
        """float32 (T·D,), in the order of coding."""
        if array.shape != self.shape or array.dtype != np.float32:
            raise CodecError(
                f"features: the stream takes float32 {self.shape}, not {array.dtype} {array.shape}; "
                f"a changed shape needs a new stream description"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            rows = array.reshape(self._rows, self._columns) - self._mean
            rows *= self._calibration.token_weights[:, None]
            coefficients = rows @ self._channels
            if self._rows > 1:
                coefficients = self._tokens.T @ coefficients
            # NaN and infinity go through to the sum, so that the tensor needs no mask of its own.
            if not math.isfinite(float(coefficients.sum(dtype=np.float64))):
                raise CodecError("features to encode: NaN, infinite, or far beyond the calibrated range")
        return coefficients.reshape(-1)[self._calibration.order]

    def _features(self, values: np.ndarray) -> np.ndarray:
        tokens, channels = self._calibration.inverses
        coefficients = np.empty_like(values)
        coefficients[self._calibration.order] = values
        coefficients = coefficients.reshape(self._rows, self._columns)
        if self._rows > 1:
            coefficients = tokens.T @ coefficients
        rows = coefficients @ channels
        rows /= self._calibration.token_weights[:, None]
        rows += self._mean
        return rows.reshape(self.shape)

    def _remember(self, sequence: int, values: np.ndarray) -> None:
        self._known[sequence] = values
        self._known.move_to_end(sequence)
        while len(self._known) > REFERENCES_KEPT:
            self._known.popitem(last=False)


def check_calibration(stream: StreamDescription, calibration: SplitCalibration | None) -> None:
    """Whether features of a stream can be coded with a calibration.

    Raises:
        CodecError: there is none, it is another than the stream's, or of another shape.
    """
    split_point = stream.plan.split_point
    if calibration is None:
        raise CodecError(
            f"codec {stream.plan.codec} needs a calibration of the model at '{split_point}', and there is none here; "
            "make one with `laim calibrate`, copy codec.safetensors beside the model, or use codec plain"
        )
    if stream.calibration != calibration.digest:
        raise CodecError(
            f"robot '{stream.robot}' codes '{split_point}' with calibration {stream.calibration or 'none'}, here is "
            f"{calibration.digest}; give both sides the same codec.safetensors beside the model"
        )
    if math.prod(stream.shape) != calibration.mean.size:
        raise CodecError(
            f"the codec's calibration at '{split_point}' is for {calibration.mean.size} elements, the stream has "
            f"{math.prod(stream.shape)}"
        )


def _distance(sequence: int, reference: int) -> int:
    """How many frames back, as numbers start over after 2^32."""
    return (sequence - reference) % (1 << 32)
