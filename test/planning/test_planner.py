"""Whole stories through `Planner`: what comes in, and which plan it makes of that."""

from __future__ import annotations

import math

import pytest
from small_world import (
    CALIBRATED,
    GOALS,
    HEAD_S,
    JPEG,
    QUALITY,
    START,
    edge_profile,
    quality_table,
    robot_profile,
    story,
    whole_robot,
)

from laim_ros.plan import Plan
from laim_ros.planning import Allowed, Battery, Goals, Planner, StageTimes
from laim_ros.planning.observations import STALE_S
from laim_ros.records import UNKNOWN_SEQUENCE, LinkReport


def told(planner: Planner, now_s: float) -> str:
    return planner.decide(now_s).report.remarks


# Profiles come and go.


def test_without_profiles_there_is_nothing_to_decide_and_that_is_said() -> None:
    planner = Planner(GOALS, Allowed(), START, 0.0)
    planner.observe_battery(Battery(), 0.0)
    planner.observe_link(LinkReport(0, "qformer", 8, 8, "plain", 900, 0.1, 0.001, 0.04), 0.1)
    assert planner.decide(0.2) is None
    assert planner.trouble == "no profile of the robot has come yet"
    planner.set_profiles(whole_robot(), edge_profile(), QUALITY)
    decision = planner.decide(0.3)
    assert decision.plan == Plan("vision", 8, 8)
    assert decision.changed
    assert planner.trouble == ""
    assert "no packet" not in decision.report.remarks  # one came before the profiles did


def test_an_edge_that_comes_late_is_made_use_of() -> None:
    planner = Planner(GOALS, Allowed(), START, 0.0)
    planner.set_profiles(whole_robot(), None, QUALITY)
    alone = planner.decide(0.0)
    assert alone.plan.split_point == "output"
    assert "no profile of the edge" in alone.report.remarks
    planner.set_profiles(whole_robot(), edge_profile(), QUALITY)
    both = planner.decide(10.0)
    assert both.plan == Plan("vision", 8, 8)
    assert "profile" not in both.report.remarks
    planner.set_profiles(robot_profile(), None, QUALITY)
    assert planner.decide(20.0) is None
    assert "no profile of the edge" in planner.trouble


def test_profiles_and_tables_of_another_model_are_named_and_done_without() -> None:
    planner = Planner(GOALS, Allowed(), START, 0.0)
    planner.set_profiles(whole_robot(), edge_profile(model="other", model_id="bb"), QUALITY)
    alone = planner.decide(0.0)
    assert alone.plan.split_point == "output"
    assert "the edge runs another model (other) than the robot (mini)" in alone.report.remarks
    planner.set_profiles(robot_profile(), edge_profile(model="other", model_id="bb"), QUALITY)
    assert planner.decide(1.0) is None
    assert "another model" in planner.trouble
    planner.set_profiles(whole_robot(), edge_profile(), quality_table({START: (1.0, 0.0)}, model="x", model_id="bb"))
    decision = planner.decide(2.0)
    assert "the quality table is of another model (x): plans are ranked by theory" in decision.report.remarks
    assert "theory" in decision.report.quality_source


def test_times_of_another_width_are_said_to_be_so() -> None:
    robot = robot_profile(times=(StageTimes(4, HEAD_S),))
    planner = Planner(GOALS, Allowed(split_points=("vision",)), START, 0.0)
    planner.set_profiles(robot, edge_profile(), quality_table({Plan("vision", 4, 8): (9.0, 0.1)}))
    assert "never timed" not in told(planner, 0.0)
    planner.set_allowed(Allowed(split_points=("vision",), weight_bits=(8,)))
    planner.set_profiles(robot, edge_profile(), quality_table({Plan("vision", 8, 8): (9.0, 0.1)}))
    assert "8 bits per weight were never timed" in told(planner, 1.0)


# The link.


def test_a_link_that_sags_gets_a_smaller_packet_and_one_that_recovers_the_better_plan_again() -> None:
    run = story()
    assert run.run(20).plan == Plan("vision", 8, 8)
    run.goodput_bps = 100e3
    sagging = run.run(3)
    assert sagging.plan == START
    assert sagging.report.feasible
    assert sagging.report.reason.startswith(
        "link 100 kbit/s: qformer at 8 bits needs 187 ms, vision at 8 bits 1.5 s of"
    )
    run.goodput_bps = 300e3
    assert run.run(30).plan == JPEG
    run.goodput_bps = 20e6
    assert run.run(30).plan == Plan("vision", 8, 8)
    assert run.changes <= 5


def test_a_silent_link_leaves_everything_to_the_robot_until_it_answers() -> None:
    run = story()
    run.run(20)
    run.goodput_bps = 0
    silent = run.run(3)
    assert silent.plan.split_point == "output"
    assert silent.report.feasible
    assert silent.report.reason.startswith("link silent for ")
    assert run.run(30).plan.split_point == "output"
    run.goodput_bps = 20e6
    assert run.run(5).plan == Plan("vision", 8, 8)


def test_a_silent_link_and_no_way_around_it_is_said_to_be_infeasible() -> None:
    run = story(robot_profile())
    run.run(20)
    run.goodput_bps = 0
    silent = run.run(4)
    assert not silent.report.feasible
    assert silent.report.feasible_choices == 0
    assert silent.report.reason.startswith("no plan keeps all limits; link silent for ")
    assert silent.plan == JPEG  # all are late alike: the cheapest


def test_a_silence_goes_on_until_somebody_says_otherwise() -> None:
    run = story()
    run.run(20)
    run.planner.observe_link(LinkReport(UNKNOWN_SEQUENCE, unanswered_s=1.5), run.now_s)
    sent = run.planner.decide(run.now_s + 5).costs.link_s
    assert max(sent) > 6
    assert run.planner.plan.split_point == "output"
    answered = LinkReport(0, packet_bytes=500, link_s=0.01, probe=True)
    run.planner.observe_link(answered, run.now_s + 6)
    assert max(run.planner.decide(run.now_s + 10).costs.link_s) < 0.1


def test_where_nothing_is_in_time_the_least_late_plan_runs_though_it_costs_more() -> None:
    run = story(robot_profile(radio_w=0.0), goals=Goals(deadline_s=0.05))
    assert run.run(20).plan == JPEG
    run.goodput_bps = 20e3
    decision = run.run(10)
    assert decision.plan == Plan("qformer", 8, 2)
    assert not decision.report.feasible


def test_plans_of_the_same_short_name_are_told_apart() -> None:
    quality = quality_table({Plan("qformer", 8, 8): (900.0, 0.1), Plan("qformer", 32, 8): (900.0, 0.0)})
    run = story(goals=Goals(deadline_s=0.15), quality=quality)
    reason = run.run(1).report.reason
    assert "qformer at 8 bits (plain), weights at 8 bits needs 115 ms, " in reason
    assert reason.endswith("qformer at 8 bits (plain), weights at 32 bits 175 ms of 150 ms")


def test_before_any_packet_the_link_counts_as_free_and_old_news_as_true_and_both_are_said() -> None:
    planner = Planner(GOALS, Allowed(), START, 0.0)
    planner.set_profiles(whole_robot(), edge_profile(), QUALITY)
    assert "no packet has come back yet: the link counts as free of cost" in told(planner, 0.0)
    planner.observe_link(LinkReport(0, "vision", 8, 8, "plain", 18_000, 0.05, 4.0, 0.04), 1.0)
    assert planner.decide(1.0).plan != Plan("vision", 8, 8)
    assert "no news of the link" not in told(planner, 10.0)
    # Frames that the robot finishes by itself tell nothing of the link.
    for number in range(1, 20):
        planner.observe_link(LinkReport(number, "output", 8, 8, robot_s=0.26, edge_s=0.0), 1.0 + number)
    assert "no news of the link for 19.0 s: it counts as it was" in told(planner, 20.0)
    assert planner.decide(20.0).plan != Plan("vision", 8, 8)
    assert "no news of the link" not in told(planner, -1000.0)  # the clock was set back
    assert "no news of the link for 20.0 s" in told(planner, -980.0)


@pytest.mark.parametrize("goodput_bps", [0.4e6, 1.2e6])
def test_plans_do_not_flap_on_a_noisy_link_near_the_border(goodput_bps: float) -> None:
    """Ten minutes; vision keeps 0.3 s from 0.8 Mbit/s on, with 15 % to spare from 1.1 Mbit/s on."""
    run = story(period_s=1.0)
    run.goodput_bps, run.noise = goodput_bps, 0.3
    run.run(600)
    assert 1 <= run.changes <= 40
    changed_s, plan = -math.inf, START
    for number, decision in enumerate(run.decisions):
        now_s = float(number)
        if decision.changed:
            row = decision.choices.index(plan)
            selection = decision.selection
            still_feasible = selection.timely[row] and selection.affordable[row]
            assert now_s - changed_s >= GOALS.dwell_s or not still_feasible
            changed_s, plan = now_s, decision.plan


def test_a_plan_in_force_stays_while_it_keeps_the_deadline_though_nothing_is_to_spare() -> None:
    """Others have more to spare and cost less, but are worse."""
    run = story()
    run.goodput_bps = 2e6
    assert run.run(20).plan == Plan("vision", 8, 8)
    run.goodput_bps = 0.86e6  # 51 + 10 + 167 + 41 ms = 0.27 s, above 0.3 s / 1.15
    decision = run.run(20)
    assert decision.plan == Plan("vision", 8, 8)
    assert 0.3 / 1.15 < decision.report.delay_s <= 0.3
    assert run.changes == 1


# Robot and edge.


def test_a_throttled_robot_gets_a_plan_that_leaves_more_to_the_edge() -> None:
    run = story()
    run.goodput_bps = 1.2e6
    assert run.run(20).plan == Plan("vision", 8, 8)
    run.robot_slower = 3.0
    decision = run.run(5)
    assert decision.plan == JPEG
    assert run.planner.corrections.robot == pytest.approx(3.0)
    run.robot_slower = 1.0  # which pictures cannot show, so that it is tried again after a while
    assert run.run(STALE_S / 2).plan == JPEG
    assert run.run(STALE_S).plan == Plan("vision", 8, 8)


def test_a_busy_edge_leaves_the_frame_to_the_robot() -> None:
    run = story()
    run.run(20)
    run.edge_slower = 8.0
    assert run.run(5).plan.split_point == "output"


def test_ratios_begin_anew_with_other_profiles_and_stay_with_the_same_ones() -> None:
    run = story()
    run.robot_slower = 3.0
    run.run(10)
    planner = run.planner
    assert planner.corrections.robot == pytest.approx(3.0)
    planner.set_profiles(whole_robot(), edge_profile(), QUALITY)
    assert planner.corrections.robot == pytest.approx(3.0)
    slower = {name: 3 * seconds for name, seconds in {**HEAD_S, "output": 0.2}.items()}
    planner.set_profiles(whole_robot(times=(StageTimes(8, slower),)), edge_profile(), QUALITY)
    assert planner.corrections.robot == 1.0


def test_measured_energy_corrects_the_figures_and_names_its_source() -> None:
    planner = Planner(GOALS, Allowed(), START, 0.0)
    planner.set_profiles(whole_robot(), edge_profile(), QUALITY)
    assert planner.decide(0.0).report.energy_source == "assumed"
    facts = {"packet_bytes": 18_000, "robot_s": 0.051, "link_s": 0.01, "edge_s": 0.041, "energy_source": "rapl"}
    for number in range(9):
        report = LinkReport(number, "vision", 8, 8, "plain", **facts, energy_j=2 * 0.51, packets_sent=number)
        planner.observe_link(report, 1.0 + number)
    decision = planner.decide(10.0)
    assert decision.report.energy_source == "rapl"
    assert decision.report.energy_j == pytest.approx(2 * 0.51, abs=0.05)
    facts["energy_source"] = "broken"
    for number in range(9):  # a meter that runs backwards tells nothing
        planner.observe_link(LinkReport(number, "vision", 8, 8, "plain", **facts, energy_j=-3.0), 11.0 + number)
    report = planner.decide(20.0).report
    assert report.energy_j == pytest.approx(2 * 0.51, abs=0.05)
    assert report.energy_source == "rapl"


def test_at_input_the_loaded_head_stays_and_at_output_the_bits_of_the_features() -> None:
    allowed = Allowed(split_points=("input",))
    planner = Planner(GOALS, allowed, Plan("qformer", 4, 2), 0.0)
    planner.set_profiles(whole_robot(), edge_profile(), QUALITY)
    decision = planner.decide(0.0)
    assert decision.plan == Plan("input", 4, 2, "jpeg90")
    assert not planner.decide(9.0).changed
    planner.set_allowed(Allowed(split_points=("output",)))
    assert planner.decide(20.0).plan == Plan("output", 8, 2)
    assert not planner.decide(30.0).changed


def test_a_codec_with_a_number_of_its_own_leaves_the_bits_of_the_features_and_is_named_by_it() -> None:
    planner = Planner(GOALS, Allowed(), Plan("output", 8, 16), 0.0)
    profiles = robot_profile(calibrations=CALIBRATED), edge_profile(calibrations=CALIBRATED)
    planner.set_profiles(*profiles, quality_table({Plan("qformer", 8, 32, "klt12"): (30.0, 0.1)}))
    decision = planner.decide(0.0)
    assert decision.plan == Plan("qformer", 8, 16, "klt12")
    assert "qformer at klt12 needs" in decision.report.reason
    assert not planner.decide(10.0).changed


def test_refused_plans_are_left_out_for_a_while_and_the_others_weighed_by_their_own_figures() -> None:
    run = story(plan=Plan("qformer", 8, 2))
    planner = run.planner
    planner.refuse(Plan("vision", 8, 8), run.now_s)
    assert run.run(0.5).plan.split_point == "input"  # the best that is left
    assert run.run(28).plan.split_point == "input"
    decision = run.run(5)
    assert decision.plan == Plan("vision", 8, 8)
    for plan in decision.choices.plans:
        planner.refuse(plan, run.now_s)
    planner.plan = Plan("vit.1", 1, 1)
    assert planner.decide(run.now_s) is None
    assert "refused every plan" in planner.trouble


def test_a_clock_that_was_set_back_does_not_hold_a_plan() -> None:
    run = story()
    run.run(20)
    run.goodput_bps = 100e3
    assert run.run(10).plan == START
    run.now_s -= 3600
    run.goodput_bps = 20e6
    assert run.run(60).plan == Plan("vision", 8, 8)


def test_frames_that_overlap_are_not_counted_as_lost() -> None:
    """Every second answer overtakes the one before it, and none is missing."""
    run = story()
    run.run(5)
    first = run.frames
    for step in range(200):
        sequence = first + 1 + (step ^ 1)
        report = LinkReport(sequence, "vision", 8, 8, "plain", 18_000, 0.05, 0.05, 0.04, packets_sent=sequence + 3)
        run.planner.observe_link(report, run.now_s + 0.1 * (1 + step))
    assert run.planner.frame_period_s == pytest.approx(0.1, rel=0.5)


def test_pictures_that_are_larger_than_the_tables_say_nothing_of_features() -> None:
    run = story()
    run.run(20)
    before = run.planner.corrections
    for step in range(12):
        run.frames += 1
        report = LinkReport(run.frames, "input", 32, 8, "jpeg90", 60_000, 0.03, 1.2, 0.05)
        run.planner.observe_link(report, run.now_s + 0.1 * step)
    after = run.planner.corrections
    assert after.picture_bytes > 5
    assert after.picture_robot > 3
    assert (after.packet_bytes, after.robot) == (before.packet_bytes, before.robot)
