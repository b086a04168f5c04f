"""`PictureCodec`: pictures as JPEG, WebP or AVIF, for plans that leave the whole model to the edge."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from laim_ros.codec.avif import avif_size
from laim_ros.codec.errors import CodecError
from laim_ros.codec.jpeg import jpeg_size
from laim_ros.codec.stream import StreamDescription
from laim_ros.codec.webp import webp_size
from laim_ros.plan import picture_format

# AVIF's speed, 0 to 10. Over six photographs at 224 × 224 each step below 8 saves 4 to 5 % of the bytes at equal PSNR
# and takes 1.5 to 4 times as long (8: 8 ms on one core, 7: 12, 6: 27, 5: 102), while 9, OpenCV's own choice, takes 2 ms
# for 21 % more bytes. At 96 × 96: 2 to 3 % a step (8: 4 ms, 7: 5, 6: 12, 5: 38), and 9 takes 18 % more bytes.
_AVIF_SPEED = 8

# The noisiest picture at quality 100 takes 4.4 bytes per pixel as AVIF, 3.3 as JPEG, 1.4 as WebP; blocks are whole at
# the edges (two rows of pixels take 12 bytes per pixel as JPEG), and a header stands before them.
_MOST_BYTES_PER_PIXEL = 6
_BLOCK_PIXELS = 16
_MOST_HEADER_BYTES = 4096

# Share of the bytes allowed from which on no better quality is sought: that halves the tries, for 4 % of the bytes.
_FULL = 0.9


@dataclass(frozen=True, slots=True)
class _Format:
    label: str
    suffix: str
    size: Callable[[bytes], tuple[int, int]]
    parameters: Callable[[int], list[int]]


def _jpeg_parameters(quality: int) -> list[int]:
    # 4:4:4, because these pictures have the model's own size: each colour sample is one that the model looks at.
    # Over six photographs at 224 × 224, quality 75, it gives 35.0 dB for 11.0 kB where 4:2:0 gives 33.5 dB for
    # 8.7 kB: at equal bytes it is never worse, and it keeps sharp colour edges. Huffman tables made for the picture
    # save 4 % at 224 × 224 and 11 % at 96 × 96, for 0.2 ms.
    return [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        cv2.IMWRITE_JPEG_OPTIMIZE,
        1,
    ]


# WebP is 4:2:0 by its definition, and OpenCV writes AVIF as 4:2:0 below quality 100, where it is lossless.
_FORMATS = {
    "jpeg": _Format("JPEG", ".jpg", jpeg_size, _jpeg_parameters),
    "webp": _Format("WebP", ".webp", webp_size, lambda quality: [cv2.IMWRITE_WEBP_QUALITY, quality]),
    "avif": _Format(
        "AVIF",
        ".avif",
        avif_size,
        lambda quality: [cv2.IMWRITE_AVIF_QUALITY, quality, cv2.IMWRITE_AVIF_SPEED, _AVIF_SPEED],
    ),
}


class PictureCodec:
    """uint8 RGB pictures of one stream to JPEG, WebP or AVIF and back. Stateless, usable by many threads."""

    def __init__(self, stream: StreamDescription) -> None:
        """Codec for `stream`, whose plan must send pictures.

        Raises:
            CodecError: this machine's OpenCV does not write and read the plan's format.
        """
        name, self._quality = picture_format(stream.plan.codec)
        self._format = _FORMATS[name]
        self.name = stream.plan.codec
        self.shape = stream.shape
        if name not in picture_formats_here():
            raise CodecError(
                f"picture: OpenCV {cv2.__version__} of this machine does not write and read {self._format.label}; "
                f"use another codec, one of {', '.join(picture_formats_here())} with its quality, or a later OpenCV"
            )
        height, width = (side + -side % _BLOCK_PIXELS for side in stream.shape[:2])
        self._most_bytes = _MOST_HEADER_BYTES + _MOST_BYTES_PER_PIXEL * height * width

    def encode(self, array: np.ndarray, most_bytes: int = 0) -> bytes:
        """Code one picture: the stream's shape (H, W, 3), uint8, RGB.

        Args:
            array: the picture.
            most_bytes: bound on the payload, 0 for none. Where the picture takes more at the plan's quality, a lower
                one is sought by bisection, in at most seven more tries, until the payload is nearly as large as it may
                be; decoding needs no knowledge of the quality.

        Raises:
            CodecError: wrong shape or dtype, or no quality takes few enough bytes (the smallest size is named).
        """
        if array.shape != self.shape or array.dtype != np.uint8:
            raise CodecError(
                f"picture: the stream takes uint8 {self.shape}, not {array.dtype} {array.shape}; "
                f"a changed size needs a new stream description"
            )
        picture = cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_RGB2BGR)
        payload = _written(self._format, picture, self._quality)
        if not most_bytes or len(payload) <= most_bytes:
            return payload
        fitting, smallest_bytes = None, len(payload)
        low, high = 1, self._quality - 1
        while low <= high and (fitting is None or len(fitting) < _FULL * most_bytes):
            quality = (low + high) // 2
            payload = _written(self._format, picture, quality)
            smallest_bytes = min(smallest_bytes, len(payload))
            if len(payload) <= most_bytes:
                fitting, low = payload, quality + 1
            else:
                high = quality - 1
        if fitting is None:
            raise CodecError(
                f"picture: as {self._format.label} of {self.shape[1]}×{self.shape[0]} it takes {smallest_bytes} bytes "
                f"even at quality 1, more than the {most_bytes} that a payload may have; allow more or send features"
            )
        return fitting

    def decode(self, payload: bytes | memoryview) -> np.ndarray:
        """Decode one picture, after its size has been read from the header and compared with the stream.

        Returns:
            A new array of the stream's shape (H, W, 3), uint8, RGB. A damaged picture may decode to wrong pixels.

        Raises:
            CodecError: not one whole picture of the stream's format and size, such as `encode` writes.
        """
        label = self._format.label
        if len(payload) > self._most_bytes:
            raise CodecError(
                f"picture: {len(payload)} bytes, more than {self._most_bytes}, the most that a {label} "
                f"of {self.shape[1]}×{self.shape[0]} may take"
            )
        data = bytes(payload)
        height, width = self._format.size(data)
        if (height, width, 3) != self.shape:
            raise CodecError(
                f"picture: the {label} is {width}×{height}, the stream announced {self.shape[1]}×{self.shape[0]}"
            )
        return _read(self._format, data, self.shape)


@functools.cache
def picture_formats_here() -> tuple[str, ...]:
    """Those of `laim_ros.plan.PICTURE_FORMATS` that this machine's OpenCV writes and reads; tried once per process."""
    return tuple(name for name, form in _FORMATS.items() if _works(form))


def _works(form: _Format) -> bool:
    """Whether a picture can be written, is one that `decode` takes, and comes back: found out by trying."""
    picture = np.full((_BLOCK_PIXELS, 2 * _BLOCK_PIXELS, 3), 128, np.uint8)
    try:
        if not cv2.haveImageWriter(form.suffix):
            return False
        data = _written(form, picture, 50)
        return form.size(data) == picture.shape[:2] and _read(form, data, picture.shape).shape == picture.shape
    except CodecError:
        return False


def _written(form: _Format, picture: np.ndarray, quality: int) -> bytes:
    with _no_log:
        try:
            done, coded = cv2.imencode(form.suffix, picture, form.parameters(quality))
        except cv2.error as error:
            raise CodecError(f"picture: OpenCV cannot write {picture.shape} as {form.label} ({error.err})") from error
    if not done:
        raise CodecError(f"picture: OpenCV cannot write {picture.shape} as {form.label}")
    return coded.tobytes()


def _read(form: _Format, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    with _no_log:
        try:
            # The orientation tag of a camera's JPEG must not turn the picture away from the size announced.
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error as error:
            raise CodecError(f"picture: OpenCV cannot read the {form.label} ({error.err})") from error
    if picture is None or picture.shape != shape:
        raise CodecError(f"picture: OpenCV cannot read the {form.label}")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)


class _NoLog:
    """Keeps OpenCV from logging what a CodecError says already, while any thread is inside.

    The level is the process's own, so that it is put back when the last thread leaves. libjpeg's remarks on damaged
    pictures do not come from OpenCV's log and still reach stderr.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._level = threading.Lock(), 0, 0
        self._log = getattr(getattr(cv2, "utils", None), "logging", None)  # OpenCV before 4.7 has none

    def __enter__(self) -> Self:
        if self._log is not None:
            with self._lock:
                if self._inside == 0:
                    self._level = self._log.getLogLevel()
                    self._log.setLogLevel(self._log.LOG_LEVEL_SILENT)
                self._inside += 1
        return self

    def __exit__(self, *_error: object) -> None:
        if self._log is not None:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._log.setLogLevel(self._level)


_no_log = _NoLog()
