"""The demo's frames are made of what is told of images; probes, silences and own results add nothing to them."""

from __future__ import annotations

import math

from laim_ros.demo.frames import Matcher
from laim_ros.records import UNKNOWN_SEQUENCE, FrameResult, LinkReport, Reference


def test_probes_and_silences_belong_to_no_frame():
    matcher = Matcher(lambda: 100.0)
    matcher.add_reference(1, Reference("a red mug"))
    matcher.add_result(1, FrameResult(prompts=(), sequence=3, probe=True))
    matcher.add_link(1, LinkReport(sequence=3, latency_s=9.0, probe=True))
    matcher.add_link(1, LinkReport(sequence=UNKNOWN_SEQUENCE, unanswered_s=2.0))
    assert matcher.take() == []
    matcher.add_result(1, FrameResult(texts=("a red mug",), split_point="qformer"))
    assert matcher.take() == []  # its link report is still to come
    matcher.add_link(1, LinkReport(sequence=1, link_s=0.02, latency_s=0.06))
    assert [frame.latency_s for frame in matcher.take()] == [0.06]


def test_a_frame_that_needed_no_edge_has_no_link_in_whatever_order_things_come():
    own = FrameResult(texts=("a red mug",), split_point="output", robot_s=0.5, link_s=0.0, edge_s=0.0)
    report = LinkReport(split_point="output", robot_s=0.4, link_s=math.nan, edge_s=0.0, latency_s=0.4)
    matcher = Matcher(lambda: 100.0)
    for stamp_ns, report_first in ((1, True), (2, False)):
        matcher.add_reference(stamp_ns, Reference("a red mug"))
        if report_first:
            matcher.add_link(stamp_ns, report)
        matcher.add_result(stamp_ns, own)
        (frame,) = matcher.take()
        assert (frame.robot_s, frame.link_s, frame.latency_s) == (0.5, 0.0, 0.5)
        if not report_first:
            matcher.add_link(stamp_ns, report)
    assert not matcher._waiting
