"""The robot's eye on its link between frames: probes that measure it, and reports of its silence."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage

from laim_ros.codec import HEADER_BYTES, Packet, pack
from laim_ros.codec.packet import PROBE
from laim_ros.nodes import messages, qos
from laim_ros.nodes.ledger import Ledger, SentProbe
from laim_ros.nodes.lifecycle import LaimNode
from laim_ros.nodes.publishing import LinkPublisher
from laim_ros.records import LinkReport

_LOOK_PERIOD_S = 0.1
_SILENCE_PERIOD_S = 0.5
_SEQUENCES = 1 << 32

_PATIENCE_S = 5.0
"""How long an answer is waited for before another probe is sent: a queue that stands still should not grow."""

_SENDING_S = 0.05
_SMALLEST_LARGE_BYTES, _LARGEST_BYTES = 256, 16384
_FRAMES_PER_PROBE = 2
"""Frames after which a probe is due while goodput is unknown, or no longer true. The estimate sees a second size where
it makes up a tenth of the packets; every other probe has it, and with three frames to each it falls short at times."""


class Probing:
    """Decides when a probe is due, and of what size; no ROS in here.

    Small and larger ones take turns, because goodput shows only in the difference of two sizes.

    Args:
        ledger: of the packets under way.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._last_s = -math.inf
        self._large_next = False
        self._large_bytes = _SMALLEST_LARGE_BYTES
        self._frames = 0

    def frame_came(self) -> None:
        """Counts a frame that came back."""
        self._frames += 1

    def probe_came(self, report: LinkReport) -> None:
        """Learns from a probe that came back how large the larger ones may be."""
        goodput_bps = self._ledger.goodput()
        if goodput_bps is not None:
            self._large_bytes = large_probe_bytes(goodput_bps)
        elif report.packet_bytes > HEADER_BYTES:
            # What hides goodput is noise. Until a larger one stands out of it, each may be twice as large.
            sending_s = report.link_s - report.round_trip_s
            if sending_s < _SENDING_S / 2:
                self._large_bytes = min(2 * self._large_bytes, _LARGEST_BYTES)
            elif sending_s > _SENDING_S:
                self._large_bytes = max(self._large_bytes // 2, _SMALLEST_LARGE_BYTES)

    def take_due_bytes(self, period_s: float, now_s: float) -> int | None:
        """Size of the probe to be sent now, with its header; None where none is due.

        Args:
            period_s: time from one probe to the next; 0 is for ever.
            now_s: on the robot's steady clock.
        """
        if not period_s or self._ledger.newest_probe_waits_s(now_s) < _PATIENCE_S:
            return None
        doubtful = self._ledger.goodput() is None or self._ledger.link_changed
        wanted = doubtful and self._frames >= _FRAMES_PER_PROBE
        if not wanted and now_s - self._last_s < period_s:
            return None
        self._last_s, self._frames = now_s, 0
        large, self._large_next = self._large_next, not self._large_next
        return self._large_bytes if large else HEADER_BYTES


def large_probe_bytes(goodput_bps: float) -> int:
    """What a link of this goodput carries in 50 ms, so that no frame waits long behind it; from 256 to 16384."""
    return int(min(max(_SENDING_S * goodput_bps / 8, _SMALLEST_LARGE_BYTES), _LARGEST_BYTES))


class LinkWatch:
    """Sends the probes that are due and reports silence, between `begin` and `end`.

    Args:
        node: the robot.
        links: where reports go.
        period_s: seconds between probes; asked each time.
    """

    def __init__(self, node: LaimNode, links: LinkPublisher, period_s: Callable[[], float]) -> None:
        self._node, self._links, self._period_s = node, links, period_s
        events = qos.publisher_events(node, "laim/probe")
        self._probes = node.create_publisher(CompressedImage, "laim/probe", qos.PROBE, event_callbacks=events)
        # It goes on over activations, so that late answers fit no newer probe.
        self._sequence = 0
        self._ledger = Ledger()
        self._probing = Probing(self._ledger)
        self._next_silence_s = -math.inf
        self._timer: Timer | None = None

    def begin(self, ledger: Ledger) -> None:
        """Looks ten times a second from now on."""
        self._ledger, self._probing = ledger, Probing(ledger)
        self._timer = self._node.create_wall_timer(_LOOK_PERIOD_S, self._look)

    def end(self) -> None:
        """Stops looking, if it has begun."""
        timer, self._timer = self._timer, None
        if timer is not None:
            self._node.destroy_timer(timer)

    def frame_came(self) -> None:
        """Counts a frame that came back; a good moment for a probe, because often nothing else is under way."""
        self._probing.frame_came()
        self._probe_if_due(time.perf_counter())

    def probe_came(self, report: LinkReport) -> None:
        """Learns from a probe that came back."""
        self._probing.probe_came(report)

    def _look(self) -> None:
        now_s = time.perf_counter()
        self._probe_if_due(now_s)
        if not self._period_s():
            self._ledger.let_silence_lapse(now_s)
        if now_s < self._next_silence_s:
            return
        report = self._ledger.silence(now_s)
        if report is not None:
            self._next_silence_s = now_s + _SILENCE_PERIOD_S
            self._links.publish(self._node.stamp_now(), report)

    def _probe_if_due(self, now_s: float) -> None:
        # Where nobody reads, the silence of what was sent before goes on by itself.
        if not self._period_s() or not self._probes.get_subscription_count():
            return
        packet_bytes = self._probing.take_due_bytes(self._period_s(), now_s)
        if packet_bytes is None:
            return
        sequence, self._sequence = self._sequence, (self._sequence + 1) % _SEQUENCES
        header = self._node.stamp_now()
        # Random, because some links compress.
        packet = pack(Packet(0, sequence, os.urandom(packet_bytes - HEADER_BYTES), PROBE))
        self._ledger.add_probe(SentProbe(sequence, messages.stamp_of(header), time.perf_counter(), packet_bytes))
        self._probes.publish(messages.packet_message(header, packet))
