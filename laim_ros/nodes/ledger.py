"""What the robot remembers of the frames it sent until their results come back."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

from laim_ros.nodes.messages import FrameResult, LinkReport
from laim_ros.planning.link import LinkEstimator

_MOST_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame under way. Times are of the robot's steady clock, in seconds."""

    sequence: int
    received_s: float
    sent_s: float
    packet_bytes: int


class Ledger:
    """Matches results with the frames sent, measures the link, and counts what never came back. Thread-safe."""

    def __init__(self) -> None:
        self._in_flight: OrderedDict[int, SentFrame] = OrderedDict()
        self._lock = threading.Lock()
        self._link = LinkEstimator()
        self.sent = self.answered = self.unanswered = self.deadline_misses = 0
        self.last_link_s = math.nan
        self.last_latency_s = math.nan

    def add(self, frame: SentFrame) -> None:
        """Remembers a frame that is being sent."""
        with self._lock:
            self.sent += 1
            self._in_flight[frame.sequence] = frame
            while len(self._in_flight) > _MOST_IN_FLIGHT:
                self._in_flight.popitem(last=False)
                self.unanswered += 1

    def settle(self, result: FrameResult, now_s: float, deadline_s: float) -> LinkReport | None:
        """What the result of a frame tells; None if the frame is not known (any more).

        Frames sent before it have been overtaken (newest wins on the edge): they count as unanswered.

        Args:
            now_s: arrival of the result on the robot's steady clock.
            deadline_s: latency above which the result counts as late; 0 is none.
        """
        with self._lock:
            if result.sequence not in self._in_flight:
                return None
            # By the order of sending, not by number: numbers start over after 2^32. A refusal may come before the
            # results of frames that were sent earlier and are still being worked on.
            overtaken = 0
            while not result.error and next(iter(self._in_flight)) != result.sequence:
                self._in_flight.popitem(last=False)
                overtaken += 1
            frame = self._in_flight.pop(result.sequence)
            self.unanswered += overtaken
            self.answered += 1
            latency_s = now_s - frame.received_s
            late = bool(deadline_s) and latency_s > deadline_s
            self.deadline_misses += late + (overtaken if deadline_s else 0)
            self.last_latency_s = latency_s
            # Durations of two clocks are subtracted; a hair below zero is measurement noise.
            link_s = max(0.0, now_s - frame.sent_s - result.edge_s) if result.edge_s >= 0 else math.nan
            if not (result.error or math.isnan(link_s)):
                self.last_link_s = link_s
                self._link.update(frame.packet_bytes, link_s)
            return LinkReport(
                sequence=frame.sequence,
                packet_bytes=frame.packet_bytes,
                robot_s=frame.sent_s - frame.received_s,
                link_s=link_s,
                edge_s=result.edge_s,
                latency_s=latency_s,
                goodput_bps=_or_nan(self._link.goodput_bps),
                round_trip_s=_or_nan(self._link.round_trip_s),
                packets_sent=self.sent,
                results_received=self.answered,
                deadline_misses=self.deadline_misses,
            )

    @property
    def waiting(self) -> int:
        """Frames sent whose results have not come."""
        with self._lock:
            return len(self._in_flight)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
