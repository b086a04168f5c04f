"""`Choices`: every plan that may be chosen, with what it is expected to cost and to do to the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from laim_ros.plan import (
    BIT_WIDTHS,
    FEATURE_CODECS,
    Plan,
    codes_by_calibration,
    is_feature_codec,
    klt_decibels,
    picture_format,
)
from laim_ros.planning.costs import expected_packet_bytes
from laim_ros.planning.errors import PlanningError
from laim_ros.planning.profiles import MachineProfile
from laim_ros.planning.quality import QualityRow, QualityTable, plan_key
from laim_ros.planning.rate_distortion import best_scalar

DEFAULT_PICTURE_CODECS = tuple(f"{name}{quality}" for name in ("jpeg", "webp") for quality in (25, 50, 75, 90))
_MOST_CHOICES = 100_000
_THEORY = "theory: the weights' and features' expected distortion"
_MOST_BITS = 8
"""Of features, unless more are named: more gain nothing, and codec `klt` has no more."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be chosen from; empty leaves everything that the profiles offer.

    Attributes:
        split_points, weight_bits, feature_bits, codecs: as in `Plan`; codecs are picture codecs and feature codecs, and
            without any of one kind, no plan is of that kind.
            Where no codecs are named, `klt` takes the place of `plain` if both machines have the same calibration.
            Features of more than 8 bits are chosen only where they are named: they gain nothing over 8.
        clocks: False leaves the robot's clock alone.
    """

    split_points: tuple[str, ...] = ()
    weight_bits: tuple[int, ...] = ()
    feature_bits: tuple[int, ...] = ()
    codecs: tuple[str, ...] = ()
    clocks: bool = True


@dataclass(frozen=True, slots=True)
class Choices:
    """Columns of N plans, float64 (N,), before what the link and the running corrections add.

    Attributes:
        plans: the N plans.
        robot_s, edge_s: seconds of both halves; what one of them has not loaded is left out of the table.
        packet_bytes: on the wire.
        active_w: the robot's power above idle while it computes, in watts.
        radio_w: the robot's power above idle while it sends, in watts.
        quality_loss: 0 to 1.
        quality_source: what the loss is about and where it comes from, in words.
        power_source: where watts come from.
        estimated: bool (N,), True where a plan's times are those of another bit-width.
        rows: where a plan stands, by its `plan_key` and clock.
        pictures: True where a picture is sent: its size and its time on the robot are corrected apart from features'.
    """

    plans: tuple[Plan, ...]
    robot_s: np.ndarray
    edge_s: np.ndarray
    packet_bytes: np.ndarray
    active_w: np.ndarray
    radio_w: float
    quality_loss: np.ndarray
    quality_source: str
    power_source: str
    estimated: np.ndarray
    rows: Mapping[tuple, int]
    pictures: np.ndarray

    def __len__(self) -> int:
        return len(self.plans)

    def index(self, plan: Plan) -> int | None:
        """Row of a plan, or of one that differs in what its split point does not use; None if there is none."""
        return self.rows.get(_row_key(plan))

    def only(self, kept: Sequence[int]) -> Choices:
        """The choices in these rows, in this order."""
        columns = ("robot_s", "edge_s", "packet_bytes", "active_w", "quality_loss", "estimated", "pictures")
        plans = tuple(self.plans[row] for row in kept)
        rows = {_row_key(plan): row for row, plan in enumerate(plans)}
        return replace(self, plans=plans, rows=rows, **{name: getattr(self, name)[list(kept)] for name in columns})


def build_choices(
    robot: MachineProfile, edge: MachineProfile | None, quality: QualityTable | None, allowed: Allowed | None = None
) -> Choices:
    """Every plan that both machines can carry out, and that was measured where there is a table.

    Codec `klt` is chosen only where both have the same calibration, and picture formats only if both have them: an edge
    would refuse every frame.

    Args:
        robot: profile of the robot; its stages reach as far as it has loaded them.
        edge: of the edge; None leaves what the robot can do alone.
        quality: what plans do to the output; None ranks by theory.
        allowed: what may be chosen from.

    Raises:
        PlanningError: profiles of different models, or nothing is left to choose from.
    """
    if edge is not None and edge.model_id != robot.model_id:
        raise PlanningError(f"the robot runs {robot.model} ({robot.model_id}), the edge {edge.model} ({edge.model_id})")
    measured = None if quality is None else _of_this_calibration(quality, robot)
    modes = robot.modes
    if allowed is not None and not allowed.clocks:
        modes = (msgspec.structs.replace(modes[0], clock_hz=0.0),)
    found: list[tuple] = []
    for plan in _candidates(robot, edge, measured, allowed or Allowed()):
        row = None if measured is None else measured.get(plan_key(plan))
        if measured is not None and row is None:
            continue
        robot_s, edge_s = _halves_s(plan, robot, edge)
        if not np.isfinite(robot_s + edge_s):
            continue
        size = row.packet_bytes if row else expected_packet_bytes(plan, robot)
        loss = row.loss if row else theory_loss(plan, robot)
        estimated = plan.split_point != "input" and robot.times_at(plan.weight_bits).source == "estimated"
        for mode in modes:
            clocked = replace(plan, robot_clock_hz=mode.clock_hz)
            found.append((clocked, robot_s * mode.slowdown, edge_s, size, mode.active_w, loss, estimated))
        if len(found) > _MOST_CHOICES:
            raise PlanningError(f"more than {_MOST_CHOICES} plans: allow fewer split points, bits or clocks")
    if not found:
        raise PlanningError(
            f"no plan is left for {robot.model}: allow more split points, bits or codecs"
            + ("" if quality is None else ", or measure more of them with `laim calibrate`")
            + ("" if edge is not None else ", or give an edge")
            + "".join(f"; {why}" for why in filter(None, [why_no_klt(robot, edge, quality)]))
        )
    plans, *columns, estimates = zip(*found, strict=True)
    robot_s, edge_s, size, active_w, loss = (np.array(column, np.float64) for column in columns)
    estimated = np.array(estimates, bool)
    source = f"{quality.measure} ({quality.frames} frames)" if quality else _THEORY
    rows = {_row_key(plan): row for row, plan in enumerate(plans)}
    pictures = np.array([plan.sends_picture for plan in plans])
    costs = robot_s, edge_s, size, active_w, robot.radio_w
    return Choices(plans, *costs, loss, source, robot.power_source, estimated, rows, pictures)


def _row_key(plan: Plan) -> tuple:
    return plan_key(plan), plan.robot_clock_hz


def theory_loss(plan: Plan, robot: MachineProfile) -> float:
    """Expected distortion as a rank, 0 to 1, where nothing was measured.

    Weights and features count as sources with exponential magnitudes behind the best scalar quantizer,
    λD = ln(1 + 1/N), N = 2^(b-1) levels [theory.md, section 2], as the paper ranks bit-widths; the weights' part by the
    share of the head that the robot runs. Codec `klt` keeps by its definition a signal-to-distortion ratio, 6.02 dB per
    bit: the squared error is 2^(-2b) of the signal's energy, so the error 2^(-b) of its magnitude, as λD counts.
    Theory has no word on pictures: quality q counts as features of q/12.5 bits in all formats, as their signal-to-noise
    ratios at equal quality differ by some 2 dB at most from 10 to 90 (photographs at 224 × 224).
    """
    if plan.sends_picture:
        _, quality = picture_format(plan.codec)
        return min(1.0, best_scalar(max(0.0, quality / 12.5 - 1)))
    points = robot.split_points
    head = max(1, points.index("qformer") if "qformer" in points else len(points) - 1)
    share = min(points.index(plan.split_point), head) / head
    weights = share * _scalar_distortion(plan.weight_bits)
    return min(1.0, weights + _features_distortion(plan))


def _features_distortion(plan: Plan) -> float:
    if plan.split_point == "output":
        return 0.0
    return 10 ** (-klt_decibels(plan) / 20) if codes_by_calibration(plan) else _scalar_distortion(plan.feature_bits)


def _scalar_distortion(bits: int) -> float:
    return 0.0 if bits == 32 else float(best_scalar(bits - 1))


def _halves_s(plan: Plan, robot: MachineProfile, edge: MachineProfile | None) -> tuple[float, float]:
    """Seconds of both halves; infinite where one has not loaded what the plan needs."""
    point = plan.split_point
    robot_s = robot.span_s(plan.weight_bits, "", point) + robot.coding_s(plan)
    if point == "output":
        return robot_s, 0.0
    if edge is None:
        return robot_s, float("inf")
    return robot_s, edge.span_s(edge.weight_bits[0], point, "output") + edge.coding_s(plan)


def _candidates(
    robot: MachineProfile, edge: MachineProfile | None, measured: Mapping[tuple, QualityRow] | None, allowed: Allowed
) -> Iterator[Plan]:
    """Plans before it is known whether the profiles have their stages."""
    widths = allowed.weight_bits or robot.weight_bits
    for point in robot.split_points:
        if allowed.split_points and point not in allowed.split_points:
            continue
        if point == "input":
            # No head runs on the robot: the width means nothing, and whoever applies the plan leaves it as it is.
            yield from (Plan(point, 32, 8, codec) for codec in _picture_codecs(robot, edge, measured, allowed))
        elif point == "output":
            yield from (Plan(point, width, 8) for width in widths)
        else:
            codecs = _feature_codecs(point, robot, edge, measured, allowed)
            for width in widths:
                yield from _feature_plans(point, width, codecs, measured, allowed)


def _feature_plans(
    point: str, width: int, codecs: Sequence[str], measured: Mapping[tuple, QualityRow] | None, allowed: Allowed
) -> Iterator[Plan]:
    """Of one split point and bit-width of the head."""
    yield from (Plan(point, width, _MOST_BITS, codec) for codec in codecs if codec not in FEATURE_CODECS)
    for bits in allowed.feature_bits or [bits for bits in BIT_WIDTHS if bits <= _MOST_BITS]:
        klt = [Plan(point, width, bits, "klt")] if "klt" in codecs and bits <= _MOST_BITS else []
        klt = [plan for plan in klt if measured is None or plan_key(plan) in measured]
        yield from klt
        if "plain" in codecs and (allowed.codecs or not klt):
            yield Plan(point, width, bits, "plain")


def _feature_codecs(
    point: str,
    robot: MachineProfile,
    edge: MachineProfile | None,
    measured: Mapping[tuple, QualityRow] | None,
    allowed: Allowed,
) -> list[str]:
    """Codecs that both machines have at a split point, of those that are named, or else measured, or else there are."""
    known = allowed.codecs or _measured_codecs(point, measured) or FEATURE_CODECS
    calibrated = _calibrated_alike(point, robot, edge)
    return [codec for codec in known if is_feature_codec(codec) and (calibrated or codec == "plain")]


def _picture_codecs(
    robot: MachineProfile, edge: MachineProfile | None, measured: Mapping[tuple, QualityRow] | None, allowed: Allowed
) -> Iterator[str]:
    """As `_feature_codecs`, for pictures."""
    formats = set(robot.picture_formats).intersection(() if edge is None else edge.picture_formats)
    for codec in allowed.codecs or _measured_codecs("input", measured) or DEFAULT_PICTURE_CODECS:
        if not is_feature_codec(codec) and picture_format(codec)[0] in formats:
            yield codec


def _measured_codecs(point: str, measured: Mapping[tuple, QualityRow] | None) -> tuple[str, ...]:
    rows = () if measured is None else measured.values()
    return tuple(dict.fromkeys(row.codec for row in rows if row.split_point == point))


def _calibrated_alike(point: str, robot: MachineProfile, edge: MachineProfile | None) -> bool:
    return edge is not None and point in robot.digests and robot.digests[point] == edge.digests.get(point)


def _of_this_calibration(quality: QualityTable, robot: MachineProfile) -> dict[tuple, QualityRow]:
    """The table's rows without those of codec `klt` with another calibration than the robot's."""
    others = _measured_otherwise(quality, robot)
    return {
        key: row
        for key, row in quality.index().items()
        if row.split_point not in others or not row.codec.startswith("klt")
    }


def _measured_otherwise(quality: QualityTable, robot: MachineProfile) -> list[str]:
    """Split points at which the table tells of another calibration than the robot's."""
    return [point for point, digest in robot.digests.items() if quality.calibrations.get(point, digest) != digest]


def why_no_klt(robot: MachineProfile, edge: MachineProfile | None, quality: QualityTable | None) -> str:
    """What keeps codec `klt` from being chosen at split points where one side has a calibration; empty if nothing."""
    if edge is None:
        return ""
    calibrated = [point for point in robot.split_points if point in robot.digests or point in edge.digests]
    differing = [point for point in calibrated if not _calibrated_alike(point, robot, edge)]
    if differing:
        return (
            f"robot and edge have not the same calibration of codec klt at {', '.join(differing)}, where it is not "
            "chosen: give both the same codec.safetensors (`laim calibrate`)"
        )
    others = [] if quality is None else _measured_otherwise(quality, robot)
    if others:
        return (
            f"the quality table was measured with another calibration of codec klt at {', '.join(others)}, where it is "
            "not chosen: measure again with `laim calibrate`"
        )
    return ""
