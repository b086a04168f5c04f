"""A moving camera: smooth within a scene, its truth exact, objects always in view."""

import numpy as np
import pytest

from laim_ros.scenes import SceneError, SceneStream, captions, render
from laim_ros.scenes.camera import extents, left_to_right, well_in_view


def test_same_seed_and_time_same_frame() -> None:
    first, scene = SceneStream(4).frame(2.25, 48, 64)
    again, same_scene = SceneStream(4).frame(2.25, 48, 64)
    assert first.tobytes() == again.tobytes()
    assert scene == same_scene
    assert first.tobytes() == render(scene, 48, 64).image.tobytes()


def test_splits_and_seeds_differ() -> None:
    scenes = {SceneStream(seed, split).scene(0.0).objects for seed in range(4) for split in ("train", "held_out")}
    assert len(scenes) == 8


def test_camera_moves_smoothly_and_objects_stay_the_same_within_a_scene() -> None:
    stream = SceneStream(0, seconds_per_scene=4.0)
    travelled = []
    for number in range(12):
        scenes = [stream.scene(4.0 * number + time_s) for time_s in np.arange(0, 4.0, 0.1)]
        assert len({(scene.objects, scene.background, scene.lighting) for scene in scenes}) == 1
        centres = np.array([[box.centre for box in extents(scene)] for scene in scenes])
        steps = np.abs(np.diff(centres, axis=0))
        assert steps.max() < 0.04  # of the picture's height, in a tenth of a second
        travelled.append(np.abs(centres - centres[0]).max())
    assert np.median(travelled) > 0.01


def test_scene_changes_after_its_time() -> None:
    stream = SceneStream(1, seconds_per_scene=2.0)
    assert stream.scene(1.99).objects != stream.scene(2.0).objects


def test_objects_stay_in_view_and_left_stays_left() -> None:
    stream = SceneStream(2)
    for number in range(25):
        scenes = [stream.scene(4.0 * number + time_s) for time_s in np.linspace(0.01, 3.99, 17)]
        assert all(well_in_view(scene, margin=0.01, gap=0.01) for scene in scenes)
        assert len({tuple(left_to_right(scene)) for scene in scenes}) == 1
        assert len({captions(scene)[0] for scene in scenes}) == 1


def test_noise_differs_from_frame_to_frame() -> None:
    stream = SceneStream(3)
    assert stream.scene(0.0).camera.noise_seed != stream.scene(0.04).camera.noise_seed


@pytest.mark.parametrize("time_s", [-1.0, float("nan"), float("inf")])
def test_bad_times_are_refused(time_s: float) -> None:
    with pytest.raises(SceneError, match="time_s"):
        SceneStream(0).scene(time_s)


def test_bad_streams_are_refused() -> None:
    with pytest.raises(SceneError, match="seconds_per_scene"):
        SceneStream(0, seconds_per_scene=0)
    with pytest.raises(SceneError, match="seed"):
        SceneStream(-2)
