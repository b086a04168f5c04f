"""Frames of scenes, folders, video files and devices, and what is said when there are none."""

import cv2
import numpy as np
import pytest
from skimage import data as photographs

from laim_ros import sources
from laim_ros.scenes import Scene, captions, render
from laim_ros.sources import SourceError, open_source

RATE_HZ = 10.0


def write(path, picture):
    cv2.imwrite(str(path), picture[..., ::-1])


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "b.png", photographs.chelsea())
    write(tmp_path / "a.PNG", photographs.coffee())
    write(tmp_path / "c.jpg", photographs.rocket())
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


@pytest.fixture
def video(tmp_path):
    """Twenty frames, each as bright as its number says."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE_HZ, (64, 48))
    for number in range(20):
        writer.write(np.full((48, 64, 3), 10 * number, np.uint8))
    writer.release()
    return path


def number_of(frame):
    return round(frame.image.mean() / 10)


def test_scenes_know_the_truth_of_every_frame():
    source = open_source("scenes", height=60, width=80, seed=4)
    frames = [source.frame(time_s) for time_s in (0.0, 0.1, 9.0)]
    for frame in frames:
        assert frame.image.shape == (60, 80, 3)
        scene = Scene.from_json(frame.scene)
        assert frame.caption == captions(scene)[0]
        np.testing.assert_array_equal(frame.image, render(scene, 60, 80).image)
    assert len({frame.image.tobytes() for frame in frames}) == 3
    again = open_source("scenes", height=60, width=80, seed=4).frame(9.0)
    np.testing.assert_array_equal(again.image, frames[2].image)
    assert open_source("scenes", height=60, width=80, seed=5).frame(0.0).scene != frames[0].scene


def test_folder_in_order_of_names_as_rgb_then_again(folder):
    source = open_source(str(folder), height=2_000, width=2_000)
    frames = [source.frame(0.0) for _ in range(4)]
    assert [frame.name for frame in frames] == ["a.PNG", "b.png", "c.jpg", "a.PNG"]
    np.testing.assert_array_equal(frames[0].image, photographs.coffee())
    np.testing.assert_array_equal(frames[1].image, photographs.chelsea())
    assert frames[0].caption is None
    assert frames[0].scene is None


def test_folder_ends_when_it_does_not_loop(folder):
    source = open_source(str(folder), height=480, width=640, loop=False)
    assert [frame is None for frame in (source.frame(0.0) for _ in range(5))] == [False] * 3 + [True] * 2


def test_pictures_are_shrunk_in_their_own_shape(folder):
    shape = open_source(str(folder), height=200, width=200).frame(0.0).image.shape
    assert shape == (133, 200, 3), "coffee.png is 400 x 600"


def test_broken_pictures_are_skipped_with_a_warning(folder):
    (folder / "b.png").write_bytes(b"not a picture")
    (folder / "b2.png").write_bytes(b"")
    warnings = []
    source = open_source(str(folder), height=480, width=640, warn=warnings.append)
    assert [source.frame(0.0).name for _ in range(5)] == ["a.PNG", "c.jpg", "a.PNG", "c.jpg", "a.PNG"]
    assert len(warnings) == 2, "one each"
    assert "b.png' is skipped" in warnings[0]


def test_a_folder_of_broken_pictures_alone_ends(tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(SourceError, match="none of the pictures can be read"):
        open_source(str(tmp_path), height=48, width=64).frame(0.0)


def test_one_picture_is_a_source_too(folder):
    source = open_source(str(folder / "c.jpg"), height=480, width=640)
    assert [source.frame(0.0).name for _ in range(2)] == ["c.jpg", "c.jpg"]


def test_video_plays_at_its_own_speed(video):
    source = open_source(str(video), height=480, width=640, loop=False)
    assert [number_of(source.frame(t)) for t in (0.0, 0.05, 0.1, 0.5, 0.5, 1.9)] == [0, 0, 1, 5, 5, 19]
    assert source.frame(2.0) is None
    source.close()


def test_video_starts_over(video):
    source = open_source(str(video), height=480, width=640)
    assert [number_of(source.frame(t)) for t in (1.9, 2.0, 2.3, 4.1, 10.7, 100.0)] == [19, 0, 3, 1, 7, 0]
    source.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere", "'.*nowhere' does not exist; give `scenes`, a folder"),
        ("empty", "holds no pictures"),
        ("notes.mp4", "no video that OpenCV can open|no frame that OpenCV can read"),
    ],
)
def test_what_cannot_be_opened_is_named(tmp_path, name, reason):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.mp4").write_text("no video")
    with pytest.raises(SourceError, match=reason):
        open_source(str(tmp_path / name), height=48, width=64)


@pytest.mark.parametrize("name", ["/dev/video97", "97"])
def test_a_missing_camera_is_named(name):
    with pytest.raises(SourceError, match="there is no camera /dev/video97; present: "):
        open_source(name, height=48, width=64)


class BufferedCamera:
    """Stands in for a V4L2 device, which test machines lack: three frames wait in its buffers."""

    def __init__(self, *_):
        self.number, self.alive = 0, True

    def isOpened(self):
        return True

    def set(self, *_):
        return False

    def grab(self):
        self.number += 1
        if self.number > 3:
            sources.time.sleep(0.02)
        return self.alive

    def retrieve(self):
        return True, np.full((48, 64, 3), (0, 0, self.number), np.uint8)

    def release(self):
        self.alive = False


def test_a_device_gives_its_newest_frame_as_rgb(monkeypatch):
    camera = BufferedCamera()
    monkeypatch.setattr(sources.os.path, "exists", lambda _: True)
    monkeypatch.setattr(sources.cv2, "VideoCapture", lambda *_: camera)
    source = open_source("/dev/video0", height=480, width=640)
    assert source.frame(0.0).image[0, 0].tolist() == [4, 0, 0], "the three that waited are old"
    assert source.frame(0.1).image[0, 0].tolist() == [5, 0, 0]
    source.close()
    with pytest.raises(SourceError, match="/dev/video0 stopped delivering"):
        source.frame(0.2)
