"""Pictures: deterministic, the same scene at any size, and showing what the scene says."""

import dataclasses

import cv2
import numpy as np
import pytest

from laim_ros.scenes import SceneError, render, sample_scene
from laim_ros.scenes.camera import ASPECT, extents
from laim_ros.scenes.vocabulary import COLOURS

SCENES = [sample_scene(seed, "held_out") for seed in range(40)]


def test_same_bytes_each_time() -> None:
    for scene in SCENES[:5]:
        first, second = render(scene, 96, 128), render(scene, 96, 128)
        assert first.image.tobytes() == second.image.tobytes()
        assert first.labels.tobytes() == second.labels.tobytes()


@pytest.mark.parametrize(("height", "width"), [(480, 640), (96, 96), (90, 160), (161, 97), (8, 8)])
def test_shapes_and_types(height: int, width: int) -> None:
    rendering = render(SCENES[0], height, width)
    assert rendering.image.shape == (height, width, 3)
    assert rendering.image.dtype == np.uint8
    assert rendering.labels.shape == (height, width)
    assert rendering.labels.dtype == np.uint8


def test_the_same_scene_at_two_sizes() -> None:
    for scene in SCENES[:8]:
        scene = dataclasses.replace(scene, camera=dataclasses.replace(scene.camera, noise=0.0))
        small, large = render(scene, 60, 80), render(scene, 240, 320)
        shrunk = cv2.resize(large.image, (80, 60), interpolation=cv2.INTER_AREA)
        assert np.abs(shrunk.astype(int) - small.image).mean() < 6
        for index in range(1, len(scene.objects) + 1):
            assert abs((small.labels == index).mean() - (large.labels == index).mean()) < 0.004


def test_every_object_is_seen_where_projection_says() -> None:
    for scene in SCENES:
        labels = render(scene, 120, 160).labels
        assert set(np.unique(labels)) == set(range(len(scene.objects) + 1))
        for index, box in enumerate(extents(scene)):
            rows, columns = np.nonzero(labels == index + 1)
            assert columns.min() >= (box.left + ASPECT / 2) * 120 - 2
            assert columns.max() <= (box.right + ASPECT / 2) * 120 + 1
            assert rows.min() >= (0.5 - box.top) * 120 - 2
            assert rows.max() <= (0.5 - box.bottom) * 120 + 1


def test_objects_have_their_colours() -> None:
    """The nearest colour name by the mean of an object's pixels, brightness aside, is nearly always its own."""
    names = list(COLOURS)
    references = np.array([COLOURS[name] for name in names])
    right, total = 0, 0
    for scene in SCENES:
        rendering = render(scene, 120, 160)
        for index, thing in enumerate(scene.objects):
            seen = rendering.image[rendering.labels == index + 1].mean(axis=0) / 255
            spread = seen.max() - seen.min()
            if spread < 0.15:  # grey of some brightness: black or white
                guess = "white" if seen.mean() > 0.35 else "black"
            else:
                bright = seen / seen.max()
                distance = np.linalg.norm(references[:-2] / references[:-2].max(axis=1, keepdims=True) - bright, axis=1)
                guess = names[int(distance.argmin())]
            right, total = right + (guess == thing.colour), total + 1
    assert right >= 0.95 * total


def test_light_and_camera_change_the_picture() -> None:
    scene = dataclasses.replace(SCENES[1], camera=dataclasses.replace(SCENES[1].camera, noise=0.0))
    before = render(scene, 60, 80).image.astype(int)
    dark = dataclasses.replace(scene, lighting=dataclasses.replace(scene.lighting, strength=0.0))
    assert render(dark, 60, 80).image.mean() < before.mean() - 5
    noisy = dataclasses.replace(scene, camera=dataclasses.replace(scene.camera, noise=0.05))
    assert np.abs(render(noisy, 60, 80).image - before).mean() > 3


@pytest.mark.parametrize(("height", "width"), [(0, 640), (480, 7), (10_000, 640)])
def test_bad_sizes_are_refused(height: int, width: int) -> None:
    with pytest.raises(SceneError, match="pixels"):
        render(SCENES[0], height, width)
