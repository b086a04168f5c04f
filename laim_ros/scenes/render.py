"""Pictures of scenes: a small ray tracer in numpy with soft shadows, antialiased edges and a camera's faults."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from laim_ros.scenes import shapes, textures
from laim_ros.scenes.camera import axes, pixel_grid
from laim_ros.scenes.world import Scene, SceneError, SceneObject

_INF = np.float32(np.inf)
_SUBPIXELS = ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375))
_LARGEST_SIDE = 8192
_STRIP_RAYS = 24_000  # a strip's arrays stay in the cache: twice as fast as the whole picture at once


@dataclass(frozen=True)
class Rendering:
    """A picture and what each pixel shows.

    image: uint8 (H, W, 3), RGB. labels: uint8 (H, W), 0 = background, i = the scene's object i - 1.
    """

    image: np.ndarray
    labels: np.ndarray


def render(scene: Scene, height: int = 480, width: int = 640) -> Rendering:
    """Draws the scene at any size; the 4:3 field of view is always inside. The same arguments give the same bytes.

    Raises SceneError for sizes below 8 or above 8192 pixels.
    """
    for name, size in (("height", height), ("width", width)):
        if not 8 <= size <= _LARGEST_SIDE:
            raise SceneError(f"{name} {size} is outside 8..{_LARGEST_SIDE} pixels")
    u, v, side = pixel_grid(height, width)
    right, up, forward = (axes(scene.camera) * [[1], [1], [scene.camera.zoom]]).astype(np.float32)
    light = np.empty((3, height, width), np.float32)
    labels, regions = np.empty((height, width), np.uint8), np.empty((height, width), np.uint8)
    step = max(1, _STRIP_RAYS // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        rays = u[None, None, :] * right[:, None, None] + (
            v[None, rows, None] * up[:, None, None] + forward[:, None, None]
        )
        strip = _trace(scene, rays.reshape(3, -1), side)
        light[:, rows] = strip[0].reshape(3, -1, width)
        labels[rows], regions[rows] = strip[1].reshape(-1, width), strip[2].reshape(-1, width)

    row, column = np.nonzero(_edges(regions))
    if row.size:  # the centre of an edge pixel is not enough: look at four more points
        rays = u[column] * right[:, None] + v[row] * up[:, None] + forward[:, None]
        offsets = [(dx * right - dy * up) * np.float32(side) for dx, dy in _SUBPIXELS]
        around = np.concatenate([rays + offset[:, None] for offset in offsets], axis=1)
        samples = _trace(scene, around, side)[0].reshape(3, len(offsets), row.size)
        light[:, row, column] = samples.mean(axis=1)
    return Rendering(_develop(scene, light, u, v), labels)


def _edges(regions: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour shows another surface, and those neighbours."""
    edge = np.zeros(regions.shape, bool)
    across, down = regions[:, 1:] != regions[:, :-1], regions[1:] != regions[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def _trace(scene: Scene, rays: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear light (3, N), object labels uint8 (N,) and surface numbers uint8 (N,) that the rays meet."""
    origin = np.array(scene.camera.position, np.float32)
    t, surface, normal = _background(scene, origin, rays)
    labels = np.zeros(t.shape, np.uint8)
    region = surface.copy()
    for index, thing in enumerate(scene.objects):
        near = _candidates(thing, origin, rays)
        if not near.size:
            continue
        t_hit, n_hit = shapes.intersect(thing, scene.camera.position, rays[:, near])
        front = t_hit < t[near]
        where = near[front]
        n_hit = n_hit[:, front]
        t[where], normal[:, where] = t_hit[front], n_hit
        labels[where] = index + 1
        # Faces of one object are regions of their own, so that its inner edges are smoothed too.
        region[where] = 16 * (index + 1) + np.round(2 * np.abs(n_hit[2])) + (4 * (n_hit[0] > 0.5) * _flat(thing))
    points = origin[:, None] + t * rays
    albedo = _albedo(scene, points, t * np.float32(side / scene.camera.zoom), surface, labels)
    return albedo * _illumination(scene, points, normal, labels) + _shine(scene, rays, normal, labels), labels, region


def _flat(thing: SceneObject) -> bool:
    return thing.kind == "cube"


def _background(scene: Scene, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance (N,), surface number (N,) and normal (3, N) of the room or table behind the objects.

    Surfaces: 0 back wall, 1 floor, 2 side wall, 3 table top, 4 table side.
    """
    place = scene.background
    dx, dy, dz = rays
    tiny = np.float32(1e-6)
    t = np.where(dy > tiny, (place.wall_y - origin[1]) / np.maximum(dy, tiny), np.float32(1e4))
    surface = np.zeros(t.shape, np.uint8)
    normal = np.zeros_like(rays)
    normal[1] = -1
    below = np.where(dz < -tiny, (place.floor_z - origin[2]) / np.minimum(dz, -tiny), _INF)
    _take(below < t, below, 1, (0, 0, 1), t, surface, normal)
    if place.side_wall_x:
        sign = np.float32(np.sign(place.side_wall_x))
        beside = np.where(sign * dx > tiny, (place.side_wall_x - origin[0]) / np.where(sign * dx > tiny, dx, 1), _INF)
        _take(beside < t, beside, 2, (-sign, 0, 0), t, surface, normal)
    if place.place == "table":
        (x0, x1), (y0, y1) = place.table_x, place.table_y
        block = shapes.Box(((x1 - x0) / 2, (y1 - y0) / 2), place.floor_z, 0.0, 0.0)
        local = (float(origin[0] - (x0 + x1) / 2), float(origin[1] - (y0 + y1) / 2), float(origin[2]))
        hit, block_normal = shapes.box(block, local, rays)
        front = hit < t
        t[front], normal[:, front] = hit[front], block_normal[:, front]
        surface[front] = np.where(block_normal[2, front] > 0.5, 3, 4)
    return t.astype(np.float32), surface, normal


def _take(
    where: np.ndarray,
    distance: np.ndarray,
    number: int,
    direction: tuple[float, float, float],
    t: np.ndarray,
    surface: np.ndarray,
    normal: np.ndarray,
) -> None:
    np.copyto(t, distance, where=where)
    surface[where] = number
    for axis in range(3):
        np.copyto(normal[axis], np.float32(direction[axis]), where=where)


def _candidates(thing: SceneObject, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Indices of the rays that pass through the object's bounding sphere."""
    centre = np.array([thing.x, thing.y, 0.5 * thing.height], np.float32) - origin
    radius2 = (0.5 * thing.height) ** 2 + (0.62 * thing.width) ** 2
    along = centre @ rays
    length2 = np.einsum("ij,ij->j", rays, rays)
    return np.flatnonzero(along * along > length2 * np.float32(centre @ centre - radius2))


def _albedo(
    scene: Scene, points: np.ndarray, footprint: np.ndarray, surface: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Linear reflectance (3, N)."""
    place = scene.background
    albedo = np.empty_like(points)
    surface = np.where(labels > 0, 255, surface)
    for number in range(5):
        where = np.flatnonzero(surface == number)
        if not where.size:
            continue
        x, y, z = points[:, where]
        # A slanting view spreads a pixel over the floor: twice its width is a fair mean.
        pixel = footprint[where] * np.float32(1.0 if number in (0, 2) else 2.0)
        if number == 0:
            colour = textures.paint(place.wall, x, z, pixel)
        elif number == 1:
            colour = textures.paint(place.floor, x, y, pixel)
        elif number == 2:
            colour = textures.paint(place.wall, y, z, pixel)
        elif number == 3:
            colour = textures.paint(place.ground, x, y, pixel)
        else:
            colour = textures.paint(place.ground, x + y, z, pixel) * np.float32(0.6)
        albedo[:, where] = colour
    for index, thing in enumerate(scene.objects):
        where = np.flatnonzero(labels == index + 1)
        albedo[:, where] = (np.array(thing.albedo, np.float32) ** 2)[:, None]
    return albedo


def _illumination(scene: Scene, points: np.ndarray, normal: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Light that falls on each point (3, N): a lamp with soft shadows and a sky that the objects partly hide."""
    lamp = scene.lighting
    toward = np.array(lamp.direction, np.float32)
    facing = np.maximum(toward @ normal, 0)
    sky = np.float32(lamp.ambient) * (0.78 + 0.22 * normal[2])
    for index, thing in enumerate(scene.objects):
        reach = np.float32(4.0 + 2.0 * thing.height)
        px, py = points[0] - np.float32(thing.x), points[1] - np.float32(thing.y)
        others = np.flatnonzero((labels != index + 1) & (px * px + py * py < reach * reach))
        if not others.size:
            continue
        px, py, pz = px[others], py[others], points[2, others]
        facing[others] *= 1 - 0.85 * _shadow(thing, toward, px, py, pz, lamp.softness)
        gap = np.maximum(np.hypot(px, py) - 0.4 * thing.width, 0) + np.abs(pz)
        sky[others] *= 1 - 0.5 * np.exp(gap * np.float32(-3.0 / thing.width))
    light = np.float32(lamp.strength) * facing
    return (light + sky)[None] * np.array(lamp.tint, np.float32)[:, None]


def _shadow(
    thing: SceneObject, toward: np.ndarray, px: np.ndarray, py: np.ndarray, pz: np.ndarray, softness: float
) -> np.ndarray:
    """How deep points (relative to the object's axis) lie in its shadow, 0..1: how near the way to the lamp passes."""
    lx, ly, lz = toward
    r, h = 0.5 * thing.width, thing.height
    low, high = (r, r) if thing.kind == "ball" else (0.0, h - (0.5 * r if thing.kind != "cone" else 0.0))
    s = np.maximum(-(px * lx + py * ly) / max(float(lx * lx + ly * ly), 1e-4), 0)
    z = np.clip(pz + s * lz, low, high)
    s = np.maximum((z - pz) * lz - px * lx - py * ly, 0)
    z = np.clip(pz + s * lz, low, high)
    distance = np.sqrt((px + s * lx) ** 2 + (py + s * ly) ** 2 + (pz + s * lz - z) ** 2)
    radius = shapes.silhouette_radius(thing, z.astype(np.float32))
    penumbra = np.float32(softness * 0.35) * (0.25 + 0.35 * s) + np.float32(0.03)
    shade = np.clip((radius + penumbra - distance) / (2 * penumbra), 0, 1)
    return shade * shade * (3 - 2 * shade)


def _shine(scene: Scene, rays: np.ndarray, normal: np.ndarray, labels: np.ndarray) -> np.ndarray | float:
    """The lamp's reflection on glossy objects (3, N)."""
    on_object = np.flatnonzero(labels)
    if not on_object.size:
        return 0.0
    view = rays[:, on_object]
    view = view / np.sqrt(np.einsum("ij,ij->j", view, view))
    half = np.array(scene.lighting.direction, np.float32)[:, None] - view
    half /= np.sqrt(np.einsum("ij,ij->j", half, half))
    gloss = np.array([0.0, *(each.gloss for each in scene.objects)], np.float32)[labels[on_object]]
    shine = np.zeros_like(rays)
    shine[:, on_object] = gloss * np.maximum(np.einsum("ij,ij->j", half, normal[:, on_object]), 0) ** 48
    return shine


def _develop(scene: Scene, light: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """From linear light (3, H, W) to uint8 RGB (H, W, 3): vignette, exposure, tone curve, blur, sensor noise."""
    camera, (_, height, width) = scene.camera, light.shape
    strips = [slice(top, top + max(1, _STRIP_RAYS // width)) for top in range(0, height, max(1, _STRIP_RAYS // width))]
    picture = np.empty((height, width, 3), np.float32)
    for rows in strips:
        fall = 1 - np.float32(camera.vignette) * (u[None, :] ** 2 + v[rows, None] ** 2)
        part = np.sqrt(light[:, rows] * (np.float32(camera.exposure) * fall))
        bright = part > 0.8
        if bright.any():  # highlights roll off
            part[bright] = 1 - 0.2 * np.exp((0.8 - part[bright]) / 0.2)
        picture[rows] = part.transpose(1, 2, 0)
    sigma = camera.blur * height
    if sigma > 0.3:
        reach = 2 * int(np.ceil(3 * sigma)) + 1
        picture = cv2.GaussianBlur(picture, (reach, reach), sigma)
    if camera.noise > 0:
        rng = np.random.default_rng([camera.noise_seed, height, width])
        grain = np.float32(0.8 * camera.noise) * rng.standard_normal((height, width, 1), dtype=np.float32)
        tint = rng.standard_normal((-(-height // 2), -(-width // 2), 3), dtype=np.float32)
        tint = cv2.resize(np.float32(0.6 * camera.noise) * tint, (width, height), interpolation=cv2.INTER_LINEAR)
    image = np.empty((height, width, 3), np.uint8)
    for rows in strips:
        part = picture[rows] + (grain[rows] + tint[rows]) if camera.noise > 0 else picture[rows]
        image[rows] = np.clip(part * 255 + 0.5, 0, 255)
    return image
