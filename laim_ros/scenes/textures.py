"""Painted surfaces: a pattern of two colours over a plane, smoothed to the size of a pixel, so it never flickers."""

from __future__ import annotations

from math import cos, sin

import numpy as np

from laim_ros.scenes.world import Surface


def paint(surface: Surface, x: np.ndarray, y: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Linear-light colour (3, N) at plane coordinates x, y (N,); `footprint` (N,) is the width of a pixel there."""
    first = np.array(surface.colour_a, np.float32)[:, None] ** 2
    second = np.array(surface.colour_b, np.float32)[:, None] ** 2
    if surface.pattern == "plain":
        return np.broadcast_to(first, (3, x.size))
    # Walls keep their patterns upright; a floor may be laid at any angle.
    upright = surface.pattern in ("bricks", "stripes")
    c, s = (1.0, 0.0) if upright else (cos(surface.angle_rad), sin(surface.angle_rad))
    scale = 1.0 / surface.scale
    p = (c * x + s * y) * np.float32(scale) + np.float32(surface.offset[0])
    q = (c * y - s * x) * np.float32(scale) + np.float32(surface.offset[1])
    return first + (second - first) * _mix(surface.pattern, p, q, footprint * np.float32(scale))


def _mix(pattern: str, p: np.ndarray, q: np.ndarray, width: np.ndarray) -> np.ndarray:
    """How much of the second colour, 0..1 (N,)."""
    match pattern:
        case "checker":
            return 0.5 + 0.5 * _square(p, width) * _square(q, width)
        case "tiles":
            return np.maximum(_line(p, 0.05, width), _line(q, 0.05, width))
        case "planks":
            row = np.floor(2 * q)
            shade = 0.5 * _hash(row)
            joint = np.maximum(_line(2 * q, 0.04, 2 * width), _line(0.4 * p + 0.37 * row, 0.015, 0.4 * width))
            return np.maximum(shade + 0.15 * _fade(np.sin(9 * q + 2 * np.sin(1.1 * p + row)), 9 * width), joint)
        case "grain":
            wave = q + 0.25 * np.sin(0.7 * p) + 0.1 * np.sin(2.3 * p + 1.7 * q)
            return 0.5 + 0.35 * _fade(np.sin(8 * wave), 8 * width) + 0.15 * _fade(np.sin(19 * wave + p), 19 * width)
        case "cloth":
            return 0.5 + 0.25 * (_square(1.5 * p, 1.5 * width) + _square(1.5 * q, 1.5 * width))
        case "stripes":
            return 0.5 + 0.5 * _square(1.2 * p, 1.2 * width)
        case "bricks":
            row = np.floor(3 * q)
            return np.maximum(_line(3 * q, 0.08, 3 * width), _line(1.4 * p + 0.5 * (row % 2), 0.04, 1.4 * width))
        case "speckle":
            waves = np.sin(3.1 * p + 2.0 * np.sin(2.3 * q)) * np.sin(2.7 * q + 1.7 * np.sin(3.7 * p))
            return 0.5 + 0.5 * _fade(waves, 5 * width)
    raise AssertionError(f"no pattern called {pattern!r}")


def _square(x: np.ndarray, width: np.ndarray) -> np.ndarray:
    """A square wave of period 2, -1..1, its edges as wide as a pixel."""
    wave = 2 * np.abs(x - 2 * np.floor(0.5 * x) - 1) - 1
    return np.clip(wave / np.maximum(2 * width, 1e-3), -1, 1) * np.clip(1.6 - 1.6 * width, 0, 1)


def _line(x: np.ndarray, half: float, width: np.ndarray) -> np.ndarray:
    """Thin lines at whole numbers; a line thinner than a pixel grows faint instead of vanishing."""
    distance = np.abs(x - np.round(x))
    reach = np.maximum(width, 1e-3)
    return np.clip((half + 0.5 * reach - distance) / reach, 0, 1) * np.minimum(1, 2 * half / reach)


def _fade(wave: np.ndarray, width: np.ndarray) -> np.ndarray:
    """A wave whose period nears a pixel fades to its mean."""
    return wave * np.clip(1.5 - 0.7 * width, 0, 1)


def _hash(x: np.ndarray) -> np.ndarray:
    value = np.sin(x * np.float32(12.9898)) * np.float32(437.58)
    return value - np.floor(value)
