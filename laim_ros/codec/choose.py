"""`Codecs`: the codec that each stream's plan names, with the calibration that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

import numpy as np

from laim_ros.codec.calibration import SplitCalibration, find_calibrations
from laim_ros.codec.errors import CodecError
from laim_ros.codec.klt import KltCodec, check_calibration
from laim_ros.codec.picture import PictureCodec
from laim_ros.codec.plain import PlainCodec
from laim_ros.codec.stream import StreamDescription
from laim_ros.plan import Plan, codes_by_calibration

_STREAMS_CACHED = 16
"""Streams whose codecs are kept from frame to frame."""


class Codec(Protocol):
    """One stream's frames to payloads and back; every payload decodes by itself unless the stream is predictive."""

    name: str

    def encode(self, array: np.ndarray, most_bytes: int = 0) -> bytes:
        """The payload of one frame of the stream's shape; CodecError where it cannot be coded in so many bytes."""

    def decode(self, payload: bytes | memoryview) -> np.ndarray:
        """The frame in `payload`; CodecError where it is not one of this stream."""


def codec_for(stream: StreamDescription, calibration: SplitCalibration | None = None) -> Codec:
    """A new codec for `stream`, not to be shared by threads.

    Args:
        stream: the stream.
        calibration: of its split point, which `klt` needs.

    Raises:
        CodecError: the stream's plan sends nothing, or `klt` without the calibration that the stream names.
    """
    plan = stream.plan
    if plan.split_point == "output":
        raise CodecError("codec: nothing is sent at split_point 'output', the robot has the result")
    if plan.sends_picture:
        return PictureCodec(stream)
    return PlainCodec(stream) if plan.codec == "plain" else KltCodec(stream, calibration)


class Codecs:
    """Codes the frames of any streams of one model and one sender. For one thread at a time.

    Args:
        calibrations: of codec `klt`, by split point.
        source: where they are from, or why there are none, in words.

    Attributes:
        calibrations, source: as given.
    """

    def __init__(self, calibrations: Mapping[str, SplitCalibration], source: str = "as given") -> None:
        self.calibrations, self.source = calibrations, source

        def make(stream: StreamDescription) -> Codec:
            return codec_for(stream, calibrations.get(stream.plan.split_point))

        self._codec = lru_cache(_STREAMS_CACHED)(make)

    @classmethod
    def find(cls, model: str, model_id: str) -> Codecs:
        """With the model's own calibrations, if there are any; see `find_calibrations`."""
        return cls(*find_calibrations(model, model_id))

    def for_sender(self) -> Codecs:
        """The same calibrations for another sender: predictive streams remember frames, and must not mix them."""
        return Codecs(self.calibrations, self.source)

    def calibration(self, plan: Plan) -> SplitCalibration | None:
        """What a plan's codec needs; None where it needs nothing.

        Raises:
            CodecError: it needs what is not here.
        """
        if not codes_by_calibration(plan):
            return None
        if plan.split_point not in self.calibrations:
            raise CodecError(
                f"codec {plan.codec} is not calibrated at '{plan.split_point}' ({self.source}); codec auto takes what "
                "there is"
            )
        return self.calibrations[plan.split_point]

    def check(self, stream: StreamDescription) -> None:
        """Whether frames of a stream can be decoded here.

        Raises:
            CodecError: it names a calibration that is not here, or that cannot be inverted.
        """
        if codes_by_calibration(stream.plan):
            calibration = self.calibrations.get(stream.plan.split_point)
            check_calibration(stream, calibration)
            calibration.inverses  # noqa: B018 - that they exist, and their second of work, before the first frame

    def encode(
        self,
        stream: StreamDescription,
        array: np.ndarray,
        sequence: int = 0,
        reference: int | None = None,
        most_bytes: int = 0,
    ) -> bytes:
        """The payload of one frame.

        Args:
            stream: that it belongs to.
            array: float32 of the stream's shape, or uint8 (H, W, 3) where it sends pictures.
            sequence, reference: numbers of the frame, and in a predictive stream of one that the other side has
                decoded; None codes the frame by itself.
            most_bytes: of the payload; 0 for no limit.

        Raises:
            CodecError: the array is not of this stream, holds a NaN or an infinity, or does not fit the limit.
        """
        codec = self._codec(stream)
        if stream.predictive and isinstance(codec, KltCodec):
            return codec.encode_after(array, sequence, reference, most_bytes)
        return codec.encode(array, most_bytes)

    def decode(self, stream: StreamDescription, payload: bytes, sequence: int = 0) -> np.ndarray:
        """The frame in a payload: float32 of the stream's shape, or uint8 (H, W, 3).

        Raises:
            CodecError: damaged, not what the stream promises, or it refers to a frame that was not decoded here.
        """
        codec = self._codec(stream)
        if stream.predictive and isinstance(codec, KltCodec):
            return codec.decode(payload, sequence)
        return codec.decode(payload)
