"""A scene as data: objects, background, lighting, camera. No pixels and no words here.

Axes: x right, y away from the camera, z up; objects stand on z = 0. Lengths are in units of about one object.
Everything is a frozen dataclass of plain numbers and strings, so a scene is comparable, hashable and one line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args

from laim_ros.scenes.vocabulary import COLOURS, KINDS, PLACES

Split = Literal["train", "held_out"]
Colour3 = tuple[float, float, float]


class SceneError(ValueError):
    """A seed, split or description that does not make a scene; the message says which and why."""


@dataclass(frozen=True)
class SceneObject:
    """One thing on the ground. `width` is its diameter (or side), `height` its height; `albedo` is sRGB, 0..1."""

    kind: str
    colour: str
    x: float
    y: float
    width: float
    height: float
    yaw_rad: float
    albedo: Colour3
    gloss: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SceneError(f"object kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}")
        if self.colour not in COLOURS:
            raise SceneError(f"object colour {self.colour!r} is unknown; use one of {', '.join(COLOURS)}")
        if not (self.width > 0 and self.height > 0):
            raise SceneError(f"object size {self.width} x {self.height} must be positive")

    @property
    def name(self) -> str:
        """Colour and kind, as in "red ball"."""
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Surface:
    """A painted plane: `pattern` in two sRGB colours, `scale` in pattern lengths, turned by `angle_rad`."""

    pattern: str
    colour_a: Colour3
    colour_b: Colour3
    scale: float
    angle_rad: float
    offset: tuple[float, float]


@dataclass(frozen=True)
class Background:
    """Where the objects stand: on a "table" (a block whose top is z = 0) or on the floor of a "room"."""

    place: str
    ground: Surface
    floor: Surface
    wall: Surface
    wall_y: float
    side_wall_x: float  # 0 = no side wall; the sign says on which side
    floor_z: float  # 0 in a room; below the table top otherwise
    table_x: tuple[float, float]
    table_y: tuple[float, float]

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise SceneError(f"place {self.place!r} is unknown; use one of {', '.join(PLACES)}")


@dataclass(frozen=True)
class Lighting:
    """One distant lamp (unit vector towards it) and an ambient sky; `softness` widens the edges of shadows."""

    direction: Colour3
    strength: float
    ambient: float
    tint: Colour3
    softness: float


@dataclass(frozen=True)
class Camera:
    """A pinhole. `zoom` is the focal length in picture heights of a 4:3 picture; noise is in 0..1 sRGB."""

    position: tuple[float, float, float]
    yaw_rad: float
    pitch_rad: float
    roll_rad: float
    zoom: float
    exposure: float
    noise: float
    blur: float  # standard deviation in picture heights
    vignette: float
    noise_seed: int


@dataclass(frozen=True)
class Scene:
    """A complete description: the same scene always gives the same picture, captions and questions.

    `language_seed` chooses among wordings and questions; it is not part of the picture.
    """

    objects: tuple[SceneObject, ...]
    background: Background
    lighting: Lighting
    camera: Camera
    split: Split
    language_seed: int

    def __post_init__(self) -> None:
        check_split(self.split)

    def to_json(self) -> str:
        """The scene as one line of JSON; `from_json` gives an equal scene back."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Scene:
        """The scene that `to_json` wrote. Raises SceneError for anything else."""
        try:
            data = json.loads(text)
            objects = tuple(_build(SceneObject, each) for each in data.pop("objects"))
            ground = data["background"]
            surfaces = {name: _build(Surface, ground[name]) for name in ("ground", "floor", "wall")}
            parts = {
                "background": _build(Background, {**ground, **surfaces}),
                "lighting": _build(Lighting, data["lighting"]),
                "camera": _build(Camera, data["camera"]),
            }
            return _build(Scene, {**data, **parts, "objects": objects})
        except SceneError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise SceneError(f"this is not the JSON of a scene: {error!r}") from error


def _build(kind: type, data: dict[str, Any]) -> Any:
    """`kind(**data)`, fields checked, JSON's lists turned into tuples so that equality and hashing work."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    for field in dataclasses.fields(kind):
        value, wanted = values[field.name], _JSON_TYPES.get(field.type, object)
        numbers = value if isinstance(value, tuple) and field.name != "objects" else ()
        if not isinstance(value, wanted) or not all(isinstance(each, int | float) for each in numbers):
            raise SceneError(f"{kind.__name__}.{field.name} cannot be {value!r}")
    return kind(**values)


# Types of fields as dataclasses tell them: as written, because annotations are not evaluated.
_JSON_TYPES = {"str": str, "int": int, "float": int | float, "Split": str, "Colour3": tuple}


def check_split(split: str) -> None:
    """Raises SceneError unless `split` is a known split."""
    if split not in get_args(Split):
        raise SceneError(f"split {split!r} is unknown; use 'train' or 'held_out'")
