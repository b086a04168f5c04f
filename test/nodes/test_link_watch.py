"""When a probe is sent, and how large: enough to learn the link from, and too little to be in the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from laim_ros.nodes.ledger import Ledger, SentFrame, SentProbe
from laim_ros.nodes.link_watch import Probing, large_probe_bytes
from laim_ros.records import FrameResult, LinkReport

STAMP = (1, 2)


class Link:
    """A robot on a link of known goodput and round trip, in simulated time."""

    def __init__(self, goodput_bps: float, round_trip_s: float) -> None:
        self.ledger = Ledger()
        self.probing = Probing(self.ledger)
        self.now_s = 100.0
        self.noise_s: Callable[[], float] = lambda: 0.0
        self.goodput_bps, self._round_trip_s = goodput_bps, round_trip_s
        self._sequence = itertools.count()

    def probe(self, period_s: float) -> int | None:
        """Sends the probe that is due, if one is; its answer comes. Returns its size."""
        packet_bytes = self.probing.take_due_bytes(period_s, self.now_s)
        if packet_bytes is not None:
            sequence = next(self._sequence)
            self.ledger.add_probe(SentProbe(sequence, STAMP, self.now_s, packet_bytes))
            self.probing.probe_came(self._answer(FrameResult(sequence=sequence, edge_s=0.0, probe=True), packet_bytes))
        return packet_bytes

    def frame(self, packet_bytes: int) -> None:
        """Sends a frame, whose result comes."""
        sequence = next(self._sequence)
        self.ledger.add(SentFrame(sequence, STAMP, self.now_s, self.now_s, packet_bytes))
        self._answer(FrameResult(texts=("a mug",), sequence=sequence, edge_s=0.0), packet_bytes)
        self.probing.frame_came()

    def _answer(self, result: FrameResult, packet_bytes: int) -> LinkReport:
        self.now_s += self.noise_s() + self._round_trip_s + 8 * packet_bytes / self.goodput_bps
        return self.ledger.settle(result, STAMP, self.now_s, 0.0)


@pytest.mark.parametrize("frame_bytes", [100, 5_000])
def test_goodput_becomes_known_while_all_frames_are_alike(frame_bytes):
    link = Link(goodput_bps=1e6, round_trip_s=0.02)
    for _ in range(40):
        link.frame(frame_bytes)
        link.probe(period_s=60.0)
        link.now_s += 0.1
    assert link.ledger.goodput() == pytest.approx(1e6, rel=0.01)
    assert link.ledger.probes_answered < 20


def test_probes_grow_until_goodput_stands_out_of_the_noise():
    """256 bytes take 0.4 ms here, which nobody sees behind 3 ms of noise."""
    link = Link(goodput_bps=5e6, round_trip_s=0.01)
    random = np.random.default_rng(4)
    link.noise_s = lambda: random.exponential(0.003)
    for _ in range(120):
        link.frame(100)
        link.probe(period_s=60.0)
    assert link.ledger.goodput() == pytest.approx(5e6, rel=0.3)


def test_goodput_becomes_known_while_nothing_else_is_sent():
    link = Link(goodput_bps=2e5, round_trip_s=0.1)
    for _ in range(40):
        link.probe(period_s=1.0)
        link.now_s += 0.5
    assert link.ledger.goodput() == pytest.approx(2e5, rel=0.01)


def test_a_link_that_sags_and_recovers_is_followed_while_all_frames_are_alike():
    link = Link(goodput_bps=4e6, round_trip_s=0.02)
    for goodput_bps in (4e6, 2e5, 4e6):
        link.goodput_bps = goodput_bps
        for _ in range(80):  # eight seconds; what is known would be remembered for 26
            link.frame(100)
            link.probe(period_s=1.0)
            link.now_s += 0.1
        assert link.ledger.goodput() == pytest.approx(goodput_bps, rel=0.01)
        assert not link.ledger.link_changed


def test_the_period_is_kept_once_goodput_is_known_and_sizes_take_turns():
    link = Link(goodput_bps=1e6, round_trip_s=0.02)
    while link.ledger.goodput() is None:
        link.frame(100)
        link.probe(period_s=60.0)
    sizes = []
    for _ in range(4):
        link.now_s += 59.0
        link.frame(100)
        link.frame(100)
        assert link.probe(period_s=60.0) is None
        link.now_s += 1.0
        sizes.append(link.probe(period_s=60.0))
    assert sorted(sizes) == pytest.approx([24, 24, 6250, 6250], rel=0.01)
    assert sizes[0] == sizes[2] != sizes[1]


def test_no_probe_is_sent_where_none_is_asked_for():
    link = Link(goodput_bps=1e6, round_trip_s=0.02)
    link.frame(100)
    link.frame(100)
    assert link.probe(period_s=0.0) is None


def test_a_probe_that_is_not_answered_is_waited_for():
    link = Link(goodput_bps=1e6, round_trip_s=0.02)
    assert link.probing.take_due_bytes(0.5, 100.0) == 24
    link.ledger.add_probe(SentProbe(0, STAMP, 100.0, 24))
    for _ in range(3):
        link.probing.frame_came()
    assert link.probing.take_due_bytes(0.5, 104.9) is None
    assert link.probing.take_due_bytes(0.5, 105.0) == 256


@pytest.mark.parametrize(
    ("goodput_bps", "packet_bytes"), [(1e3, 256), (1e5, 625), (1e6, 6250), (1e7, 16384), (1e10, 16384)]
)
def test_the_larger_probe_takes_fifty_milliseconds_at_most(goodput_bps, packet_bytes):
    assert large_probe_bytes(goodput_bps) == packet_bytes
