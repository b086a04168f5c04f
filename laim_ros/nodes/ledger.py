"""What the robot remembers of the packets it sent until their answers come back."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from laim_ros.plan import Plan
from laim_ros.planning.link import LinkEstimator
from laim_ros.records import UNKNOWN_SEQUENCE, FrameResult, LinkReport

_MOST_IN_FLIGHT = 64
_MOST_PROBES = 16
_SILENCE_S = 1.0
"""How long the oldest packet under way has waited before that is worth a report."""

_LAPSE_S = 6.0
"""After which nothing is under way any more: packets live for five seconds (`qos.FEATURES_OUT`), answers are small."""

_NO_PLAN = Plan()

_TELLING_BYTES = 256
_HICCUP_S = 0.01


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
        received_s, sent_s: arrival of the image, publishing of the packet (of the result, where no packet is sent).
        packet_bytes: size of the packet.
        questions: asked about this frame.
        plan: as it was carried out.
        wait_s: the part of the time between the two in which the frame before was at work.
        energy_j: spent on the frame above idling, in joules; NaN where nothing measures it.
        energy_source: what measured it; empty where nothing does.
    """

    sequence: int
    stamp: tuple[int, int]
    received_s: float
    sent_s: float
    packet_bytes: int
    questions: tuple[Question, ...] = ()
    plan: Plan = _NO_PLAN
    wait_s: float = 0.0
    energy_j: float = math.nan
    energy_source: str = ""


@dataclass(frozen=True, slots=True)
class SentProbe:
    """A probe under way; the attributes are those of a `SentFrame`."""

    sequence: int
    stamp: tuple[int, int]
    sent_s: float
    packet_bytes: int


class Ledger:
    """Matches results with the packets sent, measures the link, and counts what never came back. Thread-safe."""

    def __init__(self) -> None:
        self._in_flight: OrderedDict[int, SentFrame] = OrderedDict()
        self._probes: OrderedDict[int, SentProbe] = OrderedDict()
        self._silent_since_s: float | None = None
        self._newest_sent_s = -math.inf
        self._refused: set[int] = set()
        self._unanswered_questions: list[Question] = []
        self._lock = threading.Lock()
        self._link = LinkEstimator()
        self._link_changed = False
        self.sent = self.answered = self.refused = self.unanswered = self.deadline_misses = 0
        self.probes_sent = self.probes_answered = 0
        self.last_link_s = math.nan
        self.last_latency_s = math.nan

    # What goes out.

    def add(self, frame: SentFrame) -> None:
        """Remembers a frame that is being sent."""
        with self._lock:
            self.sent += 1
            self._in_flight[frame.sequence] = frame
            self._await(frame.sent_s)
            while len(self._in_flight) > _MOST_IN_FLIGHT:
                self._give_up_oldest()

    def add_probe(self, probe: SentProbe) -> None:
        """Remembers a probe that is being sent; probes and frames have numbers of their own."""
        with self._lock:
            self.probes_sent += 1
            self._probes[probe.sequence] = probe
            self._await(probe.sent_s)
            while len(self._probes) > _MOST_PROBES:
                self._probes.popitem(last=False)

    # What comes back.

    def settle(self, result: FrameResult, stamp: tuple[int, int], now_s: float, deadline_s: float) -> LinkReport | None:
        """What the answer to a packet tells; None for an error, and for a packet that is not known (any more).

        Frames sent before it have been overtaken (newest wins on the edge): they count as unanswered. A refused frame
        stays, because another edge may finish what one refuses.

        Args:
            result: as it came.
            stamp: of the result's header.
            now_s: arrival of the result on the robot's steady clock.
            deadline_s: latency above which the result counts as late; 0 is none.
        """
        with self._lock:
            if result.probe:
                return self._settle_probe(result, stamp, now_s)
            known = self._in_flight.get(result.sequence)
            if known is None or known.stamp != stamp:
                return None
            if result.error:
                if result.sequence not in self._refused:
                    self._refused.add(result.sequence)
                    self.refused += 1
                    self.deadline_misses += bool(deadline_s)
                self._heard_of(known.sent_s)
                return None
            # By the order of sending, not by number: numbers start over after 2^32.
            while (oldest := next(iter(self._in_flight))) != result.sequence:
                self.deadline_misses += bool(deadline_s) and oldest not in self._refused
                self._give_up_oldest()
            frame = self._in_flight.pop(result.sequence)
            self._refused.discard(result.sequence)
            self._heard_of(frame.sent_s)
            latency_s = now_s - frame.received_s
            self._count(latency_s, deadline_s)
            link_s = self._measure(frame, result, now_s)
            if not math.isnan(link_s):
                self.last_link_s = link_s
            return self._with_estimates(_report(frame, result, link_s, latency_s), now_s)

    def finished_here(self, frame: SentFrame, deadline_s: float) -> LinkReport:
        """Counts a frame that needed no edge, and tells of it; `sent_s` is when its result was published."""
        with self._lock:
            latency_s = frame.sent_s - frame.received_s
            self._count(latency_s, deadline_s)
            own = FrameResult(edge_s=0.0)
            return self._with_estimates(_report(frame, own, math.nan, latency_s), frame.sent_s)

    def count_repeated(self, latency_s: float, deadline_s: float) -> None:
        """Counts a frame that got the result of an equal one."""
        with self._lock:
            self._count(latency_s, deadline_s)

    def silence(self, now_s: float) -> LinkReport | None:
        """A report that nothing has come back for more than a second; None where there is nothing to report."""
        with self._lock:
            if self._unanswered_s(now_s) <= _SILENCE_S:
                return None
            return self._with_estimates(LinkReport(sequence=UNKNOWN_SEQUENCE), now_s)

    def let_silence_lapse(self, now_s: float) -> None:
        """Ends a silence in which nothing was sent for longer than packets live.

        For a robot without probes: where it has stopped sending because of the silence, no answer would ever end it.
        """
        with self._lock:
            if now_s - self._newest_sent_s > _LAPSE_S:
                self._silent_since_s = None

    def take_unanswered_questions(self) -> list[Question]:
        """Questions of frames that were given up without an answer or a refusal; each is handed out once."""
        with self._lock:
            questions, self._unanswered_questions = self._unanswered_questions, []
            return questions

    # What is known.

    def figures(self) -> dict[str, object]:
        """Counts since the start, and the newest times."""
        probes = {"probes_sent": self.probes_sent, "probes_answered": self.probes_answered} if self.probes_sent else {}
        return {
            "packets_sent": self.sent,
            "results": self.answered,
            "packets_unanswered": self.unanswered,
            "packets_refused": self.refused,
            **probes,
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

    def newest_probe_waits_s(self, now_s: float) -> float:
        """How long the newest probe has waited for its answer; infinite if it has come, and if none was sent."""
        with self._lock:
            newest = next(reversed(self._probes.values()), None)
            return math.inf if newest is None else now_s - newest.sent_s

    def goodput(self) -> float | None:
        """Bits per second that the link carries; None where that is not known."""
        with self._lock:
            return self._link.goodput_bps

    @property
    def link_changed(self) -> bool:
        """Whether the newest larger probe took half its time more, or less, than the goodput that is known says."""
        with self._lock:
            return self._link_changed

    @property
    def waiting(self) -> int:
        """Frames sent that got neither a result nor a refusal."""
        with self._lock:
            return len(self._in_flight) - len(self._refused)

    def _settle_probe(self, result: FrameResult, stamp: tuple[int, int], now_s: float) -> LinkReport | None:
        known = self._probes.get(result.sequence)
        if known is None or known.stamp != stamp:
            return None
        while next(iter(self._probes)) != result.sequence:
            self._probes.popitem(last=False)  # lost: no later one overtakes it
        probe = self._probes.pop(result.sequence)
        self.probes_answered += 1
        self._heard_of(probe.sent_s)
        goodput_bps, expected_s = self._link.goodput_bps, self._link.predict_s(probe.packet_bytes)
        link_s = self._measure(probe, result, now_s)
        if goodput_bps is not None and probe.packet_bytes >= _TELLING_BYTES:
            sending_s = 8 * probe.packet_bytes / goodput_bps
            self._link_changed = abs(link_s - expected_s) > max(sending_s / 2, _HICCUP_S)
        report = LinkReport(
            sequence=probe.sequence,
            packet_bytes=probe.packet_bytes,
            robot_s=0.0,
            link_s=link_s,
            edge_s=result.edge_s,
            latency_s=now_s - probe.sent_s,
            probe=True,
        )
        return self._with_estimates(report, now_s)

    def _measure(self, sent: SentFrame | SentProbe, result: FrameResult, now_s: float) -> float:
        """Seconds on the link, which the estimate takes in; NaN where the result does not say what the edge took."""
        # Durations of two clocks are subtracted; a hair below zero is measurement noise.
        link_s = max(0.0, now_s - sent.sent_s - result.edge_s) if result.edge_s >= 0 else math.nan
        if not math.isnan(link_s):
            self._link.update(sent.packet_bytes, link_s)
        return link_s

    def _with_estimates(self, report: LinkReport, now_s: float) -> LinkReport:
        return replace(
            report,
            goodput_bps=_or_nan(self._link.goodput_bps),
            round_trip_s=_or_nan(self._link.round_trip_s),
            unanswered_s=self._unanswered_s(now_s),
            packets_sent=self.sent,
            results_received=self.answered,
            deadline_misses=self.deadline_misses,
        )

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

    # Silence. Kept apart from what is in flight, so that it grows on while many packets are sent and given up.

    def _await(self, sent_s: float) -> None:
        if self._silent_since_s is None:
            self._silent_since_s = sent_s
        self._newest_sent_s = sent_s

    def _heard_of(self, sent_s: float) -> None:
        """Takes an answer to what was sent then as a sign of life.

        What was sent earlier and is still under way is lost, or waits for the edge's worker: the link has answered
        since, and is not silent because of it.
        """
        frames = (frame for sequence, frame in self._in_flight.items() if sequence not in self._refused)
        later_s = [packet.sent_s for packet in (*frames, *self._probes.values()) if packet.sent_s > sent_s]
        self._silent_since_s = min(later_s, default=None)

    def _unanswered_s(self, now_s: float) -> float:
        return 0.0 if self._silent_since_s is None else max(0.0, now_s - self._silent_since_s)


def _report(frame: SentFrame, result: FrameResult, link_s: float, latency_s: float) -> LinkReport:
    """What is known of the frame itself."""
    plan = frame.plan
    return LinkReport(
        sequence=frame.sequence,
        split_point=plan.split_point,
        weight_bits=plan.weight_bits,
        feature_bits=plan.feature_bits,
        codec=plan.codec,
        packet_bytes=frame.packet_bytes,
        robot_s=frame.sent_s - frame.received_s,
        link_s=link_s,
        edge_s=result.edge_s,
        latency_s=latency_s,
        robot_wait_s=frame.wait_s,
        edge_wait_s=result.wait_s,
        energy_j=frame.energy_j,
        energy_source=frame.energy_source,
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
