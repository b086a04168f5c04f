"""Where a camera's frames come from: synthetic scenes, a folder of pictures, a video file, or a V4L2 device.

No ROS here. Every source has the same face, `FrameSource`; `open_source` chooses by the name that a person gives.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from laim_ros.drawing import fitted
from laim_ros.scenes import SceneStream, captions

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

_DEVICE = re.compile(r"(?:/dev/video)?(\d{1,3})")
_USUAL_RATE_HZ = 25.0  # of a video file that does not state its own
_STALE_GRAB_S = 0.004
_MOST_STALE_FRAMES = 8


class SourceError(ValueError):
    """A source that cannot be opened or that broke off; the message names it and the fix."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        name: what it is: a file's name, or the moment in a stream.
        caption: a true caption, where the source knows one.
        scene: the scene as JSON, where the picture was drawn from one.
    """

    image: np.ndarray
    name: str
    caption: str | None = None
    scene: str | None = None


class FrameSource(Protocol):
    """Frames one after the other."""

    def frame(self, time_s: float) -> Frame | None:
        """The next frame, `time_s` seconds (never less than before) after the start; None at the end.

        Raises:
            SourceError: the source broke off.
        """

    def close(self) -> None:
        """Lets go of files and devices."""


def open_source(
    source: str,
    *,
    height: int,
    width: int,
    rate_hz: float = 30.0,
    seed: int = 0,
    loop: bool = True,
    warn: Callable[[str], object] = lambda text: None,
) -> FrameSource:
    """The source that a name stands for.

    Args:
        source: `scenes`; a folder of pictures or one picture; a video file; `/dev/videoN` or `N`.
        height, width: size in which scenes are drawn. Pictures and videos keep their shape and are shrunk to fit into
            it, never enlarged; a device is asked for it, and what it gives instead is shrunk too.
        rate_hz: how often frames will be taken; a device is asked for it.
        seed: first scene of `scenes`.
        loop: start over at the end of a folder or video.
        warn: told of each picture of a folder that is skipped because it cannot be read.

    Raises:
        SourceError: there is no such source, or nothing in it can be read.
    """
    if source == "scenes":
        return SceneSource(seed, height, width)
    if match := _DEVICE.fullmatch(source):
        return DeviceSource(int(match[1]), height, width, rate_hz)
    path = Path(source).expanduser()
    if path.is_dir():
        paths = picture_paths(path)
        if not paths:
            raise SourceError(f"folder '{source}' holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))})")
        return FolderSource(paths, height, width, loop, warn)
    if not path.exists():
        raise SourceError(
            f"source '{source}' does not exist; give `scenes`, a folder of pictures, a video file, or /dev/videoN"
        )
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return FolderSource([path], height, width, loop, warn)
    return VideoSource(path, height, width, loop)


def picture_paths(folder: Path) -> list[Path]:
    """The picture files in a folder, in the order of their names.

    Raises:
        OSError: the folder cannot be read.
    """
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)


def evenly_spread(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many of the files, evenly spread: neighbours in a recording show much the same."""
    count = min(most, len(paths))
    return [paths[index * len(paths) // count] for index in range(count)]


class SceneSource:
    """Endless synthetic scenes; the frame at `time_s` is always the same one for a seed."""

    def __init__(self, seed: int, height: int, width: int) -> None:
        self._stream, self._height, self._width = SceneStream(seed), height, width

    def frame(self, time_s: float) -> Frame:
        """The scene as seen at `time_s`, with its canonical caption."""
        image, scene = self._stream.frame(time_s, self._height, self._width)
        return Frame(image, f"scenes at {time_s:.3f} s", captions(scene)[0], scene.to_json())

    def close(self) -> None:
        """Nothing to let go of."""


class FolderSource:
    """One picture per call, in the order of `paths`; those that cannot be read are skipped, with one warning each."""

    def __init__(
        self, paths: Sequence[Path], height: int, width: int, loop: bool, warn: Callable[[str], object]
    ) -> None:
        self._paths, self._height, self._width, self._loop, self._warn = list(paths), height, width, loop, warn
        self._next = 0

    def frame(self, time_s: float) -> Frame | None:
        """The next picture that can be read."""
        while self._paths:
            if self._next >= len(self._paths):
                if not self._loop:
                    return None
                self._next = 0
            path = self._paths[self._next]
            picture = _decoded(path)
            if picture is not None:
                self._next += 1
                return Frame(_rgb(picture, self._height, self._width), path.name)
            self._warn(f"picture '{path}' is skipped: it cannot be read")
            del self._paths[self._next]
        raise SourceError("none of the pictures can be read")

    def close(self) -> None:
        """Nothing to let go of."""


class VideoSource:
    """A video file, played at its own speed: frames are left out, or shown again, to be where `time_s` says."""

    def __init__(self, path: Path, height: int, width: int, loop: bool) -> None:
        self._path, self._height, self._width, self._loop = path, height, width, loop
        self._began_s = 0.0
        self._open()
        rate_hz = self._capture.get(cv2.CAP_PROP_FPS)
        self._rate_hz = rate_hz if 0 < rate_hz < 1_000 else _USUAL_RATE_HZ
        if not self._advance():
            self.close()
            raise SourceError(f"video '{path}' holds no frame that OpenCV can read")

    def frame(self, time_s: float) -> Frame | None:
        """The frame that a player would show `time_s` after the start."""
        while self._index < int((time_s - self._began_s) * self._rate_hz + 1e-6):
            if self._advance():
                continue
            if not self._loop:
                return None
            length_s = (self._index + 1) / self._rate_hz
            # Whole repetitions that nobody saw are left out at once.
            self._began_s += length_s * max(1, (time_s - self._began_s) // length_s)
            self.close()
            self._open()
            if not self._advance():
                raise SourceError(f"video '{self._path}' cannot be read any more")
        done, picture = self._capture.retrieve()
        if not done:
            raise SourceError(f"frame {self._index} of video '{self._path}' cannot be decoded")
        return Frame(_rgb(picture, self._height, self._width), f"{self._path.name} frame {self._index}")

    def close(self) -> None:
        """Closes the file."""
        self._capture.release()

    def _open(self) -> None:
        self._capture = cv2.VideoCapture(str(self._path))
        self._index = -1
        if not self._capture.isOpened():
            raise SourceError(f"'{self._path}' is no video that OpenCV can open")

    def _advance(self) -> bool:
        grabbed = self._capture.grab()
        self._index += grabbed
        return grabbed


class DeviceSource:
    """A V4L2 camera; every frame is the newest one, not one that has waited in the driver's buffers."""

    def __init__(self, number: int, height: int, width: int, rate_hz: float) -> None:
        self._name, self._height, self._width = f"/dev/video{number}", height, width
        if not os.path.exists(self._name):
            present = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
            raise SourceError(f"there is no camera {self._name}; present: {present}")
        self._capture = cv2.VideoCapture(number, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise SourceError(
                f"camera {self._name} cannot be opened: is another program using it, and is this user in group video?"
            )
        for setting, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, width),
            (cv2.CAP_PROP_FRAME_HEIGHT, height),
            (cv2.CAP_PROP_FPS, rate_hz),
            (cv2.CAP_PROP_BUFFERSIZE, 1),
        ):
            self._capture.set(setting, value)  # a wish; what the camera cannot do it ignores

    def frame(self, time_s: float) -> Frame:
        """The newest frame; waits for it as long as the camera's own rate demands."""
        for _ in range(_MOST_STALE_FRAMES):
            before_s = time.perf_counter()
            if not self._capture.grab():
                raise SourceError(f"camera {self._name} stopped delivering; is it still connected?")
            if time.perf_counter() - before_s > _STALE_GRAB_S:
                break  # it had to be waited for, so it is new
        done, picture = self._capture.retrieve()
        if not done:
            raise SourceError(f"camera {self._name} delivered a frame that cannot be decoded")
        return Frame(_rgb(picture, self._height, self._width), f"{self._name} at {time_s:.3f} s")

    def close(self) -> None:
        """Lets the camera go."""
        self._capture.release()


def _decoded(path: Path) -> np.ndarray | None:
    """A picture file as uint8 BGR, or None if it cannot be read."""
    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None


def _rgb(bgr: np.ndarray, height: int, width: int) -> np.ndarray:
    # Shrunk first: fewer pixels to convert.
    return cv2.cvtColor(fitted(bgr, height, width), cv2.COLOR_BGR2RGB)
