"""The robot's ledger: results find their frames, the link is measured, and what never came back is counted."""

from __future__ import annotations

import math

import pytest

from laim_ros.nodes.ledger import Ledger, Question, SentFrame
from laim_ros.records import FrameResult

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
    ledger.finished_here(latency_s=0.5, deadline_s=0.4)
    ledger.finished_here(latency_s=0.5, deadline_s=0.0)
    assert (ledger.answered, ledger.deadline_misses, ledger.last_latency_s) == (2, 1, 0.5)


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
