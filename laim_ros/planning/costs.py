"""Costs that are not measured: the paper's analytic model as a profile, sizes of packets, and running corrections."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median_low

from laim_ros.plan import Plan, codes_by_calibration, klt_decibels, picture_format
from laim_ros.planning.errors import PlanningError
from laim_ros.planning.profiles import MachineProfile, PowerMode, StageTimes

HEADER_BYTES = 24
"""Of a packet, beside its payload."""

_FULL_BITS = 32

_BITS_PER_PIXEL = {
    "jpeg": ((10, 0.5), (25, 0.85), (50, 1.3), (75, 1.9), (90, 3.2), (95, 4.6), (100, 10.6)),
    "webp": ((10, 0.4), (25, 0.6), (50, 0.85), (75, 1.15), (90, 2.2), (95, 3.1), (100, 4.2)),
    "avif": ((10, 0.25), (25, 0.35), (50, 0.8), (75, 1.7), (90, 2.7), (95, 3.6), (100, 15.0)),
}
"""(quality, bits per pixel) of photographs at 224 × 224, as `codec.PictureCodec` writes them: the mean of seven that
come with scikit-image, rounded up."""


def analytic_profile(
    *,
    model: str,
    model_id: str,
    split_points: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    stage_flops: Mapping[str, float],
    clocks_hz: Sequence[float],
    flops_per_cycle: float,
    power_coefficient: float,
    power_usage_effectiveness: float = 1.0,
    weight_bits: Sequence[int] = (32,),
    radio_w: float = 0.0,
) -> MachineProfile:
    """The paper's cost model as a profile: T = (b/32) N / (f c), E = η (b/32) (N/c) ψ f² [paper, section V].

    Args:
        stage_flops: N of every stage that this machine runs, floating-point operations per frame.
        clocks_hz: f that may be chosen, in hertz; the profile's times hold for the first.
        flops_per_cycle: c.
        power_coefficient: ψ in W/(cycle/s)³.
        power_usage_effectiveness: η.
        weight_bits: b of the heads that may be chosen; 32 alone for an edge.
        radio_w: while sending, in watts.

    Raises:
        PlanningError: no clock, or one that is not positive.
    """
    if not clocks_hz or not all(figure > 0 for figure in (*clocks_hz, flops_per_cycle)):
        raise PlanningError("an analytic profile needs clocks and operations per cycle above 0")
    first_hz = clocks_hz[0]
    return MachineProfile(
        machine=f"analytic, {flops_per_cycle:g} operations per cycle",
        model=model,
        model_id=model_id,
        engine="analytic",
        split_points=tuple(split_points),
        shapes=dict(shapes),
        times=tuple(
            StageTimes(
                bits,
                {
                    name: flops * (1 if name == "output" else bits / _FULL_BITS) / (first_hz * flops_per_cycle)
                    for name, flops in stage_flops.items()
                },
                "computed",
            )
            for bits in weight_bits
        ),
        modes=tuple(
            PowerMode(clock_hz, first_hz / clock_hz, power_usage_effectiveness * power_coefficient * clock_hz**3)
            for clock_hz in clocks_hz
        ),
        radio_w=radio_w,
        power_source="computed",
        notes="T = (b/32) N/(f c), power = eta psi f^3 [arXiv 2602.13052, section V]; quantized stages only",
    )


def expected_packet_bytes(plan: Plan, robot: MachineProfile) -> float:
    """Size of a packet where none was measured, header included; 0 where nothing is sent.

    By codec `klt` what its calibration expects, which frames that it has not seen exceed by some 10 to 30 %. A bound
    for any features of this variance would be that of white Gaussian ones, up to 40 times as much: the planner would
    never try the codec, and so never learn better. For others `packet_bytes_bound`.

    Args:
        plan: decides on codec and bits.
        robot: has the shapes, and a calibration at the split point if the plan's codec is `klt`.

    Raises:
        PlanningError: the profile has no shape, or no calibration, there.
    """
    if not codes_by_calibration(plan):
        return packet_bytes_bound(plan, robot.shapes.get(plan.split_point, ()))
    if plan.split_point not in robot.calibrations:
        raise PlanningError(f"a profile without a calibration of codec {plan.codec} at '{plan.split_point}'")
    return HEADER_BYTES + robot.calibrations[plan.split_point].bytes_at(klt_decibels(plan))


def packet_bytes_bound(plan: Plan, shape: Sequence[int]) -> float:
    """Size of a packet with a picture or by codec `plain`, header included: a usual picture's, or the codec's bound.

    Args:
        plan: decides on codec and bits; at `output` nothing is sent.
        shape: of the boundary tensor, or (H, W, 3) at `input`.

    Raises:
        PlanningError: the shape is empty.
    """
    if plan.split_point == "output":
        return 0.0
    if not shape:
        raise PlanningError(f"a profile without the shape of '{plan.split_point}': measure it again")
    elements = math.prod(shape)
    if plan.sends_picture:
        name, quality = picture_format(plan.codec)
        bits = next(bits for most, bits in _BITS_PER_PIXEL[name] if quality <= most)
        return HEADER_BYTES + bits * elements / 3 / 8
    if plan.feature_bits > 8:
        return HEADER_BYTES + elements * plan.feature_bits / 8
    return HEADER_BYTES + 1 + 8 * elements / shape[-1] + math.ceil(elements * plan.feature_bits / 8)


class RunningRatio:
    """How much longer (or larger) things are than was expected: the median of the last observations' ratios.

    A median, so that single hiccups do not count; of few, so that a machine that is throttled shows within seconds.
    What was expected counts as one more until the memory is full: the first frame of all is often a slow one.

    Args:
        memory: observations that count.
        most: bound of the ratio and of its inverse.
    """

    def __init__(self, memory: int = 9, most: float = 20.0) -> None:
        self._ratios: deque[float] = deque(maxlen=memory)
        self._most = most

    def update(self, observed: float, expected: float) -> None:
        """Takes in one observation; what is not positive and finite is left out."""
        if observed > 0 and expected > 0 and math.isfinite(observed) and math.isfinite(expected):
            self._ratios.append(min(max(observed / expected, 1 / self._most), self._most))

    @property
    def value(self) -> float:
        """1 before the first observation."""
        return median_low(self._ratios if len(self._ratios) == self._ratios.maxlen else (1.0, *self._ratios))

    @property
    def observations(self) -> int:
        """How many count."""
        return len(self._ratios)

    def forget(self) -> None:
        """Begins anew, as after another profile has come."""
        self._ratios.clear()
