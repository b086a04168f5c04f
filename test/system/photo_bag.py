"""A bag of real photographs in every image encoding, written without ROS, and its messages for playing.

The photographs are those that come inside scikit-image's package; what a version of it fetches from the net is left
out.

    python test/system/photo_bag.py FOLDER       writes FOLDER, to be played with `ros2 bag play` too

In the bag, `/image` carries every photograph in every raw encoding, and `/image/compressed` every photograph as JPEG
and PNG, one message each. The header's stamp and the recorded time are equal, different in all messages, and rise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "nodes"))

from picture_encodings import encode

NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "camera.png", "coins.png", "motorcycle_left.png")
RAW_ENCODINGS = (
    *("rgb8", "bgr8", "mono8", "rgba8", "bgra8", "yuv422"),
    *("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"),
    *("16UC1", "32FC1"),
)
"""What the interface promises; `laim_ros.nodes.images.ENCODINGS` lists some more."""
COMPRESSED = {"jpeg": "bgr8; jpeg compressed bgr8", "png": "bgr8; png compressed bgr8"}

MAX_SIDE = 320
_START_NS = 1_700_000_000 * 10**9
_STEP_NS = 100_000_000
_IMAGE, _COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_STORE = get_typestore(Stores.ROS2_KILTED)
_TYPES = _STORE.types


@dataclass(frozen=True)
class Recorded:
    """One message of the bag: when it was recorded, its topic and type, and itself serialized (CDR), fit to publish.

    `message()` gives it as rclpy knows it.
    """

    time_ns: int
    topic: str
    type: str
    data: bytes

    def message(self) -> Any:
        """The message as `sensor_msgs.msg.Image` or `CompressedImage`; needs rclpy."""
        from rclpy.serialization import deserialize_message
        from sensor_msgs.msg import CompressedImage, Image

        return deserialize_message(self.data, Image if self.type == _IMAGE else CompressedImage)


def photographs(max_side: int = MAX_SIDE) -> dict[str, np.ndarray]:
    """The photographs at hand by name, uint8 (H, W, 3) RGB, shrunk to `max_side`, with even sides."""
    folder = Path(skimage.__file__).parent / "data"
    found = {}
    for name in NAMES:
        picture = cv2.imread(str(folder / name), cv2.IMREAD_COLOR) if (folder / name).exists() else None
        if picture is not None:
            scale = min(1.0, max_side / max(picture.shape))
            size = [max(2, 2 * round(side * scale / 2)) for side in (picture.shape[1], picture.shape[0])]
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            found[Path(name).stem] = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
    assert found, f"no photographs in {folder}"
    return found


def write(
    folder: Path,
    pictures: Mapping[str, np.ndarray] | None = None,
    raw: Sequence[str] = RAW_ENCODINGS,
    compressed: Sequence[str] = tuple(COMPRESSED),
    *,
    mcap: bool = True,
) -> list[tuple[str, str]]:
    """Writes the bag; `folder` must not exist yet.

    Returns:
        (name of the photograph, encoding) of each message, in the order in which `read` gives them.
    """
    plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
    frames = [
        (name, encoding, picture)
        for name, picture in (pictures or photographs()).items()
        for encoding in (*raw, *compressed)
    ]
    with Writer(folder, version=9, storage_plugin=plugin) as bag:
        connections = {
            kind: bag.add_connection(topic, kind, typestore=_STORE)
            for topic, kind in (("/image", _IMAGE), ("/image/compressed", _COMPRESSED_IMAGE))
        }
        for number, (name, encoding, picture) in enumerate(frames):
            time_ns = _START_NS + number * _STEP_NS
            stamp = _TYPES["builtin_interfaces/msg/Time"](sec=time_ns // 10**9, nanosec=time_ns % 10**9)
            header = _TYPES["std_msgs/msg/Header"](stamp=stamp, frame_id=f"{name}/{encoding}")
            compress = encoding in COMPRESSED
            message = _compressed(header, encoding, picture) if compress else _raw(header, encoding, picture)
            connection = connections[message.__msgtype__]
            bag.write(connection, time_ns, _STORE.serialize_cdr(message, message.__msgtype__))
    return [(name, encoding) for name, encoding, _ in frames]


def _raw(header: Any, encoding: str, picture: np.ndarray) -> Any:
    pixels = np.ascontiguousarray(encode(encoding, picture))
    return _TYPES[_IMAGE](
        header=header,
        height=picture.shape[0],
        width=picture.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.nbytes // pixels.shape[0],
        data=pixels.view(np.uint8).ravel(),
    )


def _compressed(header: Any, kind: str, picture: np.ndarray) -> Any:
    _, file = cv2.imencode(f".{kind}", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return _TYPES[_COMPRESSED_IMAGE](header=header, format=COMPRESSED[kind], data=file.ravel())


def read(folder: Path) -> Iterator[Recorded]:
    """The messages of a bag in the order of their times; any bag of images will do."""
    with Reader(folder) as bag:
        for connection, time_ns, data in bag.messages():
            if connection.msgtype in (_IMAGE, _COMPRESSED_IMAGE):
                yield Recorded(time_ns, connection.topic, connection.msgtype, bytes(data))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    count = len(write(target))
    print(f"{count} messages in {target}")
