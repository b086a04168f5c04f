"""Image messages to RGB pictures and back.

Every picture in this project is `uint8 (H, W, 3)` RGB; this file is the only one that knows image encodings. It is a
thin layer over `cv2.cvtColor`, as `rosbags-image` is, which however ignores `step`, refuses depth images and checks
little: here a message is checked in full before its data is touched, and `rgb8` becomes a view of it, not a copy.

Messages are read by their fields alone, so those of rclpy and those of rosbags both do.
"""

from __future__ import annotations

import array
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from builtin_interfaces.msg import Time
    from sensor_msgs.msg import CompressedImage, Image

MAX_SIDE = 16_384
"""Longest side of a picture that is accepted, in pixels."""
MAX_PIXELS = 1 << 26
"""Most pixels of a picture that are accepted (8K video has half as many)."""


class ImageError(ValueError):
    """An image message that cannot be turned into a picture; the text names the encoding and the numbers."""


@dataclass(frozen=True, slots=True)
class _Encoding:
    """How pixels lie in a message; `conversion` is cv2's code to RGB, None where the channels are in order already."""

    dtype: str
    channels: int
    conversion: int | None = None
    depth: bool = False
    chroma: Literal["own", "pairs", "plane"] = "own"
    """Each pixel has its own, two neighbours share it (yuv422), or rows of it follow those of luma (nv12, nv21)."""

    @property
    def pixel_bytes(self) -> int:
        return self.channels * np.dtype(self.dtype).itemsize


_ENCODINGS = {
    "rgb8": _Encoding("u1", 3),
    "bgr8": _Encoding("u1", 3, cv2.COLOR_BGR2RGB),
    "rgba8": _Encoding("u1", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": _Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
    "mono8": _Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
    "rgb16": _Encoding("u2", 3),
    "bgr16": _Encoding("u2", 3, cv2.COLOR_BGR2RGB),
    "rgba16": _Encoding("u2", 4, cv2.COLOR_RGBA2RGB),
    "bgra16": _Encoding("u2", 4, cv2.COLOR_BGRA2RGB),
    "mono16": _Encoding("u2", 1, cv2.COLOR_GRAY2RGB),
    # Types without a meaning of their own: OpenCV's order of channels, as cv_bridge takes them.
    "8UC1": _Encoding("u1", 1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Encoding("u1", 3, cv2.COLOR_BGR2RGB),
    "8UC4": _Encoding("u1", 4, cv2.COLOR_BGRA2RGB),
    "16UC1": _Encoding("u2", 1, depth=True),
    "32FC1": _Encoding("f4", 1, depth=True),
    "yuv422": _Encoding("u1", 2, cv2.COLOR_YUV2RGB_UYVY, chroma="pairs"),
    "uyvy": _Encoding("u1", 2, cv2.COLOR_YUV2RGB_UYVY, chroma="pairs"),
    "yuv422_yuy2": _Encoding("u1", 2, cv2.COLOR_YUV2RGB_YUYV, chroma="pairs"),
    "yuyv": _Encoding("u1", 2, cv2.COLOR_YUV2RGB_YUYV, chroma="pairs"),
    "nv12": _Encoding("u1", 1, cv2.COLOR_YUV2RGB_NV12, chroma="plane"),
    "nv21": _Encoding("u1", 1, cv2.COLOR_YUV2RGB_NV21, chroma="plane"),
}
# cv2 names a Bayer pattern by its second row and column, ROS by its first: rggb is cv2's BG.
for _bits in (8, 16):
    for _pattern, _code in (
        ("rggb", cv2.COLOR_BayerBG2RGB),
        ("bggr", cv2.COLOR_BayerRG2RGB),
        ("gbrg", cv2.COLOR_BayerGR2RGB),
        ("grbg", cv2.COLOR_BayerGB2RGB),
    ):
        _ENCODINGS[f"bayer_{_pattern}{_bits}"] = _Encoding(f"u{_bits // 8}", 1, _code)

ENCODINGS = tuple(_ENCODINGS)
"""Names of the raw encodings that `to_rgb` accepts."""


def to_rgb(message: Image) -> np.ndarray:
    """The picture in a raw image message.

    Sixteen-bit colours and `mono16` are taken as using their full range. Depth (`16UC1`, `32FC1`) becomes grey, see
    `depth_to_grey`. Transparency is dropped. YUV is ITU-R BT.601 with a limited range, as cv2 and cv_bridge take it.

    Returns:
        uint8 (height, width, 3), RGB, contiguous. For `rgb8` without row padding it is a view of the message's data.

    Raises:
        ImageError: unknown encoding, zero or absurd size, or `step` or the length of `data` contradicts the size.
    """
    name, height, width, step = message.encoding, int(message.height), int(message.width), int(message.step)
    encoding = _ENCODINGS.get(name)
    if encoding is None:
        raise ImageError(f"unknown image encoding '{name}'; known are {', '.join(ENCODINGS)}")
    _check_size(f"image of encoding {name}", height, width)
    if (encoding.chroma != "own" and width % 2) or (encoding.chroma == "plane" and height % 2):
        sides = "width and height" if encoding.chroma == "plane" else "width"
        raise ImageError(f"image of encoding {name} has {width} x {height} pixels; its {sides} must be even")
    row_bytes = width * encoding.pixel_bytes
    if step < row_bytes:
        raise ImageError(
            f"image of encoding {name}, {width} x {height}, has step {step}; a row takes at least {row_bytes} bytes"
        )
    rows = height * 3 // 2 if encoding.chroma == "plane" else height
    if len(message.data) != step * rows:
        raise ImageError(
            f"image of encoding {name}, {width} x {height}, holds {len(message.data)} bytes; "
            f"{rows} rows of step {step} take {step * rows}"
        )
    pixels = np.frombuffer(message.data, np.uint8).reshape(rows, step)[:, :row_bytes]
    order = ">" if message.is_bigendian else "<"
    pixels = np.ascontiguousarray(pixels).view(np.dtype(encoding.dtype).newbyteorder(order))
    return _convert(pixels.reshape(rows, width, encoding.channels), encoding)


def compressed_to_rgb(message: CompressedImage) -> np.ndarray:
    """The picture in a compressed image message: JPEG or PNG, told by its content, or `compressedDepth` (PNG).

    Where the format begins with a raw encoding ("bayer_rggb8; jpeg compressed ", "16UC1; png compressed ") and the file
    has one channel, the pixels are read in that encoding. With more channels the colours are the file's own.

    Returns:
        uint8 (height, width, 3), RGB, contiguous.

    Raises:
        ImageError: not such a file, a truncated or broken one, or zero or absurd size (seen before a pixel is decoded).
    """
    text = message.format
    data = np.frombuffer(message.data, np.uint8)
    if "compressedDepth" in text:
        return _compressed_depth_to_rgb(text, data)
    pixels = _decode(data, f"compressed image of format '{text}'")
    encoding = _ENCODINGS.get(text.split(";")[0].strip())
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if encoding is None or channels > 1 or (encoding.channels, np.dtype(encoding.dtype)) != (1, pixels.dtype):
        bits = 8 * pixels.dtype.itemsize
        encoding = _ENCODINGS[{1: f"mono{bits}", 3: f"bgr{bits}", 4: f"bgra{bits}"}[channels]]
    return _convert(pixels.reshape(*pixels.shape[:2], channels), encoding)


def depth_to_grey(depth: np.ndarray) -> np.ndarray:
    """Depth as grey: linear from the 1st percentile (1, dark) to the 99th (255), so that single wild pixels do no harm.

    Far is bright. Values that are zero, negative, infinite or NaN mean "no measurement" and become 0 (black). A picture
    with one and the same depth everywhere becomes middle grey.

    Args:
        depth: (H, W), unsigned integers or floats, any unit.

    Returns:
        uint8 (H, W).
    """
    depth = depth.astype(np.float32)
    valid = (depth > 0) & (depth < np.inf)  # both are false for NaN
    stride = max(1, depth.size // 65_536)  # percentiles of a sample: all pixels would cost more than the conversion
    sample = depth.ravel()[::stride][valid.ravel()[::stride]]
    if not sample.size:
        sample = depth[valid]
    if not sample.size:
        return np.zeros(depth.shape, np.uint8)
    near, far = (float(value) for value in np.percentile(sample, (1, 99)))
    if far - near > 1e-6 * far:
        np.fmax(depth, near, out=depth)  # of NaN too
        np.subtract(depth, near, out=depth)
        grey = cv2.convertScaleAbs(depth, alpha=254 / (far - near), beta=1)  # no more than 255
    else:
        grey = np.full(depth.shape, 128, np.uint8)
    grey *= valid
    return grey


def rgb_message(image: np.ndarray, stamp: Time, frame_id: str = "") -> Image:
    """An `rgb8` message of a picture: uint8 (H, W, 3)."""
    from sensor_msgs.msg import Image

    _check_picture(image)
    height, width = image.shape[:2]
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width, is_bigendian=0)
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.data = _byte_array(np.ascontiguousarray(image))
    return message


def compressed_message(image: np.ndarray, stamp: Time, frame_id: str = "", quality: int = 90) -> CompressedImage:
    """A JPEG message (quality 1–100) of a picture: uint8 (H, W, 3) RGB."""
    from sensor_msgs.msg import CompressedImage

    _check_picture(image)
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ImageError(f"a picture of {image.shape[1]} x {image.shape[0]} pixels cannot be written as JPEG")
    message = CompressedImage(format="rgb8; jpeg compressed bgr8")
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.data = _byte_array(jpeg)
    return message


def picture_size(data: np.ndarray | bytes) -> tuple[int, int]:
    """Height and width that a JPEG or PNG file states, without decoding it; the file is checked to have its end.

    Raises:
        ImageError: neither JPEG nor PNG, or cut short.
    """
    data = bytes(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        if len(data) < 33 or data[12:16] != b"IHDR":
            raise ImageError(f"truncated PNG: {len(data)} bytes end inside its header")
        if b"IEND" not in data[-64:]:
            raise ImageError(f"truncated PNG: {len(data)} bytes without an end chunk")
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    raise ImageError(f"neither JPEG nor PNG: {len(data)} bytes that begin with '{data[:4].hex(' ')}'")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    size = None
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ImageError(f"broken JPEG: no marker at byte {at} of {len(data)}")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a segment
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 9 <= len(data):
            size = struct.unpack(">HH", data[at + 5 : at + 9])
        if marker == 0xDA:  # start of scan: what follows is entropy-coded, where FF D9 can only be the end
            if size is None:
                raise ImageError("broken JPEG: its pixels begin before its size is stated")
            if data.find(b"\xff\xd9", at + 2 + length) < 0:
                raise ImageError(f"truncated JPEG: {len(data)} bytes without an end-of-image marker")
            return size
        at += 2 + length
    raise ImageError(f"truncated JPEG: {len(data)} bytes end inside its header")


def _compressed_depth_to_rgb(text: str, data: np.ndarray) -> np.ndarray:
    """`compressed_depth_image_transport`: a header of 12 bytes (format, two floats), then a PNG of 16 bits."""
    what = f"compressed image of format '{text}'"
    if "rvl" in text.lower():
        raise ImageError(f"{what}: RVL is not supported; set the publisher's compressedDepth format to png")
    if data.size < 12:
        raise ImageError(f"{what} holds {data.size} bytes; its header alone takes 12")
    _, depth_a, depth_b = struct.unpack("<iff", data[:12].tobytes())
    pixels = _decode(data[12:], what)
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ImageError(f"{what} holds {pixels.dtype} with shape {pixels.shape}; depth has one channel of 16 bits")
    if text.split(";")[0].strip() == "32FC1":  # stored as inverse depth: value = a / depth + b, 0 where there is none
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.where(pixels > 0, depth_a / (pixels.astype(np.float32) - depth_b), 0)
        return cv2.cvtColor(depth_to_grey(depth), cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(depth_to_grey(pixels), cv2.COLOR_GRAY2RGB)


def _decode(data: np.ndarray, what: str) -> np.ndarray:
    """Pixels of a JPEG or PNG file as cv2 gives them: (H, W) or (H, W, 3 or 4) in BGR order, uint8 or uint16."""
    try:
        height, width = picture_size(data)
        _check_size("picture", height, width)
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except ImageError as error:
        raise ImageError(f"{what}: {error}") from None
    except cv2.error as error:
        raise ImageError(f"{what}, {width} x {height}, cannot be decoded: {error.err}") from None
    if pixels is None:
        raise ImageError(f"{what}, {width} x {height}, {data.size} bytes, is broken: it cannot be decoded")
    return pixels


def _convert(pixels: np.ndarray, encoding: _Encoding) -> np.ndarray:
    """Pixels (rows, W, channels) in the encoding's type, any byte order, to uint8 (H, W, 3) RGB."""
    if encoding.depth:
        return cv2.cvtColor(depth_to_grey(pixels[..., 0]), cv2.COLOR_GRAY2RGB)
    if not pixels.dtype.isnative:
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / 65_535)
    return pixels if encoding.conversion is None else cv2.cvtColor(pixels, encoding.conversion)


def _check_size(what: str, height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ImageError(f"{what} has no pixels: {width} x {height}")
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise ImageError(
            f"{what} claims {width} x {height} pixels; at most {MAX_SIDE} a side and {MAX_PIXELS} in all are accepted"
        )


def _check_picture(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f"a picture is uint8 (height, width, 3), not {image.dtype} {image.shape}")


def _byte_array(contiguous: np.ndarray) -> array.array:
    """The one type that rclpy's `uint8[]` takes without walking its elements."""
    data = array.array("B")
    data.frombytes(contiguous.data)
    return data
