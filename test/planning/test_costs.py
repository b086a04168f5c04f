"""Costs that are computed, and what observations make of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laim_ros.plan import Plan
from laim_ros.planning import (
    Allowed,
    Choices,
    LinkForecast,
    MachineProfile,
    PlanningError,
    build_choices,
    expected_costs,
)
from laim_ros.planning.costs import RunningRatio, analytic_profile
from laim_ros.planning.design import Corrections

POINTS = ("input", "vision", "qformer", "output")
SHAPES = {"input": (224, 224, 3), "vision": (257, 1408), "qformer": (32, 768)}
HEAD_FLOPS = {"input": 0.0, "vision": 500e9, "qformer": 33.66e9}
TEXT_FLOPS = 100e9
CLOCKS_HZ = (2e9, 1e9, 0.5e9)
FREE = LinkForecast()


def machine(**changes: object) -> MachineProfile:
    """The paper's robot [theory.md, section 3] with the 533.66 GFLOP of BLIP-2's head."""
    facts = {
        "model": "blip2",
        "model_id": "aa",
        "split_points": POINTS,
        "shapes": SHAPES,
        "stage_flops": HEAD_FLOPS,
        "clocks_hz": CLOCKS_HZ,
        "flops_per_cycle": 32,
        "power_coefficient": 2e-29,
        "weight_bits": (8, 32, 1),
    }
    return analytic_profile(**{**facts, **changes})


def paper_choices() -> Choices:
    edge = machine(
        stage_flops={"qformer": 33.66e9, "output": TEXT_FLOPS},
        clocks_hz=(10e9,),
        flops_per_cycle=128,
        power_coefficient=1e-28,
        power_usage_effectiveness=2.0,
        weight_bits=(32,),
    )
    return build_choices(machine(), edge, None, Allowed(split_points=("qformer",), feature_bits=(8,)))


@pytest.mark.parametrize(
    ("weight_bits", "clock_hz", "robot_s", "energy_j"),
    [
        # 8/32 · 533.66e9 / (2e9 · 32) s and 8/32 · 533.66e9/32 · 2e-29 · (2e9)² J, worked out by hand
        (8, 2e9, 2.084609375, 0.33353750),
        (8, 1e9, 4.169218750, 0.083384375),
        (32, 2e9, 8.338437500, 1.33415000),
        (1, 0.5e9, 1.042304688, 0.0026057617),
    ],
)
def test_the_analytic_profile_has_the_papers_time_and_energy(
    weight_bits: int, clock_hz: float, robot_s: float, energy_j: float
) -> None:
    choices = paper_choices()
    row = choices.index(Plan("qformer", weight_bits, 8, robot_clock_hz=clock_hz))
    costs = expected_costs(choices, FREE, Corrections())
    assert choices.robot_s[row] == pytest.approx(robot_s, rel=1e-8)
    assert choices.edge_s[row] == pytest.approx(0.078125)  # 100e9 / (10e9 · 128)
    assert costs.delay_s[row] == pytest.approx(robot_s + 0.078125, rel=1e-8)
    assert costs.energy_j[row] == pytest.approx(energy_j, rel=1e-8)


def test_every_width_and_clock_follows_the_formulas() -> None:
    choices = paper_choices()
    costs = expected_costs(choices, FREE, Corrections())
    assert len(choices) == 9
    for row, plan in enumerate(choices.plans):
        cycles = plan.weight_bits / 32 * 533.66e9 / 32
        assert choices.robot_s[row] == pytest.approx(cycles / plan.robot_clock_hz)
        assert costs.energy_j[row] == pytest.approx(cycles * 2e-29 * plan.robot_clock_hz**2)


def test_the_edges_energy_follows_from_its_own_profile() -> None:
    """An edge at 10 GHz costs Ñ · 1.56e-10 J [theory.md, section 3]."""
    edge = machine(
        stage_flops={"output": TEXT_FLOPS},
        clocks_hz=(10e9,),
        flops_per_cycle=128,
        power_coefficient=1e-28,
        power_usage_effectiveness=2.0,
        weight_bits=(32,),
    )
    assert edge.span_s(32, "qformer", "output") * edge.modes[0].active_w == pytest.approx(TEXT_FLOPS * 1.5625e-10)


def test_the_text_is_not_quantized() -> None:
    whole = machine(stage_flops={**HEAD_FLOPS, "output": TEXT_FLOPS})
    full_s = TEXT_FLOPS / (2e9 * 32)
    assert whole.span_s(8, "qformer", "output") == whole.span_s(32, "qformer", "output") == pytest.approx(full_s)


@pytest.mark.parametrize(
    "changes",
    [{"clocks_hz": ()}, {"clocks_hz": (1e9, 0.0)}, {"clocks_hz": (math.nan,)}, {"flops_per_cycle": -1.0}],
)
def test_no_clock_makes_no_profile(changes: dict) -> None:
    with pytest.raises(PlanningError, match="above 0"):
        machine(**changes)


def test_an_analytic_profile_survives_its_json() -> None:
    assert MachineProfile.from_json(machine().to_json()) == machine()
    with pytest.raises(PlanningError):
        MachineProfile.from_json('{"machine": "\ud800"}')


# The running ratio.


def test_before_the_first_observation_things_are_as_expected() -> None:
    ratio = RunningRatio()
    assert (ratio.value, ratio.observations) == (1.0, 0)
    for observed, expected in [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)]:
        ratio.update(observed, expected)
    assert (ratio.value, ratio.observations) == (1.0, 0)


def test_a_throttled_machine_shows_after_half_the_memory() -> None:
    ratio = RunningRatio(memory=9)
    for _ in range(9):
        ratio.update(1.0, 1.0)
    for number in range(4):
        ratio.update(3.0, 1.0)
        assert ratio.value == 1.0, number
    ratio.update(3.0, 1.0)
    assert ratio.value == 3.0


def test_outliers_never_show_nor_does_a_slow_first_frame() -> None:
    random = np.random.default_rng(0)
    steady = RunningRatio(memory=9)
    for number in range(500):
        late = number % 4 == 0  # a quarter of all frames take whatever time they like
        steady.update(0.2 * (1 + 1000 * random.random() if late else random.uniform(0.98, 1.02)), 0.1)
        assert 1.9 <= steady.value <= 2.1 if number else steady.value == 1.0


def test_it_forgets_and_keeps_within_bounds() -> None:
    ratio = RunningRatio(memory=3, most=20.0)
    for _ in range(2):
        ratio.update(1e9, 1e-9)
    assert ratio.value == 20.0
    for _ in range(3):
        ratio.update(1e-300, 1e300)
    assert (ratio.value, ratio.observations) == (1 / 20, 3)
    ratio.forget()
    assert (ratio.value, ratio.observations) == (1.0, 0)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=20))
def test_the_ratio_of_anything_can_be_used(observations: list[tuple[float, float]]) -> None:
    ratio = RunningRatio()
    for observed, expected in observations:
        ratio.update(observed, expected)
        assert 0.05 <= ratio.value <= 20
