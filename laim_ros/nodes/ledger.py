"""What the robot remembers of the frames it sent until their results come back."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

from laim_ros.planning.link import LinkEstimator
from laim_ros.records import FrameResult, LinkReport

_MOST_IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and when it was asked by the robot's steady clock, in seconds."""

    text: str
    asked_s: float


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame under way. Times are of the robot's steady clock, in seconds.

    Attributes:
        sequence: number on the wire.
        stamp: of the image, seconds and nanoseconds; a result must carry the same.
        received_s, sent_s: arrival of the image, publishing of the packet.
        packet_bytes: size of the packet.
        questions: asked about this frame.
    """

    sequence: int
    stamp: tuple[int, int]
    received_s: float
    sent_s: float
    packet_bytes: int
    questions: tuple[Question, ...] = ()


class Ledger:
    """Matches results with the frames sent, measures the link, and counts what never came back. Thread-safe."""

    def __init__(self) -> None:
        self._in_flight: OrderedDict[int, SentFrame] = OrderedDict()
        self._refused: set[int] = set()
        self._unanswered_questions: list[Question] = []
        self._lock = threading.Lock()
        self._link = LinkEstimator()
        self.sent = self.answered = self.refused = self.unanswered = self.deadline_misses = 0
        self.last_link_s = math.nan
        self.last_latency_s = math.nan

    def add(self, frame: SentFrame) -> None:
        """Remembers a frame that is being sent."""
        with self._lock:
            self.sent += 1
            self._in_flight[frame.sequence] = frame
            while len(self._in_flight) > _MOST_IN_FLIGHT:
                self._give_up_oldest()

    def settle(self, result: FrameResult, stamp: tuple[int, int], now_s: float, deadline_s: float) -> LinkReport | None:
        """What the result of a frame tells; None for an error, and for a frame that is not known (any more).

        Frames sent before it have been overtaken (newest wins on the edge): they count as unanswered. A refused frame
        stays, because another edge may finish what one refuses.

        Args:
            result: as it came.
            stamp: of the result's header.
            now_s: arrival of the result on the robot's steady clock.
            deadline_s: latency above which the result counts as late; 0 is none.
        """
        with self._lock:
            known = self._in_flight.get(result.sequence)
            if known is None or known.stamp != stamp:
                return None
            if result.error:
                if result.sequence not in self._refused:
                    self._refused.add(result.sequence)
                    self.refused += 1
                    self.deadline_misses += bool(deadline_s)
                return None
            # By the order of sending, not by number: numbers start over after 2^32.
            while (oldest := next(iter(self._in_flight))) != result.sequence:
                self.deadline_misses += bool(deadline_s) and oldest not in self._refused
                self._give_up_oldest()
            frame = self._in_flight.pop(result.sequence)
            self._refused.discard(result.sequence)
            latency_s = now_s - frame.received_s
            self._count(latency_s, deadline_s)
            # Durations of two clocks are subtracted; a hair below zero is measurement noise.
            link_s = max(0.0, now_s - frame.sent_s - result.edge_s) if result.edge_s >= 0 else math.nan
            if not math.isnan(link_s):
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

    def finished_here(self, latency_s: float, deadline_s: float) -> None:
        """Counts a result that needed no edge."""
        with self._lock:
            self._count(latency_s, deadline_s)

    def take_unanswered_questions(self) -> list[Question]:
        """Questions of frames that were given up without an answer or a refusal; each is handed out once."""
        with self._lock:
            questions, self._unanswered_questions = self._unanswered_questions, []
            return questions

    def figures(self) -> dict[str, object]:
        """Counts since the start, and the newest times."""
        return {
            "packets_sent": self.sent,
            "results": self.answered,
            "packets_unanswered": self.unanswered,
            "packets_refused": self.refused,
            "deadline_misses": self.deadline_misses,
            "latency_s": self.last_latency_s,
            "link_s": self.last_link_s,
        }

    def oldest_waits_s(self, now_s: float) -> float:
        """How long the oldest frame under way has waited, refused ones left out; 0 if there is none."""
        with self._lock:
            waiting = (frame for sequence, frame in self._in_flight.items() if sequence not in self._refused)
            oldest = next(waiting, None)
            return 0.0 if oldest is None else now_s - oldest.sent_s

    @property
    def waiting(self) -> int:
        """Frames sent that got neither a result nor a refusal."""
        with self._lock:
            return len(self._in_flight) - len(self._refused)

    def _count(self, latency_s: float, deadline_s: float) -> None:
        self.answered += 1
        self.last_latency_s = latency_s
        self.deadline_misses += bool(deadline_s) and latency_s > deadline_s

    def _give_up_oldest(self) -> None:
        sequence, frame = self._in_flight.popitem(last=False)
        if sequence in self._refused:
            self._refused.discard(sequence)
        else:
            self.unanswered += 1
            self._unanswered_questions += frame.questions


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
