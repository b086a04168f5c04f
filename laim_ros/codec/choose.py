"""`codec_for`: the codec that a stream's plan names."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from laim_ros.codec.errors import CodecError
from laim_ros.codec.picture import PictureCodec
from laim_ros.codec.plain import PlainCodec
from laim_ros.codec.stream import StreamDescription

_FEATURE_CODECS = {"plain": PlainCodec}


class Codec(Protocol):
    """One stream's frames to payloads and back; every payload decodes by itself."""

    name: str

    def encode(self, array: np.ndarray) -> bytes:
        """The payload of one frame of the stream's shape; CodecError where it cannot be coded."""

    def decode(self, payload: bytes | memoryview) -> np.ndarray:
        """The frame in `payload`; CodecError where it is not one of this stream."""


def codec_for(stream: StreamDescription) -> Codec:
    """A new codec for `stream`; cheap, but not to be shared by threads.

    Raises:
        CodecError: the stream's plan sends nothing.
    """
    plan = stream.plan
    if plan.split_point == "output":
        raise CodecError("codec: nothing is sent at split_point 'output', the robot has the result")
    if plan.sends_picture:
        return PictureCodec(stream)
    if plan.codec not in _FEATURE_CODECS:
        raise CodecError(f"codec: '{plan.codec}' is not known here; update laim_ros on this side")
    return _FEATURE_CODECS[plan.codec](stream)
