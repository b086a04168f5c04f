"""From the world to the picture: camera axes, rays, projection, and what is in view."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import cos, sin

import numpy as np

from laim_ros.scenes.world import Camera, Scene, SceneObject

ASPECT = 4.0 / 3.0  # the field of view that every picture contains, whatever its shape


@dataclass(frozen=True)
class Extent:
    """The box of an object in the picture: u to the right, v up, in heights of a 4:3 picture; 0 is its centre."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def centre(self) -> float:
        return 0.5 * (self.left + self.right)


def axes(camera: Camera) -> np.ndarray:
    """Rows: the camera's right, up and forward unit vectors. Shape (3, 3)."""
    cy, sy = cos(camera.yaw_rad), sin(camera.yaw_rad)
    cp, sp = cos(camera.pitch_rad), sin(camera.pitch_rad)
    cr, sr = cos(camera.roll_rad), sin(camera.roll_rad)
    forward = np.array([sy * cp, cy * cp, sp])
    right = np.array([cy, -sy, 0.0])
    up = np.cross(right, forward)
    return np.stack([cr * right + sr * up, cr * up - sr * right, forward])


def pixel_grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre coordinates u (width,), v (height,) of the pixels and the side of one pixel, in picture heights.

    The 4:3 field of view always fits; a wider or taller picture sees more at its sides.
    """
    side = max(1.0 / height, ASPECT / width)
    u = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * side
    v = -(np.arange(height, dtype=np.float32) + 0.5 - height / 2) * side
    return u.astype(np.float32), v.astype(np.float32), side


def extent(thing: SceneObject, camera: Camera) -> Extent:
    """Where the object's bounding cylinder lies in the picture."""
    angles = np.arange(12) * (np.pi / 6)
    radius = 0.5 * thing.width * (1.2 if thing.kind == "cube" else 1.0)
    ring = np.stack([thing.x + radius * np.cos(angles), thing.y + radius * np.sin(angles)])
    low = np.concatenate([ring, np.zeros((1, 12))])
    high = np.concatenate([ring, np.full((1, 12), thing.height)])
    points = np.concatenate([low, high], axis=1) - np.array(camera.position)[:, None]
    right, up, depth = axes(camera) @ points
    if depth.min() <= 0.1:  # behind the camera: nowhere in the picture
        return Extent(-9.0, 9.0, -9.0, 9.0)
    u, v = camera.zoom * right / depth, camera.zoom * up / depth
    return Extent(float(u.min()), float(u.max()), float(v.min()), float(v.max()))


def extents(scene: Scene) -> list[Extent]:
    """One Extent for each object, in the scene's order."""
    return [extent(each, scene.camera) for each in scene.objects]


def well_in_view(scene: Scene, margin: float = 0.03, gap: float = 0.04) -> bool:
    """Whether a person could caption the frame without doubt.

    Every object is wholly inside the 4:3 picture by `margin`, large enough to name and not too large, and no two
    objects overlap from left to right: they stay `gap` apart, so left and right are never ambiguous.
    """
    boxes = extents(scene)
    for box in boxes:
        inside = box.left > -ASPECT / 2 + margin and box.right < ASPECT / 2 - margin
        inside = inside and box.bottom > -0.5 + margin and box.top < 0.5 - margin
        size = box.right - box.left
        if not inside or not 0.12 < size < 0.5 or not 0.13 < box.top - box.bottom < 0.8:
            return False
    ordered = sorted(boxes, key=lambda box: box.centre)
    return all(b.left - a.right > gap for a, b in itertools.pairwise(ordered))


def left_to_right(scene: Scene) -> list[int]:
    """Indices of the scene's objects, ordered from left to right in the picture."""
    centres = [box.centre for box in extents(scene)]
    return sorted(range(len(centres)), key=centres.__getitem__)
