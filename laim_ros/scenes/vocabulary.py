"""What the world can contain: the names that captions use, and the colours and shapes behind them.

Adding a colour or a kind means one more row here (and, for a kind, its parts in `shapes.py`).
"""

from __future__ import annotations

# Name -> display colour (sRGB, 0..1). Chosen far apart, so that a person names them without hesitation.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.07, 0.08),
    "orange": (0.96, 0.47, 0.05),
    "yellow": (0.95, 0.85, 0.10),
    "green": (0.10, 0.58, 0.16),
    "blue": (0.10, 0.25, 0.80),
    "purple": (0.48, 0.12, 0.62),
    "white": (0.94, 0.94, 0.93),
    "black": (0.07, 0.07, 0.08),
}

KINDS: tuple[str, ...] = ("ball", "cube", "cylinder", "cone", "bottle")

PLACES: tuple[str, ...] = ("table", "room")

SIDES: tuple[str, ...] = ("left", "right")
