"""What the real-size profiles have in common: the model's stages and shapes, and how the files are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from laim_ros.planning.profiles import MachineProfile

FOLDER = Path(__file__).parent / "profiles"

MODEL = "Salesforce/blip2-opt-2.7b"
MODEL_ID = "blip2-opt-2.7b-real-size"
"""A label: the weights behind the times are random ones of these sizes."""

BLOCKS = 39
SPLIT_POINTS = ("input", *(f"vit.{block}" for block in range(1, BLOCKS + 1)), "vision", "qformer", "output")
SHAPES: dict[str, tuple[int, ...]] = {
    "input": (224, 224, 3),
    **dict.fromkeys(SPLIT_POINTS[1:-2], (257, 1408)),
    "qformer": (32, 768),
}
WEIGHT_BITS = (2, 3, 4, 6, 8, 16, 32)
"""Of the robot's head."""

EDGE_BITS = 16
"""The edge runs its stages in half precision, whatever the robot does."""

NEW_TOKENS = 12
"""Of one caption, greedily."""

RADIO_W = 1.5
"""A Wi-Fi station that sends, above one that sleeps: Halperin et al., "Demystifying 802.11n Power Consumption",
HotPower 2010, measure 2.1 W at most for sending with an Intel 5300; with one antenna it is less."""


def rounded(seconds: dict[str, float]) -> dict[str, float]:
    """To whole microseconds: digits beyond say nothing, and would make the files unreadable."""
    return {name: round(value, 6) for name, value in seconds.items()}


def rounded_codes(code_s: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The same for seconds by split point and codec."""
    return {point: rounded(by_codec) for point, by_codec in code_s.items()}


def file_text(profile: MachineProfile) -> str:
    """The profile as JSON with a line per field, bit-width and mode, so that changes can be read."""
    fields = msgspec.to_builtins(profile)
    lines = [f'"{name}": {_value_text(value)}' for name, value in fields.items()]
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _value_text(value: object) -> str:
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        return "[\n  " + ",\n  ".join(map(_value_text, value)) + "\n ]"
    return msgspec.json.encode(value).decode()


def write(folder: Path, name: str, profile: MachineProfile) -> Path:
    """Writes `name`.json, after the form has accepted it."""
    text = file_text(profile)
    MachineProfile.from_json(text)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(text, encoding="utf-8")
    return path
