"""Rays against the primitive bodies of which objects are built: spheres, boxes, and frusta (cylinders, cones).

All rays start at one point. `origin` is a 3-tuple, `rays` float32 (3, N), not normalised. Each function returns the
distance in ray lengths, float32 (N,), inf for a miss, and the outward unit normal, float32 (3, N), undefined there.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

import numpy as np

from laim_ros.scenes.world import SceneObject

_INF = np.float32(np.inf)
Hit = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Ball:
    z: float
    radius: float


@dataclass(frozen=True)
class Box:
    half: tuple[float, float]
    low: float
    high: float
    yaw_rad: float


@dataclass(frozen=True)
class Frustum:
    """A body of revolution about the vertical axis, its radius linear from `radius_low` to `radius_high`."""

    low: float
    high: float
    radius_low: float
    radius_high: float


def parts(thing: SceneObject) -> tuple[Ball | Box | Frustum, ...]:
    """The bodies of an object, around its own vertical axis."""
    r, h = 0.5 * thing.width, thing.height
    match thing.kind:
        case "ball":
            return (Ball(r, r),)
        case "cube":
            return (Box((0.86 * r, 0.86 * r), 0.0, 0.86 * h, thing.yaw_rad),)
        case "cylinder":
            return (Frustum(0.0, h, r, r),)
        case "cone":
            return (Frustum(0.0, h, r, 0.0),)
        case "bottle":
            shoulder, neck = 0.52 * h, 0.70 * h
            return (
                Frustum(0.0, shoulder, r, r),
                Frustum(shoulder, neck, r, 0.36 * r),
                Frustum(neck, 0.95 * h, 0.36 * r, 0.36 * r),
                Frustum(0.95 * h, h, 0.48 * r, 0.48 * r),
            )
    raise AssertionError(f"no parts for kind {thing.kind!r}")


def silhouette_radius(thing: SceneObject, z: np.ndarray) -> np.ndarray:
    """Rough radius of the object at heights z: what its soft shadow is computed from."""
    r, h = 0.5 * thing.width, thing.height
    match thing.kind:
        case "ball":
            return np.full_like(z, r)
        case "cone":
            return r * (1.02 - z / h)
        case "bottle":
            return np.where(z < 0.58 * h, r, 0.4 * r).astype(np.float32)
        case _:
            return np.full_like(z, 0.97 * r)


def intersect(thing: SceneObject, origin: tuple[float, float, float], rays: np.ndarray) -> Hit:
    """Nearest hit of each ray with the object."""
    local = (origin[0] - thing.x, origin[1] - thing.y, origin[2])
    best, normal = None, None
    for part in parts(thing):
        match part:
            case Ball():
                t, n = _ball(part, local, rays)
            case Box():
                t, n = box(part, local, rays)
            case Frustum():
                t, n = _frustum(part, local, rays)
        if best is None:
            best, normal = t, n
        else:
            normal = np.where(t < best, n, normal)
            best = np.minimum(t, best)
    return best, normal


def _ball(ball: Ball, origin: tuple[float, float, float], rays: np.ndarray) -> Hit:
    ox, oy, oz = origin[0], origin[1], origin[2] - ball.z
    dx, dy, dz = rays
    a = dx * dx + dy * dy + dz * dz
    b = dx * ox + dy * oy + dz * oz
    root = b * b - a * (ox * ox + oy * oy + oz * oz - ball.radius**2)
    hit = root > 0
    t = (-b - np.sqrt(np.maximum(root, 0))) / a
    t = np.where(hit & (t > 0), t, _INF)
    safe = np.where(hit, t, 0)
    normal = (safe * rays + np.array([[ox], [oy], [oz]], np.float32)) / np.float32(ball.radius)
    return t, normal


def box(body: Box, origin: tuple[float, float, float], rays: np.ndarray) -> Hit:
    """Rays against an upright box turned about its vertical axis, which stands at x = y = 0."""
    c, s = np.float32(cos(body.yaw_rad)), np.float32(sin(body.yaw_rad))
    ox, oy = c * origin[0] + s * origin[1], c * origin[1] - s * origin[0]
    middle, half_z = 0.5 * (body.low + body.high), 0.5 * (body.high - body.low)
    turned = np.stack([c * rays[0] + s * rays[1], c * rays[1] - s * rays[0], rays[2]])
    turned = np.where(np.abs(turned) < 1e-7, np.float32(1e-7), turned)
    start = np.array([[ox], [oy], [origin[2] - middle]], np.float32)
    half = np.array([[body.half[0]], [body.half[1]], [half_z]], np.float32)
    inverse = 1 / turned
    near = -start * inverse - half * np.abs(inverse)
    far = -start * inverse + half * np.abs(inverse)
    t = near.max(axis=0)
    t = np.where((t < far.min(axis=0)) & (t > 0), t, _INF)
    face = near.argmax(axis=0)
    sign = -np.sign(turned)
    nx, ny = np.where(face == 0, sign[0], 0), np.where(face == 1, sign[1], 0)
    normal = np.stack([c * nx - s * ny, s * nx + c * ny, np.where(face == 2, sign[2], 0)]).astype(np.float32)
    return t, normal


def _frustum(body: Frustum, origin: tuple[float, float, float], rays: np.ndarray) -> Hit:
    ox, oy, oz = origin[0], origin[1], origin[2] - body.low
    dx, dy, dz = rays
    height = body.high - body.low
    k = (body.radius_high - body.radius_low) / height  # radius = radius_low + k z
    r0 = body.radius_low + k * oz
    a = dx * dx + dy * dy - k * k * dz * dz
    b = dx * ox + dy * oy - k * r0 * dz
    c = ox * ox + oy * oy - r0 * r0
    a = np.where(np.abs(a) < 1e-9, np.float32(1e-9), a)
    root = b * b - a * c
    real = root > 0
    spread = np.sqrt(np.maximum(root, 0))
    t_side = np.full(dx.shape, _INF, np.float32)
    for t in ((-b - spread) / a, (-b + spread) / a):
        z = oz + t * dz
        good = real & (t > 0) & (z >= 0) & (z <= height) & (body.radius_low + k * z >= 0)
        t_side = np.where(good, np.minimum(t, t_side), t_side)
    safe = np.where(np.isfinite(t_side), t_side, 0)
    nx, ny = ox + safe * dx, oy + safe * dy
    radius = np.maximum(np.hypot(nx, ny), 1e-6)
    tilt = 1 / np.sqrt(1 + k * k)
    normal = np.stack([nx / radius * tilt, ny / radius * tilt, np.full_like(nx, -k * tilt)])
    best = t_side
    if body.radius_high > 0:  # the upper lid; the lower one is never seen
        t = (height - oz) / np.where(np.abs(dz) < 1e-7, np.float32(1e-7), dz)
        px, py = ox + t * dx, oy + t * dy
        lid = (t > 0) & (px * px + py * py <= body.radius_high**2) & (t < best)
        best = np.where(lid, t, best)
        normal = np.where(lid, np.array([[0], [0], [1]], np.float32), normal)
    return best.astype(np.float32), normal.astype(np.float32)
