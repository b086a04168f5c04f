"""A camera that never stands still: endless frames of held-out scenes, each with the truth of that very moment."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from math import isfinite, pi, sin

import numpy as np

from laim_ros.scenes.camera import well_in_view
from laim_ros.scenes.render import render
from laim_ros.scenes.sampling import random_stream, scene_from
from laim_ros.scenes.world import Camera, Scene, SceneError, Split

_CHECKS_PER_SCENE = 24
# Largest swing of pan, tilt, roll (rad), zoom (share) and sideways, forward, upward sway (object widths).
_SWING = np.array([0.07, 0.04, 0.02, 0.08, 0.6, 0.4, 0.3])


class SceneStream:
    """Frames of one scene after another, `seconds_per_scene` each, seen by a slowly panning, zooming, swaying camera.

    Objects stay well in view and left/right is never ambiguous. The same seed, split and time give the same frame.
    Raises SceneError for a bad seed, split or duration.
    """

    def __init__(self, seed: int, split: Split = "held_out", seconds_per_scene: float = 4.0) -> None:
        if not (isfinite(seconds_per_scene) and seconds_per_scene > 0):
            raise SceneError(f"seconds_per_scene must be positive, not {seconds_per_scene}")
        random_stream(split, seed)  # complains about a bad seed or split here and now
        self.seed, self.split, self.seconds_per_scene = seed, split, seconds_per_scene
        self._shot = lru_cache(maxsize=4)(self._make_shot)

    def frame(self, time_s: float, height: int = 480, width: int = 640) -> tuple[np.ndarray, Scene]:
        """The picture at `time_s` (uint8 RGB (height, width, 3)) and the scene exactly as seen then."""
        scene = self.scene(time_s)
        return render(scene, height, width).image, scene

    def scene(self, time_s: float) -> Scene:
        """The scene as seen at `time_s` >= 0, without drawing it."""
        if not (isfinite(time_s) and time_s >= 0):
            raise SceneError(f"time_s must be finite and not negative, not {time_s}")
        number = int(time_s // self.seconds_per_scene)
        shot = self._shot(number)
        scene = shot.at(time_s - number * self.seconds_per_scene)
        noise_seed = (scene.camera.noise_seed + round(time_s * 1e6)) % 2**31  # grain differs from frame to frame
        return dataclasses.replace(scene, camera=dataclasses.replace(scene.camera, noise_seed=noise_seed))

    def _make_shot(self, number: int) -> Shot:
        rng = random_stream(self.split, 1, self.seed, number)
        scene = scene_from(rng, self.split)
        shot = Shot(scene, _SWING * rng.uniform(0.3, 1.0, 7), rng.uniform(0.05, 0.22, 7), rng.uniform(0, 2 * pi, 7))
        times = np.linspace(0, self.seconds_per_scene, _CHECKS_PER_SCENE)
        while not all(well_in_view(shot.at(t), margin=0.02, gap=0.03) for t in times):
            shot = dataclasses.replace(shot, swing=0.7 * shot.swing)
            if shot.swing[0] < 1e-3:
                return dataclasses.replace(shot, swing=0 * shot.swing)  # a still camera: the scene itself is in view
        return shot


@dataclasses.dataclass(frozen=True)
class Shot:
    """One scene and the motion of its camera: seven sine waves of `swing`, `rate_hz` and `phase_rad`, each (7,)."""

    scene: Scene
    swing: np.ndarray
    rate_hz: np.ndarray
    phase_rad: np.ndarray

    def at(self, time_s: float) -> Scene:
        """The scene as seen `time_s` after the start of the shot."""
        moves = [
            swing * sin(2 * pi * rate * time_s + phase)
            for swing, rate, phase in zip(self.swing, self.rate_hz, self.phase_rad, strict=True)
        ]
        return dataclasses.replace(self.scene, camera=moved(self.scene.camera, *map(float, moves)))


def moved(
    camera: Camera, pan: float, tilt: float, roll: float, zoom: float, aside: float, ahead: float, lift: float
) -> Camera:
    """The camera turned by angles (rad), zoomed by a share, and shifted along the world's axes."""
    x, y, z = camera.position
    return dataclasses.replace(
        camera,
        position=(x + aside, y + ahead, z + lift),
        # Turn against the sideways sway, so that the camera keeps looking at the same place.
        yaw_rad=camera.yaw_rad + pan + aside / y,
        pitch_rad=camera.pitch_rad + tilt + lift / y,
        roll_rad=camera.roll_rad + roll,
        zoom=camera.zoom * (1 + zoom),
    )
