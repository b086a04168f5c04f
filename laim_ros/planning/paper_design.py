"""The paper's own problem P1 [paper, section V], solved exactly [theory.md, section 3].

Weights of b̂ bits on the robot, clocks f and f̃ of robot and edge: as little distortion as delay and energy allow.

    T = b̂N/(b f c) + Ñ/(f̃ c̃) ≤ T₀                        c, c̃ operations per cycle, b = 32 bits at full precision
    E = η (b̂N/(bc)) ψ f² + η̃ (Ñ/c̃) ψ̃ f̃² ≤ E₀              ψ f³ watts at clock f, η power usage effectiveness
    f ≤ f_max,  f̃ ≤ f̃_max,  b̂ ∈ {1 … B}                   minimise D^U(b̂ - 1) - D^L(b̂ - 1)

The objective falls strictly in b̂ and the constraints only tighten with it, so the optimum is the largest b̂ for which
some clocks meet them. Nothing is relaxed, linearised or rounded: rounding to the nearest b̂ can break a constraint.

This is the model of the paper, for comparison. `laim_ros.planning.planner` plans real robots, from measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from laim_ros.planning.errors import PlanningError
from laim_ros.planning.rate_distortion import paper_upper_bound, shannon_lower_bound

_ROUNDING = 1e-12
"""Share by which a limit may be passed: what a design itself needs is a limit that it meets."""


def _require(name: str, value: float, holds: bool, what: str) -> None:
    if not holds:
        raise PlanningError(f"{name} {value} must be {what}")


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor whose clock can be set.

    Attributes:
        max_clock_hz: f_max.
        flop_per_cycle: c, floating-point operations per cycle.
        power_w_per_hz3: ψ: it draws ψ f³ watts at clock f.
        power_usage_effectiveness: η, joules drawn for each joule that computes.

    All are above 0 and finite.

    Raises:
        PlanningError: a figure is out of its range.
    """

    max_clock_hz: float
    flop_per_cycle: float
    power_w_per_hz3: float
    power_usage_effectiveness: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_clock_hz", "flop_per_cycle", "power_w_per_hz3", "power_usage_effectiveness"):
            value = getattr(self, name)
            _require(name, value, 0 < value < math.inf, "above 0 and finite")

    @property
    def joules_per_cycle_hz2(self) -> float:
        """κ = ηψ: a cycle at clock f costs κ f² joules."""
        return self.power_usage_effectiveness * self.power_w_per_hz3


@dataclass(frozen=True, slots=True)
class Problem:
    """P1 for one split of one model.

    Attributes:
        robot, edge: the machines.
        robot_flop, edge_flop: N and Ñ, floating-point operations on either side at full precision, at least 0.
        delay_limit_s: T₀, above 0 and finite.
        energy_limit_j: E₀ for both machines together, at least 0; infinity for no limit.
        full_bits: b, bits of a weight at full precision: b̂ bits take b̂/b of the robot's cycles.
        most_bits: B, at least 1.

    Raises:
        PlanningError: a figure is out of its range.
    """

    robot: Machine
    edge: Machine
    robot_flop: float
    edge_flop: float
    delay_limit_s: float
    energy_limit_j: float
    full_bits: int = 32
    most_bits: int = 32

    def __post_init__(self) -> None:
        for name in ("robot_flop", "edge_flop"):
            value = getattr(self, name)
            _require(name, value, 0 <= value < math.inf, "at least 0 and finite")
        _require("delay_limit_s", self.delay_limit_s, 0 < self.delay_limit_s < math.inf, "above 0 and finite")
        _require("energy_limit_j", self.energy_limit_j, self.energy_limit_j >= 0, "at least 0")
        for name in ("full_bits", "most_bits"):
            value = getattr(self, name)
            _require(name, value, isinstance(value, int) and value >= 1, "a whole number, at least 1")

    def robot_cycles(self, weight_bits: int) -> float:
        """W = b̂N/(bc)."""
        return weight_bits * self.robot_flop / (self.full_bits * self.robot.flop_per_cycle)

    @property
    def edge_cycles(self) -> float:
        """W̃ = Ñ/c̃."""
        return self.edge_flop / self.edge.flop_per_cycle


class Limit(Enum):
    """What a design has to keep to."""

    DELAY = "delay"
    ENERGY = "energy"
    ROBOT_CLOCK = "the robot's clock"
    EDGE_CLOCK = "the edge's clock"


@dataclass(frozen=True, slots=True)
class Design:
    """A feasible choice.

    Attributes:
        weight_bits: b̂.
        robot_clock_hz, edge_clock_hz: f and f̃; 0 for a machine without work.
        delay_s, energy_j: T and E.
        distortion_gap: λ(D^U - D^L) at b̂ - 1 bits per magnitude, no unit; infinite at b̂ = 1.
    """

    weight_bits: int
    robot_clock_hz: float
    edge_clock_hz: float
    delay_s: float
    energy_j: float
    distortion_gap: float


@dataclass(frozen=True, slots=True)
class Infeasible:
    """Nothing meets the limits.

    Attributes:
        weight_bits: the fewest bits that were allowed; more need more.
        limits: those that cannot be met together; the others are out of play. Time comes first: whether the energy
            would do is not looked at where the highest clocks are too slow.
        sentence: the same for people, with figures.
    """

    weight_bits: int
    limits: tuple[Limit, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class PaperModel:
    """What the paper says of a model it plans for.

    Attributes:
        parameters: weights of the whole model.
        flop: floating-point operations to the first token, robot and edge together.
        delay_limit_s, energy_limit_j: T₀ of the sweep over energy, E₀ of the sweep over delay.
    """

    parameters: float
    flop: float
    delay_limit_s: float
    energy_limit_j: float


ROBOT = Machine(max_clock_hz=2e9, flop_per_cycle=32, power_w_per_hz3=2e-29, power_usage_effectiveness=1.0)
"""The paper's robot."""
EDGE = Machine(max_clock_hz=10e9, flop_per_cycle=128, power_w_per_hz3=1e-28, power_usage_effectiveness=2.0)
"""The paper's edge: at its highest clock, 1.56e-10 J per operation."""

BLIP2 = PaperModel(parameters=3.75e9, flop=533.66e9, delay_limit_s=3.5, energy_limit_j=2.0)
"""BLIP-2 with OPT-2.7B. The operations are those of vision tower and Q-Former alone."""
GIT = PaperModel(parameters=176.62e6, flop=212.27e9, delay_limit_s=2.0, energy_limit_j=2.0)
"""GIT-base with four frames."""

RANDOM_DRAWS = 400
"""Bit-widths that the paper's random scheme tries."""


def paper_problem(
    model: PaperModel, robot_share: float, delay_limit_s: float | None = None, energy_limit_j: float | None = None
) -> Problem:
    """P1 with the paper's machines.

    Args:
        model: `BLIP2` or `GIT`.
        robot_share: of the model's operations, on the robot, 0–1.
        delay_limit_s, energy_limit_j: a point of a sweep; None for the model's own limit.

    Raises:
        PlanningError: a figure is out of its range.
    """
    _require("robot_share", robot_share, 0 <= robot_share <= 1, "0 to 1")
    return Problem(
        robot=ROBOT,
        edge=EDGE,
        robot_flop=robot_share * model.flop,
        edge_flop=(1 - robot_share) * model.flop,
        delay_limit_s=model.delay_limit_s if delay_limit_s is None else delay_limit_s,
        energy_limit_j=model.energy_limit_j if energy_limit_j is None else energy_limit_j,
    )


def solve(problem: Problem) -> Design | Infeasible:
    """The optimum of P1, at the clocks that need the least energy for it; or what stands against even 1 bit."""
    return _most_bits(problem, design_at)


def design_at(problem: Problem, weight_bits: int) -> Design | Infeasible:
    """The clocks of least energy for a bit-width, in closed form [theory.md, section 3].

    Without caps, with r = (κ/κ̃)^(1/3): f = (W + W̃/r)/T₀, f̃ = r f, E = κ (W + W̃/r)³/T₀². A clock above its cap is
    set to it, and the other machine has what remains of T₀. Both above their caps is too slow.

    Raises:
        PlanningError: weight_bits is not from 1 to the problem's most.
    """
    _require_bits(problem, weight_bits)
    robot, edge, limit_s = problem.robot, problem.edge, problem.delay_limit_s
    robot_cycles, edge_cycles = problem.robot_cycles(weight_bits), problem.edge_cycles
    robot_least_s, edge_least_s = robot_cycles / robot.max_clock_hz, edge_cycles / edge.max_clock_hz
    if robot_least_s + edge_least_s > limit_s * (1 + _ROUNDING):
        return _too_slow(problem, weight_bits, robot_least_s, edge_least_s)

    # In time, not clocks: a machine without work takes none, and cannot exceed its cap.
    edge_share = edge_cycles / _clock_ratio(problem)
    work = robot_cycles + edge_share
    robot_s = limit_s * robot_cycles / work if work else 0.0
    edge_s = limit_s * edge_share / work if work else 0.0
    capped = None
    if robot_s < robot_least_s:
        robot_s, edge_s, capped = robot_least_s, limit_s - robot_least_s, Limit.ROBOT_CLOCK
    elif edge_s < edge_least_s:
        robot_s, edge_s, capped = limit_s - edge_least_s, edge_least_s, Limit.EDGE_CLOCK
    # The remaining time may be short of the least by the tolerance, a quotient above the cap by its last digit.
    robot_hz = min(robot_cycles / max(robot_s, robot_least_s), robot.max_clock_hz) if robot_cycles else 0.0
    edge_hz = min(edge_cycles / max(edge_s, edge_least_s), edge.max_clock_hz) if edge_cycles else 0.0
    design = _run(problem, weight_bits, robot_hz, edge_hz)
    if design.energy_j <= problem.energy_limit_j * (1 + _ROUNDING):
        return design
    return _too_hungry(problem, design, capped)


def design_at_full_clocks(problem: Problem, weight_bits: int) -> Design | Infeasible:
    """Both machines at their highest clocks: the paper's reference scheme of fixed frequency, for one bit-width.

    Raises:
        PlanningError: weight_bits is not from 1 to the problem's most.
    """
    _require_bits(problem, weight_bits)
    design = _run(problem, weight_bits, problem.robot.max_clock_hz, problem.edge.max_clock_hz)
    broken = []
    if design.delay_s > problem.delay_limit_s * (1 + _ROUNDING):
        broken.append((Limit.DELAY, f"{design.delay_s:.4g} s where {problem.delay_limit_s:.4g} s are allowed"))
    if design.energy_j > problem.energy_limit_j * (1 + _ROUNDING):
        broken.append((Limit.ENERGY, f"{design.energy_j:.4g} J where {problem.energy_limit_j:.4g} J are allowed"))
    if not broken:
        return design
    limits, figures = zip(*broken, strict=True)
    sentence = f"{_bits_in_words(weight_bits)} at the highest clocks takes {' and '.join(figures)}"
    return Infeasible(weight_bits, limits, sentence)


def solve_at_full_clocks(problem: Problem) -> Design | Infeasible:
    """The most bits that the paper's scheme of fixed frequency can have; or what stands against even 1 bit."""
    return _most_bits(problem, design_at_full_clocks)


def random_designs(problem: Problem, random: np.random.Generator, draws: int = RANDOM_DRAWS) -> tuple[Design, ...]:
    """The paper's reference scheme of random bit-widths: those drawn that are feasible, at clocks of least energy.

    Args:
        problem: with B; each b̂ is drawn with equal chance.
        random: where they come from.
        draws: how many are drawn.

    Returns:
        Up to `draws` designs in the order drawn, the same ones repeatedly.
    """
    drawn = random.integers(1, problem.most_bits, size=draws, endpoint=True).tolist()
    found = {bits: design_at(problem, bits) for bits in set(drawn)}
    return tuple(design for design in map(found.__getitem__, drawn) if isinstance(design, Design))


def _most_bits(problem: Problem, scheme: Callable[[Problem, int], Design | Infeasible]) -> Design | Infeasible:
    for weight_bits in range(problem.most_bits, 0, -1):
        found = scheme(problem, weight_bits)
        if isinstance(found, Design):
            break
    return found


def _run(problem: Problem, weight_bits: int, robot_clock_hz: float, edge_clock_hz: float) -> Design:
    """What clocks lead to, by the definitions of T and E."""
    robot_cycles, edge_cycles = problem.robot_cycles(weight_bits), problem.edge_cycles
    delay_s = robot_cycles / robot_clock_hz if robot_cycles else 0.0
    delay_s += edge_cycles / edge_clock_hz if edge_cycles else 0.0
    energy_j = problem.robot.joules_per_cycle_hz2 * robot_cycles * robot_clock_hz * robot_clock_hz
    energy_j += problem.edge.joules_per_cycle_hz2 * edge_cycles * edge_clock_hz * edge_clock_hz
    gap = paper_upper_bound(weight_bits - 1) - shannon_lower_bound(weight_bits - 1)
    return Design(weight_bits, robot_clock_hz, edge_clock_hz, delay_s, energy_j, gap)


def _clock_ratio(problem: Problem) -> float:
    """r = f̃/f = (κ/κ̃)^(1/3), where a second costs both machines the same energy."""
    return (problem.robot.joules_per_cycle_hz2 / problem.edge.joules_per_cycle_hz2) ** (1 / 3)


def _too_slow(problem: Problem, weight_bits: int, robot_least_s: float, edge_least_s: float) -> Infeasible:
    limit_s = problem.delay_limit_s
    alone = [
        (Limit.ROBOT_CLOCK, robot_least_s > limit_s * (1 + _ROUNDING)),
        (Limit.EDGE_CLOCK, edge_least_s > limit_s * (1 + _ROUNDING)),
    ]
    # Where neither takes too long alone, both together do.
    clocks = [limit for limit, too_slow in alone if too_slow] or [limit for limit, _ in alone]
    takes = {
        Limit.ROBOT_CLOCK: f"{robot_least_s:.4g} s on the robot at its highest clock of {_ghz(problem.robot)}",
        Limit.EDGE_CLOCK: f"{edge_least_s:.4g} s on the edge at its highest clock of {_ghz(problem.edge)}",
    }
    sentence = (
        f"{_bits_in_words(weight_bits)} takes {' and '.join(takes[clock] for clock in clocks)}, "
        f"where {limit_s:.4g} s are allowed for both"
    )
    return Infeasible(weight_bits, (Limit.DELAY, *clocks), sentence)


def _too_hungry(problem: Problem, design: Design, capped: Limit | None) -> Infeasible:
    """Nothing but the energy is broken at the clocks of least energy; `capped` is the clock at its cap."""
    limit_s, limit_j = problem.delay_limit_s, problem.energy_limit_j
    sentence = (
        f"{_bits_in_words(design.weight_bits)} within {limit_s:.4g} s takes at least {design.energy_j:.4g} J, "
        f"where {limit_j:.4g} J are allowed"
    )
    if limit_j == 0:  # no time is long enough
        return Infeasible(design.weight_bits, (Limit.ENERGY,), sentence)
    limits = [Limit.DELAY, Limit.ENERGY]
    work = problem.robot_cycles(design.weight_bits) + problem.edge_cycles / _clock_ratio(problem)
    uncapped_j = problem.robot.joules_per_cycle_hz2 * work**3 / limit_s**2
    if capped is not None and uncapped_j <= limit_j * (1 + _ROUNDING):
        limits.append(capped)
        machine = problem.robot if capped is Limit.ROBOT_CLOCK else problem.edge
        sentence += f"; {uncapped_j:.4g} J would do if {capped.value} could exceed {_ghz(machine)}"
    return Infeasible(design.weight_bits, tuple(limits), sentence)


def _bits_in_words(weight_bits: int) -> str:
    return f"{weight_bits} {'bit' if weight_bits == 1 else 'bits'} per weight"


def _ghz(machine: Machine) -> str:
    return f"{machine.max_clock_hz / 1e9:.4g} GHz"


def _require_bits(problem: Problem, weight_bits: int) -> None:
    most = problem.most_bits
    _require("weight_bits", weight_bits, 1 <= weight_bits <= most, f"from 1 to {most}")
