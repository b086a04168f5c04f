"""Whatever comes, the planner decides: reports, batteries and profiles that make no sense, a clock that jumps."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import CALIBRATED, MISSION, QUALITY, START, edge_profile, quality_table, robot_profile, whole_robot

from laim_ros.planning import Allowed, Battery, MachineProfile, Planner
from laim_ros.records import UNKNOWN_SEQUENCE, LinkReport

FIGURES = st.floats() | st.sampled_from([0.0, 0.01, 0.1, 1.0, 1e9, -1.0, math.nan, math.inf])
BITS = st.sampled_from([0, 2, 4, 8, 9, -1, 32, 10**30])
COUNTS = st.sampled_from([0, 1, 5, -7, 10**6, 10**400])
REPORTS = st.builds(
    LinkReport,
    sequence=st.sampled_from([UNKNOWN_SEQUENCE, 0, 1, 2**32]),
    split_point=st.sampled_from(["", "input", "vit.1", "vision", "qformer", "output", "vit.7", "nonsense"]),
    weight_bits=BITS,
    feature_bits=BITS,
    codec=st.sampled_from(["", "plain", "jpeg90", "jpeg999", "zfp", "klt", "klt12"]),
    packet_bytes=st.sampled_from([0, -5, 1, 900, 18_000, 2**40, 10**400]),
    robot_s=FIGURES,
    link_s=FIGURES,
    edge_s=FIGURES,
    robot_wait_s=FIGURES,
    edge_wait_s=FIGURES,
    unanswered_s=FIGURES,
    energy_j=FIGURES,
    energy_source=st.sampled_from(["", "rapl"]),
    probe=st.booleans(),
    packets_sent=COUNTS,
)
BATTERIES = st.builds(Battery, FIGURES, FIGURES, FIGURES, FIGURES, FIGURES)
PROFILES = st.sampled_from(
    [
        (whole_robot(), edge_profile(), QUALITY),
        (whole_robot(calibrations=CALIBRATED), edge_profile(calibrations=CALIBRATED), None),
        (robot_profile(), edge_profile(), QUALITY),
        (robot_profile(), None, None),
        (whole_robot(), edge_profile(model_id="bb"), quality_table({START: (1.0, 0.0)}, model_id="bb")),
    ]
)
EVENTS = st.lists(st.one_of(REPORTS, REPORTS, REPORTS, BATTERIES, PROFILES, st.booleans()), max_size=25)
STEPS = st.sampled_from([0.0, 0.1, 1.0, 20.0, -0.5, -1e4, 1e6])


def checked(planner: Planner, now_s: float) -> None:
    """Decides, and looks whether the decision can be carried out and told."""
    decision = planner.decide(now_s)
    if decision is None:
        assert planner.trouble
        return
    assert decision.plan == planner.plan
    assert decision.choices.index(decision.plan) is not None
    for column in (decision.costs.delay_s, decision.costs.energy_j):
        assert np.isfinite(column).all()
        assert (column >= 0).all()
    report = decision.report
    assert report.energy_budget_j >= 0
    assert report.reason
    assert not report.feasible or report.feasible_choices


@pytest.mark.parametrize("field", [item.name for item in fields(LinkReport) if item.type in ("float", "int")])
def test_any_figure_of_a_report_may_be_nonsense(field: str) -> None:
    figures = [0, 1e-300, -1e300, 1e300, math.nan, math.inf, -math.inf]
    if LinkReport.__dataclass_fields__[field].type == "int":
        figures = [0, -1, -(10**400), 10**400]
    sane = LinkReport(0, "vision", 8, 8, "plain", 18_000, 0.05, 0.01, 0.04, 0.1, packets_sent=1)
    with np.errstate(invalid="raise", divide="raise"):
        for figure, probe in itertools.product(figures, (False, True)):
            planner = Planner(MISSION, Allowed(), START, 0.0)
            planner.set_profiles(whole_robot(), edge_profile(), QUALITY)
            planner.observe_battery(Battery(percentage=0.5), 0.0)
            checked(planner, 0.0)
            for number in range(3):
                planner.observe_link(replace(sane, probe=probe, **{field: figure}), 1.0 + number)
                checked(planner, 1.0 + number)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(EVENTS, st.lists(STEPS, min_size=25, max_size=25), st.sampled_from([whole_robot(), robot_profile()]))
def test_whatever_comes_there_is_a_decision_among_the_choices(
    events: list, steps: list[float], robot: MachineProfile
) -> None:
    now_s = 100.0
    planner = Planner(MISSION, Allowed(), START, now_s)
    planner.set_profiles(robot, edge_profile(), QUALITY)
    with np.errstate(invalid="raise", divide="raise"):
        for event, step_s in zip(events, steps, strict=False):
            now_s += step_s
            if isinstance(event, LinkReport):
                planner.observe_link(event, now_s)
            elif isinstance(event, Battery):
                planner.observe_battery(event, now_s)
            elif isinstance(event, tuple):
                planner.set_profiles(*event)
            elif event:
                planner.refuse(planner.plan, now_s)
            checked(planner, now_s)
