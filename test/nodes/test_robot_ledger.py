"""The robot's ledger: results find their frames, the link is measured, and what never came back is counted."""

from __future__ import annotations

import math

import pytest

from laim_ros.nodes.ledger import Ledger, Question, SentFrame, SentProbe
from laim_ros.plan import Plan
from laim_ros.records import UNKNOWN_SEQUENCE, FrameResult

STAMP = (7, 9)


def send(ledger: Ledger, *sequences: int) -> None:
    """Frame n arrives at n seconds, and leaves half a second later as 1000 bytes."""
    for sequence in sequences:
        ledger.add(SentFrame(sequence, STAMP, float(sequence), sequence + 0.5, 1000))


def settle(ledger: Ledger, result: FrameResult, now_s: float, deadline_s: float = 0.0):
    return ledger.settle(result, STAMP, now_s, deadline_s)


def result(sequence: int, **fields) -> FrameResult:
    return FrameResult(texts=("a mug",), sequence=sequence, edge_s=0.25, **fields)


def test_the_parts_of_the_latency_add_up():
    ledger = Ledger()
    send(ledger, 3)
    report = settle(ledger, result(3), now_s=4.5, deadline_s=0.0)
    assert (report.sequence, report.packet_bytes) == (3, 1000)
    assert (report.robot_s, report.link_s, report.edge_s, report.latency_s) == (0.5, 0.75, 0.25, 1.5)
    assert (report.packets_sent, report.results_received, report.deadline_misses) == (1, 1, 0)
    assert (ledger.last_link_s, ledger.last_latency_s) == (0.75, 1.5)
    assert ledger.waiting == 0


def test_a_result_counts_once():
    ledger = Ledger()
    send(ledger, 1)
    assert settle(ledger, result(1), 2.0, 0.0) is not None
    assert settle(ledger, result(1), 2.0, 0.0) is None
    assert settle(ledger, result(9), 2.0, 0.0) is None
    assert ledger.answered == 1


def test_overtaken_frames_count_as_unanswered():
    ledger = Ledger()
    send(ledger, 1, 2, 3, 4)
    settle(ledger, result(3), 4.0, 0.0)
    assert (ledger.unanswered, ledger.waiting, ledger.deadline_misses) == (2, 1, 0)
    assert settle(ledger, result(2), 4.0, 0.0) is None


def test_sequence_numbers_wrap():
    ledger = Ledger()
    send(ledger, 2**32 - 1)
    send(ledger, 0)
    settle(ledger, result(0), 4.0, 0.0)
    assert (ledger.unanswered, ledger.waiting) == (1, 0)


def test_deadline_misses_count_what_is_late_and_what_never_came():
    ledger = Ledger()
    send(ledger, 1, 2, 3, 4)
    assert settle(ledger, result(1), now_s=1.9, deadline_s=1.0).deadline_misses == 0
    assert settle(ledger, result(2), now_s=3.1, deadline_s=1.0).deadline_misses == 1
    assert settle(ledger, result(4), now_s=4.9, deadline_s=1.0).deadline_misses == 2


def test_a_link_time_below_zero_is_noise():
    ledger = Ledger()
    send(ledger, 1)
    assert settle(ledger, result(1), now_s=1.6, deadline_s=0.0).link_s == 0.0


def test_the_link_estimate_follows_good_results_alone():
    ledger = Ledger()
    for sequence in range(20):
        size = 1000 * (1 + sequence % 4)
        ledger.add(SentFrame(sequence, STAMP, float(sequence), float(sequence), size))
        now_s = sequence + 0.25 + 0.01 + 8 * size / 1e6
        report = settle(ledger, result(sequence), now_s, 0.0)
    assert report.round_trip_s == pytest.approx(0.01, rel=0.05)
    assert report.goodput_bps == pytest.approx(1e6, rel=0.05)
    send(ledger, 100)
    settle(ledger, FrameResult(error="no", sequence=100, edge_s=0.0), now_s=900.0)
    send(ledger, 101)
    after = settle(ledger, FrameResult(texts=("a mug",), sequence=101), now_s=901.0)
    assert after.goodput_bps == report.goodput_bps


def test_a_robot_without_an_edge_does_not_grow():
    ledger = Ledger()
    send(ledger, *range(1000))
    assert ledger.waiting == 64
    assert (ledger.sent, ledger.unanswered) == (1000, 936)


def test_a_refusal_leaves_the_frame_to_another_edge():
    ledger = Ledger()
    send(ledger, 1, 2)
    refusal = FrameResult(error="no such split point here", sequence=2)
    assert settle(ledger, refusal, now_s=3.0) is None
    assert settle(ledger, refusal, now_s=3.0) is None
    assert (ledger.refused, ledger.waiting, ledger.unanswered) == (1, 1, 0)
    assert settle(ledger, result(1), now_s=3.4) is not None
    assert settle(ledger, result(2), now_s=3.5) is not None
    assert (ledger.answered, ledger.waiting, ledger.unanswered) == (2, 0, 0)


def test_a_refused_frame_is_given_up_without_counting_as_unanswered():
    ledger = Ledger()
    send(ledger, 1, 2)
    settle(ledger, FrameResult(error="no", sequence=1), now_s=3.0)
    settle(ledger, result(2), now_s=3.5)
    assert (ledger.refused, ledger.unanswered, ledger.waiting) == (1, 0, 0)


def test_a_result_of_another_image_settles_nothing():
    """As after a restart, or when a bag with old results is played."""
    ledger = Ledger()
    send(ledger, 1)
    assert ledger.settle(result(1), (7, 8), 2.0, 0.0) is None
    assert ledger.waiting == 1


def test_questions_of_overtaken_frames_come_back_once():
    ledger = Ledger()
    question = Question("what is it?", asked_s=0.5)
    ledger.add(SentFrame(1, STAMP, 1.0, 1.5, 1000, (question,)))
    ledger.add(SentFrame(2, STAMP, 2.0, 2.5, 1000, (Question("refused?", 1.0),)))
    send(ledger, 3)
    settle(ledger, FrameResult(error="no", sequence=2), now_s=3.0)
    settle(ledger, result(3), now_s=4.0)
    assert ledger.take_unanswered_questions() == [question]
    assert ledger.take_unanswered_questions() == []


def test_the_oldest_frame_under_way_tells_how_long_the_edge_is_silent():
    ledger = Ledger()
    assert ledger.oldest_waits_s(now_s=9.0) == 0.0
    send(ledger, 1, 2)
    assert ledger.oldest_waits_s(now_s=9.0) == 7.5
    settle(ledger, FrameResult(error="no", sequence=1), now_s=3.0)
    assert ledger.oldest_waits_s(now_s=9.0) == 6.5


def test_results_that_need_no_edge_count_too():
    ledger = Ledger()
    plan = Plan("output", weight_bits=4)
    own = SentFrame(5, STAMP, 1.0, 1.5, 0, plan=plan, wait_s=0.125, energy_j=2.0, energy_source="rapl")
    report = ledger.finished_here(own, deadline_s=0.4)
    assert (report.sequence, report.split_point, report.weight_bits, report.packet_bytes) == (5, "output", 4, 0)
    assert (report.robot_s, report.edge_s, report.latency_s, report.robot_wait_s) == (0.5, 0.0, 0.5, 0.125)
    assert math.isnan(report.link_s)
    assert (report.energy_j, report.energy_source) == (2.0, "rapl")
    ledger.count_repeated(latency_s=0.25, deadline_s=0.0)
    assert (ledger.answered, ledger.deadline_misses, ledger.last_latency_s) == (2, 1, 0.25)
    assert math.isnan(ledger.last_link_s)


def test_a_result_that_does_not_say_how_long_it_took_is_taken_all_the_same():
    ledger = Ledger()
    send(ledger, 1)
    report = settle(ledger, FrameResult(texts=("a mug",), sequence=1), now_s=2.0, deadline_s=0.0)
    assert report.latency_s == 1.0
    assert math.isnan(report.goodput_bps)


def test_a_refused_frame_misses_its_deadline_once():
    ledger = Ledger()
    send(ledger, 1, 2)
    settle(ledger, FrameResult(error="too old", sequence=1), now_s=1.6, deadline_s=5.0)
    assert settle(ledger, result(2), now_s=2.6, deadline_s=5.0).deadline_misses == 1


# What a report tells of the frame.


def test_a_report_tells_the_plan_and_the_waits_of_its_own_frame():
    ledger = Ledger()
    first, second = Plan("vit.2", 4, 2), Plan("input", codec="jpeg75")
    ledger.add(SentFrame(1, STAMP, 1.0, 1.5, 1000, plan=first, wait_s=0.375, energy_j=3.0, energy_source="ina"))
    ledger.add(SentFrame(2, STAMP, 2.0, 2.5, 9000, plan=second))
    report = settle(ledger, result(1, wait_s=0.125), now_s=3.0)
    assert (report.split_point, report.weight_bits, report.feature_bits, report.codec) == ("vit.2", 4, 2, "plain")
    assert (report.robot_wait_s, report.edge_wait_s) == (0.375, 0.125)
    assert (report.energy_j, report.energy_source, report.probe) == (3.0, "ina", False)
    report = settle(ledger, result(2), now_s=4.0)
    assert (report.split_point, report.codec, report.energy_source) == ("input", "jpeg75", "")
    assert math.isnan(report.energy_j)


# Silence.


def test_silence_is_reported_after_a_second_and_grows_until_an_answer():
    ledger = Ledger()
    assert ledger.silence(now_s=100.0) is None
    send(ledger, 1)  # leaves at 1.5
    assert ledger.silence(now_s=2.5) is None
    report = ledger.silence(now_s=2.625)
    assert (report.sequence, report.unanswered_s, report.packets_sent) == (UNKNOWN_SEQUENCE, 1.125, 1)
    assert math.isnan(report.latency_s)
    # Also while more packets are sent than the ledger keeps.
    send(ledger, *range(2, 200))
    assert ledger.silence(now_s=201.5).unanswered_s == 200.0
    assert settle(ledger, result(199), now_s=202.0).unanswered_s == 0.0
    assert ledger.silence(now_s=300.0) is None


def test_what_was_sent_after_the_answered_packet_still_waits():
    ledger = Ledger()
    send(ledger, 1, 2, 3, 4)
    assert settle(ledger, result(2), now_s=4.75).unanswered_s == 1.25
    assert ledger.silence(now_s=5.5).unanswered_s == 2.0


def test_a_silence_lapses_when_nothing_can_be_under_way_any_more():
    """At `output` nothing else is sent, and without probes no answer would end it."""
    ledger = Ledger()
    send(ledger, 1, 2)  # the second leaves at 2.5
    ledger.let_silence_lapse(now_s=8.5)
    assert ledger.silence(now_s=8.5).unanswered_s == 7.0
    ledger.let_silence_lapse(now_s=8.75)
    assert ledger.silence(now_s=8.75) is None
    send(ledger, 20)
    assert ledger.silence(now_s=22.5).unanswered_s == 2.0, "counted from the new one"


def test_a_refusal_is_a_sign_of_life():
    ledger = Ledger()
    send(ledger, 1)
    settle(ledger, FrameResult(error="no such split point here", sequence=1), now_s=2.0)
    assert ledger.silence(now_s=60.0) is None


# Probes.


def probe(sequence: int) -> SentProbe:
    return SentProbe(sequence, STAMP, float(sequence), 24)


def echo(sequence: int) -> FrameResult:
    return FrameResult(prompts=(), sequence=sequence, edge_s=0.25, probe=True)


def test_a_probe_measures_the_link_and_is_no_frame():
    ledger = Ledger()
    send(ledger, 1)
    ledger.add_probe(probe(1))  # numbers of their own
    report = settle(ledger, echo(1), now_s=1.5, deadline_s=0.1)
    assert (report.sequence, report.probe, report.packet_bytes, report.split_point) == (1, True, 24, "")
    assert (report.robot_s, report.link_s, report.edge_s, report.latency_s) == (0.0, 0.25, 0.25, 0.5)
    assert report.round_trip_s == 0.25
    assert (report.packets_sent, report.results_received, report.deadline_misses) == (1, 0, 0)
    assert ledger.waiting == 1
    assert math.isnan(ledger.last_latency_s)
    assert settle(ledger, echo(1), now_s=1.6) is None
    assert settle(ledger, result(1), now_s=2.0).probe is False


def test_an_unanswered_probe_is_a_silence_and_a_later_answer_ends_it():
    ledger = Ledger()
    ledger.add_probe(probe(2))
    assert ledger.newest_probe_waits_s(now_s=5.0) == 3.0
    ledger.add_probe(probe(8))
    assert ledger.newest_probe_waits_s(now_s=9.0) == 1.0
    assert ledger.silence(now_s=9.0).unanswered_s == 7.0
    assert settle(ledger, echo(8), now_s=9.0).unanswered_s == 0.0
    assert ledger.newest_probe_waits_s(now_s=9.0) == math.inf
    assert settle(ledger, echo(2), now_s=9.0) is None


def test_probes_that_are_never_answered_are_forgotten_and_the_silence_is_not():
    ledger = Ledger()
    for sequence in range(100):
        ledger.add_probe(probe(sequence))
    assert settle(ledger, echo(0), now_s=100.0) is None
    assert ledger.silence(now_s=100.0).unanswered_s == 100.0


def test_an_answered_probe_tells_that_an_older_frame_waits_for_the_edge_and_not_for_the_link():
    """As after an outage: the frame was lost in it, and at `output` no other frame follows that would overtake it."""
    ledger = Ledger()
    send(ledger, 1)
    ledger.add_probe(probe(30))
    assert settle(ledger, echo(30), now_s=30.5).unanswered_s == 0.0
    assert ledger.silence(now_s=60.0) is None
    assert ledger.oldest_waits_s(now_s=60.0) == 58.5
    assert settle(ledger, result(1), now_s=60.0) is not None
