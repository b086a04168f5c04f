"""P1 solved exactly: beside a search on 10,000 instances, scipy, the paper's numbers, and limits relaxed one by one."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from p1_instances import delay_and_energy, problems_of, random_instances, searched_energies
from scipy.optimize import minimize

from laim_ros.planning.errors import PlanningError
from laim_ros.planning.paper_design import (
    BLIP2,
    EDGE,
    GIT,
    ROBOT,
    Design,
    Infeasible,
    Limit,
    Machine,
    Problem,
    design_at,
    paper_problem,
    random_designs,
    solve,
    solve_at_full_clocks,
)

INSTANCES = 10_000
PAPER_SPLITS = [(BLIP2, share) for share in (0.0, 0.5, 0.98, 1.0)] + [(GIT, share) for share in (0.5, 0.99, 1.0)]


@pytest.fixture(scope="module")
def instances():
    return random_instances(INSTANCES, seed=7)


@pytest.fixture(scope="module")
def solutions(instances):
    return [solve(problem) for problem in problems_of(instances)]


def feasible(instances, solutions):
    """The instances that have a design, and their designs."""
    chosen = [number for number, found in enumerate(solutions) if isinstance(found, Design)]
    return instances[chosen], [solutions[number] for number in chosen]


def column(designs, name):
    return np.array([getattr(design, name) for design in designs])


def test_the_instances_are_of_all_kinds(instances, solutions):
    """Otherwise the tests below would show little."""
    refused = Counter(found.limits for found in solutions if isinstance(found, Infeasible))
    assert len(refused) == 6
    kept, designs = feasible(instances, solutions)
    robot_hz, edge_hz = column(designs, "robot_clock_hz"), column(designs, "edge_clock_hz")
    most = column(designs, "weight_bits") == kept.most_bits
    kinds = [
        robot_hz == kept.robot_hz,
        edge_hz == kept.edge_hz,
        (robot_hz < kept.robot_hz) & (edge_hz < kept.edge_hz),
        robot_hz == 0,
        edge_hz == 0,
    ]
    counts = [int((kind & ends).sum()) for kind in kinds for ends in (most, ~most)]
    # An idle robot has no reason to stop short of the most bits.
    assert counts.pop(7) == 0
    assert min(counts) > 50
    assert min(refused.values()) > 10


def test_designs_meet_every_limit(instances, solutions):
    kept, designs = feasible(instances, solutions)
    bits, robot_hz, edge_hz = (column(designs, name) for name in ("weight_bits", "robot_clock_hz", "edge_clock_hz"))
    delay_s, energy_j = delay_and_energy(kept, bits, robot_hz, edge_hz)
    np.testing.assert_allclose(column(designs, "delay_s"), delay_s, rtol=1e-12)
    np.testing.assert_allclose(column(designs, "energy_j"), energy_j, rtol=1e-12)
    assert (delay_s <= kept.delay_s * (1 + 1e-9)).all()
    assert (energy_j <= kept.energy_j * (1 + 1e-9)).all()
    assert (robot_hz <= kept.robot_hz).all()
    assert (edge_hz <= kept.edge_hz).all()
    assert ((bits >= 1) & (bits <= kept.most_bits)).all()


def test_no_search_finds_more_bits_or_less_energy(instances, solutions):
    widths = int(instances.most_bits.max())
    energies = searched_energies(instances, widths)
    allowed = np.arange(1, widths + 1) <= instances.most_bits[:, None]

    def most_bits(slack):
        return np.where(allowed & (energies <= instances.energy_j[:, None] * slack), np.arange(1, widths + 1), 0).max(1)

    solved = np.array([found.weight_bits if isinstance(found, Design) else 0 for found in solutions])
    assert (solved >= most_bits(1)).all()
    # The search is as good as 1e-5; what differs below that decides for hardly any instance.
    assert (solved <= most_bits(1 + 1e-5)).all()
    assert (solved == most_bits(1)).mean() > 0.999
    rows = np.flatnonzero(solved)
    found_j = column([solutions[row] for row in rows], "energy_j")
    searched_j = energies[rows, solved[rows] - 1]
    assert (found_j <= searched_j * (1 + 1e-9)).all()
    assert (found_j >= searched_j * (1 - 1e-5)).all()


def test_a_convex_solver_finds_the_same_clocks(instances, solutions):
    """In logarithms of the clocks delay and energy are convex: a geometric program, for SLSQP."""
    kept, designs = feasible(instances, solutions)
    both = np.flatnonzero((kept.robot_flop > 0) & (kept.edge_flop > 0))[:60]
    for row, design in zip(kept[both], (designs[number] for number in both), strict=True):
        caps = np.log([row.robot_hz, row.edge_hz])

        def figures(clocks, row=row, design=design, caps=caps):
            delay_s, energy_j = delay_and_energy(row, design.weight_bits, *np.exp(caps + clocks))
            return math.log(delay_s / row.delay_s), math.log(energy_j / row.energy_j)

        found = minimize(
            lambda clocks, figures=figures: figures(clocks)[1],
            x0=[0.0, 0.0],
            bounds=[(-12, 0)] * 2,
            constraints={"type": "ineq", "fun": lambda clocks, figures=figures: -figures(clocks)[0]},
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 200},
        )
        assert row.energy_j * math.exp(found.fun) == pytest.approx(design.energy_j, rel=1e-5)
        assert np.exp(caps + found.x) == pytest.approx([design.robot_clock_hz, design.edge_clock_hz], rel=2e-3)


RELAXED = {
    Limit.DELAY: lambda problem: replace(problem, delay_limit_s=problem.delay_limit_s * 1e6),
    Limit.ENERGY: lambda problem: replace(problem, energy_limit_j=math.inf),
    Limit.ROBOT_CLOCK: lambda problem: replace(problem, robot=replace(problem.robot, max_clock_hz=1e15)),
    Limit.EDGE_CLOCK: lambda problem: replace(problem, edge=replace(problem.edge, max_clock_hz=1e15)),
}


def test_the_limits_named_are_those_that_matter(instances, solutions):
    """Without all others there is still no design; without any one of them there is."""
    refused = [(n, found) for n, found in enumerate(solutions) if isinstance(found, Infeasible)][:1500]
    problems = problems_of(instances[[number for number, _ in refused]])
    for problem, (_, found) in zip(problems, refused, strict=True):
        without_others = problem
        for limit in set(Limit) - set(found.limits):
            without_others = RELAXED[limit](without_others)
        assert isinstance(solve(without_others), Infeasible), found
        alone_too_slow = {
            limit
            for limit, flop, machine in (
                (Limit.ROBOT_CLOCK, problem.robot_flop / 32, problem.robot),
                (Limit.EDGE_CLOCK, problem.edge_flop, problem.edge),
            )
            if flop / machine.flop_per_cycle / machine.max_clock_hz > problem.delay_limit_s
        }
        if len(alone_too_slow) == 2:
            assert alone_too_slow < set(found.limits)
            continue
        for limit in found.limits:
            assert isinstance(solve(RELAXED[limit](without_others)), Design), (found, limit)


def test_sentences_give_the_figures():
    slow = replace(paper_problem(BLIP2, 1.0), delay_limit_s=0.1)
    assert solve(slow).sentence == (
        "1 bit per weight takes 0.2606 s on the robot at its highest clock of 2 GHz, where 0.1 s are allowed for both"
    )
    both = replace(paper_problem(BLIP2, 0.5), delay_limit_s=0.3)
    assert solve(both).limits == (Limit.DELAY, Limit.ROBOT_CLOCK, Limit.EDGE_CLOCK)
    assert " robot at its highest clock of 2 GHz and 0.2085 s on the edge" in solve(both).sentence
    hungry = replace(paper_problem(BLIP2, 0.5), delay_limit_s=1.5)
    assert solve(replace(hungry, energy_limit_j=0.1)).sentence == (
        "1 bit per weight within 1.5 s takes at least 0.9866 J, where 0.1 J are allowed"
    )
    assert solve(replace(hungry, energy_limit_j=0.0)).limits == (Limit.ENERGY,)  # no time is long enough
    # The robot's cap leaves the edge a sixth of the time.
    capped = replace(paper_problem(BLIP2, 0.9), delay_limit_s=0.3, energy_limit_j=1.5)
    assert solve(capped).limits == (Limit.DELAY, Limit.ENERGY, Limit.ROBOT_CLOCK)
    assert "would do if the robot's clock could exceed 2 GHz" in solve(capped).sentence


def test_the_papers_machines_cost_what_it_says():
    edge_only = Problem(ROBOT, EDGE, 0.0, 12.8e9, delay_limit_s=0.01, energy_limit_j=math.inf)
    assert solve_at_full_clocks(edge_only).energy_j == pytest.approx(2.0)  # 1.56e-10 J per operation
    # All on the robot: 13.4 bits are within 3.5 s at 2 GHz; nothing rounds that up, and 13 need less than 2 GHz.
    design = solve(paper_problem(BLIP2, 1.0))
    cycles = 13 * 533.66e9 / (32 * 32)
    assert design.weight_bits == math.floor(3.5 * 2e9 * 32 * 32 / 533.66e9) == 13
    assert design.robot_clock_hz == pytest.approx(cycles / 3.5)
    assert design.edge_clock_hz == 0
    assert design.energy_j == pytest.approx(2e-29 * cycles**3 / 3.5**2)
    assert design.distortion_gap == pytest.approx((math.sqrt(1 + 4 / (2**12 - 1)) - 1) / 2 - 2**-13)
    nearly = paper_problem(BLIP2, 1.0, delay_limit_s=13.99 / 13 * cycles / 2e9)
    assert solve(nearly).weight_bits == 13


@pytest.mark.parametrize(("model", "share"), PAPER_SPLITS)
def test_the_papers_sweeps(model, share):
    """More time or energy never costs bits, and fixed clocks never have more: they need more energy for the same."""
    for sweep in (
        [paper_problem(model, share, delay_limit_s=limit_s) for limit_s in np.linspace(0.3, 6, 25).tolist()],
        [paper_problem(model, share, energy_limit_j=limit_j) for limit_j in np.geomspace(1e-3, 20, 25).tolist()],
    ):
        best = [found.weight_bits if isinstance(found, Design) else 0 for found in map(solve, sweep)]
        assert best == sorted(best)
        for problem, bits in zip(sweep, best, strict=True):
            fixed = solve_at_full_clocks(problem)
            cycles = problem.robot_flop / 32 / 32
            expected = [
                b
                for b in range(1, 33)
                if b * cycles / 2e9 + problem.edge_cycles / 1e10 <= problem.delay_limit_s
                and 2e-29 * b * cycles * 4e18 + 2e-28 * problem.edge_cycles * 1e20 <= problem.energy_limit_j
            ]
            assert (fixed.weight_bits if isinstance(fixed, Design) else 0) == max(expected, default=0) <= bits
            if isinstance(fixed, Infeasible):
                assert set(fixed.limits) <= {Limit.DELAY, Limit.ENERGY}
                assert fixed.limits
                assert fixed.sentence.startswith("1 bit per weight at the highest clocks takes ")


def test_random_widths_count_where_feasible():
    problem = paper_problem(BLIP2, 1.0)
    designs = random_designs(problem, np.random.default_rng(0))
    widths = Counter(design.weight_bits for design in designs)
    assert set(widths) == set(range(1, 14))
    assert 400 * 13 / 32 - 40 < len(designs) < 400 * 13 / 32 + 40
    assert all(design == design_at(problem, design.weight_bits) for design in designs)
    assert random_designs(problem, np.random.default_rng(0)) == designs
    assert random_designs(replace(problem, delay_limit_s=0.1), np.random.default_rng(0)) == ()


def positive(low, high):
    return st.floats(low, high).map(lambda exponent: 10**exponent)


def machines(lowest_hz, highest_hz):
    return st.builds(
        Machine,
        max_clock_hz=positive(lowest_hz, highest_hz),
        flop_per_cycle=positive(0, 4),
        power_w_per_hz3=positive(-32, -25),
        power_usage_effectiveness=st.floats(0.5, 3),
    )


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    st.builds(
        Problem,
        robot=machines(6, 12),
        edge=machines(6, 12),
        robot_flop=st.just(0.0) | positive(0, 15),
        edge_flop=st.just(0.0) | positive(0, 15),
        delay_limit_s=positive(-4, 4),
        energy_limit_j=st.just(0.0) | st.just(math.inf) | positive(-6, 6),
        most_bits=st.integers(1, 40),
    )
)
def test_any_problem_has_a_design_or_a_reason(problem):
    found = solve(problem)
    if isinstance(found, Infeasible):
        assert found.weight_bits == 1
        assert found.limits
        assert "allowed" in found.sentence
        assert problem.robot_flop + problem.edge_flop > 0
        return
    assert found.delay_s <= problem.delay_limit_s * (1 + 1e-9)
    assert found.energy_j <= problem.energy_limit_j * (1 + 1e-9)
    assert (found.robot_clock_hz == 0) == (problem.robot_flop == 0)
    assert (found.edge_clock_hz == 0) == (problem.edge_flop == 0)
    assert found.robot_clock_hz <= problem.robot.max_clock_hz
    assert found.edge_clock_hz <= problem.edge.max_clock_hz
    if problem.robot_flop == 0:
        assert found.weight_bits == problem.most_bits
    # It is the least energy for its bits, and just enough is enough.
    assume(found.energy_j > 0)
    assert solve(replace(problem, energy_limit_j=found.energy_j)) == found
    less = design_at(replace(problem, energy_limit_j=found.energy_j * (1 - 1e-9)), found.weight_bits)
    assert Limit.ENERGY in less.limits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delay_limit_s": 0.0}, "delay_limit_s"),
        ({"delay_limit_s": math.nan}, "delay_limit_s"),
        ({"energy_limit_j": -1.0}, "energy_limit_j"),
        ({"robot_flop": -1.0}, "robot_flop"),
        ({"edge_flop": math.inf}, "edge_flop"),
        ({"most_bits": 0}, "most_bits"),
        ({"full_bits": 4.5}, "full_bits"),
    ],
)
def test_impossible_problems_are_refused(change, message):
    with pytest.raises(PlanningError, match=message):
        replace(paper_problem(GIT, 0.5), **change)


def test_impossible_machines_shares_and_widths_are_refused():
    for name in ("max_clock_hz", "flop_per_cycle", "power_w_per_hz3", "power_usage_effectiveness"):
        for value in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(PlanningError, match=name):
                replace(ROBOT, **{name: value})
    with pytest.raises(PlanningError, match="robot_share"):
        paper_problem(GIT, 1.01)
    for bits in (0, 33):
        with pytest.raises(PlanningError, match="weight_bits"):
            design_at(paper_problem(GIT, 1.0), bits)
