"""Random scenes, deterministic by seed. The two splits draw from random streams that never meet."""

from __future__ import annotations

from math import asin, atan2, cos, hypot, pi, sin, sqrt

import numpy as np

from laim_ros.scenes.camera import well_in_view
from laim_ros.scenes.vocabulary import COLOURS, KINDS
from laim_ros.scenes.world import (
    Background,
    Camera,
    Colour3,
    Lighting,
    Scene,
    SceneError,
    SceneObject,
    Split,
    Surface,
    check_split,
)

# The first word of every random key. Bump the version and every scene changes: results are then not comparable.
_VERSION = 1
_SPLIT_KEYS = {"train": 11, "held_out": 29}

# Quiet colours (sRGB): surfaces never compete with the objects' colours.
_SURFACE_COLOURS = (
    (0.78, 0.74, 0.68),
    (0.62, 0.60, 0.58),
    (0.70, 0.72, 0.74),
    (0.55, 0.60, 0.66),
    (0.62, 0.67, 0.60),
    (0.80, 0.77, 0.72),
    (0.48, 0.47, 0.47),
    (0.74, 0.66, 0.62),
)
_WOOD_COLOURS = ((0.62, 0.47, 0.33), (0.52, 0.38, 0.27), (0.72, 0.58, 0.43), (0.42, 0.32, 0.25), (0.66, 0.55, 0.45))


def random_stream(split: Split, *key: int) -> np.random.Generator:
    """A random generator for this split and key; keys of different splits never coincide."""
    check_split(split)
    for number in key:
        if not isinstance(number, int | np.integer) or number < 0:
            raise SceneError(f"a seed must be a whole number from 0 up, not {number!r}")
    return np.random.default_rng([_VERSION, _SPLIT_KEYS[split], *key])


def sample_scene(seed: int, split: Split = "train") -> Scene:
    """The scene number `seed` of a split: one or two objects in a room or on a table.

    Raises SceneError for a negative seed or an unknown split.
    """
    return scene_from(random_stream(split, 0, seed), split)


def scene_from(rng: np.random.Generator, split: Split) -> Scene:
    """The next scene that the generator gives. Objects are always well in view."""
    names = _names(rng)
    background = _background(rng)
    lighting = _lighting(rng)
    for _ in range(200):
        camera = _camera(rng)
        objects = tuple(_object(rng, colour, kind) for colour, kind in names)
        scene = Scene(objects, background, lighting, camera, split, int(rng.integers(2**31)))
        if well_in_view(scene) and _apart(scene.objects):
            return scene
    raise AssertionError("no valid placement found: the ranges in sampling.py no longer fit each other")


def _names(rng: np.random.Generator) -> list[tuple[str, str]]:
    """Colour and kind of each object. Two objects share a kind or a colour more often than chance, never both."""
    colours, kinds = tuple(COLOURS), KINDS
    first = (str(rng.choice(colours)), str(rng.choice(kinds)))
    if rng.random() < 0.4:
        return [first]
    sharing = rng.random()
    while True:
        second = (str(rng.choice(colours)), str(rng.choice(kinds)))
        if sharing < 0.25:
            second = (second[0], first[1])
        elif sharing < 0.4:
            second = (first[0], second[1])
        if second != first:
            return [first, second]


def _object(rng: np.random.Generator, colour: str, kind: str) -> SceneObject:
    width = rng.uniform(0.8, 1.6)
    height = width
    if kind == "cylinder":
        height = width * rng.uniform(1.0, 1.5)
    elif kind == "cone":
        height = width * rng.uniform(1.05, 1.5)
    elif kind == "bottle":
        width *= 0.85
        height = width * rng.uniform(2.2, 2.8)
    base = np.array(COLOURS[colour])
    if colour in ("white", "black"):
        albedo = base + rng.uniform(-0.035, 0.035) + rng.uniform(-0.012, 0.012, 3)
    else:
        albedo = base * rng.uniform(0.88, 1.08) + rng.uniform(-0.03, 0.03, 3)
    return SceneObject(
        kind,
        colour,
        x=rng.uniform(-3.2, 3.2),
        y=rng.uniform(-1.6, 1.6),
        width=float(width),
        height=float(height),
        yaw_rad=rng.uniform(0, pi / 2),
        albedo=_rgb(np.clip(albedo, 0.02, 0.98)),
        gloss=rng.uniform(0.0, 0.6),
    )


def _apart(objects: tuple[SceneObject, ...]) -> bool:
    return all(
        hypot(a.x - b.x, a.y - b.y) > 0.75 * (a.width + b.width)
        for index, a in enumerate(objects)
        for b in objects[:index]
    )


def _surface(rng: np.random.Generator, patterns: tuple[str, ...], palette: tuple[Colour3, ...]) -> Surface:
    first = np.array(palette[rng.integers(len(palette))]) * rng.uniform(0.85, 1.15)
    second = first * rng.uniform(0.75, 1.2) + rng.uniform(-0.03, 0.03, 3)
    return Surface(
        pattern=str(rng.choice(patterns)),
        colour_a=_rgb(np.clip(first, 0.2, 0.88)),
        colour_b=_rgb(np.clip(second, 0.2, 0.88)),
        scale=rng.uniform(0.6, 2.0),
        angle_rad=rng.uniform(0, pi),
        offset=(rng.uniform(0, 10), rng.uniform(0, 10)),
    )


def _background(rng: np.random.Generator) -> Background:
    on_table = bool(rng.random() < 0.5)
    floor_patterns = ("plain", "checker", "tiles", "planks", "speckle")
    floor = _surface(rng, floor_patterns, _SURFACE_COLOURS + _WOOD_COLOURS)
    wall = _surface(rng, ("plain", "plain", "stripes", "bricks", "speckle"), _SURFACE_COLOURS)
    table = _surface(rng, ("plain", "planks", "grain", "cloth"), _WOOD_COLOURS + _SURFACE_COLOURS[:4])
    side = rng.choice((-1.0, 0.0, 0.0, 1.0)) * rng.uniform(4.0, 6.0)
    return Background(
        place="table" if on_table else "room",
        ground=table if on_table else floor,
        floor=floor,
        wall=wall,
        wall_y=rng.uniform(5.0, 9.0) if on_table else rng.uniform(2.6, 6.0),
        side_wall_x=float(side) if not on_table else 0.0,
        floor_z=-rng.uniform(3.5, 5.0) if on_table else 0.0,
        table_x=(-rng.uniform(4.2, 6.5), rng.uniform(4.2, 6.5)),
        table_y=(-rng.uniform(2.8, 5.0), rng.uniform(2.4, 3.8)),
    )


def _lighting(rng: np.random.Generator) -> Lighting:
    turn, rise = rng.uniform(0, 2 * pi), rng.uniform(0.6, 1.25)
    x, y, z = cos(rise) * cos(turn), -abs(cos(rise) * sin(turn)) + 0.25 * cos(rise), sin(rise)  # rarely from behind
    norm = sqrt(x * x + y * y + z * z)
    warmth = rng.uniform(-0.09, 0.09)
    return Lighting(
        direction=(x / norm, y / norm, z / norm),
        strength=rng.uniform(0.55, 0.95),
        ambient=rng.uniform(0.32, 0.55),
        tint=(1.0 + warmth, 1.0 + rng.uniform(-0.025, 0.025), 1.0 - warmth),
        softness=rng.uniform(0.15, 0.7),
    )


def _camera(rng: np.random.Generator) -> Camera:
    distance, rise, turn = rng.uniform(6.5, 9.0), rng.uniform(0.22, 0.75), rng.uniform(-0.25, 0.25)
    x, y, z = distance * cos(rise) * sin(turn), -distance * cos(rise) * cos(turn), distance * sin(rise) + 0.4
    target = (rng.uniform(-0.7, 0.7), rng.uniform(-0.5, 0.5), rng.uniform(0.2, 0.9))
    dx, dy, dz = target[0] - x, target[1] - y, target[2] - z
    return Camera(
        position=(x, y, z),
        yaw_rad=atan2(dx, dy),
        pitch_rad=asin(dz / sqrt(dx * dx + dy * dy + dz * dz)),
        roll_rad=rng.uniform(-0.03, 0.03),
        zoom=rng.uniform(1.15, 1.5),
        exposure=rng.uniform(0.85, 1.15),
        noise=rng.uniform(0.0, 0.03),
        blur=rng.uniform(0.0, 0.0025),
        vignette=rng.uniform(0.0, 0.25),
        noise_seed=int(rng.integers(2**31)),
    )


def _rgb(values: np.ndarray) -> Colour3:
    return (float(values[0]), float(values[1]), float(values[2]))
