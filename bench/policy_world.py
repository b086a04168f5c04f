"""The hour that `bench/policy.py` replays: a battery, a link with fades and outages, and the frames of one robot."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from laim_ros.plan import Plan
from laim_ros.planning import Choices
from laim_ros.records import UNKNOWN_SEQUENCE, LinkReport

HOUR_S = 3600
LIFESPAN_S = 5.0
"""A packet older than this is not sent any more, as on laim/features."""

SILENT_AFTER_S = 1.0
"""The robot says so when a packet has waited for longer, as `nodes/ledger.py` does."""

_MEDIAN_BPS, _SPREAD, _COHERENCE_S = 8e6, 0.7, 60.0
_FADE_EVERY_S, _FADE_S, _FADE_BPS = 150.0, 45.0, (4e4, 8e5)
_OUTAGE_EVERY_S, _OUTAGE_S = 400.0, (10.0, 60.0)
_RAMP_S = 4
_ROUND_TRIP_S, _JITTER = 0.015, 0.25


@dataclass(frozen=True)
class Trace:
    """One hour, second by second.

    Attributes:
        seed: what it was drawn with.
        goodput_bps: float64 (3600,), bits per second that get through; 0 in an outage.
        charge: float64 (3600,), of the battery if inference spends its allowance evenly; 1.00 to 0.05.
        edge_load: float64 (3600,), how much longer the edge takes than alone.
        robot_load: float64 (3600,), the same for the robot, which is throttled when it is hot.
    """

    seed: int
    goodput_bps: np.ndarray
    charge: np.ndarray
    edge_load: np.ndarray
    robot_load: np.ndarray


def draw_trace(seed: int) -> Trace:
    """The hour of a seed.

    Goodput wanders around 8 Mbit/s (log-normal, coherent over a minute). A fade begins every 150 s on average, lasts
    45 s (exponential) and leaves 0.04 to 0.8 Mbit/s; an outage begins every 400 s and lasts 10 to 60 s; both come and
    go within four seconds. For ten minutes each, at times of their own, the edge takes 1.5 and the robot 1.2 times as
    long.
    """
    draw = np.random.default_rng(seed)
    keep = math.exp(-1 / _COHERENCE_S)
    steps = draw.normal(size=HOUR_S) * math.sqrt(1 - keep * keep)
    wander = np.empty(HOUR_S)
    level = draw.normal()
    for second, step in enumerate(steps):
        wander[second] = level = keep * level + step
    goodput_bps = _MEDIAN_BPS * np.exp(_SPREAD * wander)
    ceiling_bps = np.full(HOUR_S, math.inf)
    for begin in _arrivals(draw, _FADE_EVERY_S):
        _dip(ceiling_bps, begin, 5 + draw.exponential(_FADE_S), math.exp(draw.uniform(*map(math.log, _FADE_BPS))))
    for begin in _arrivals(draw, _OUTAGE_EVERY_S):
        _dip(ceiling_bps, begin, draw.uniform(*_OUTAGE_S), 0.0)
    spent = np.cumsum(np.maximum(0.0, 1 + 0.6 * draw.normal(size=HOUR_S // 60)).repeat(60))
    edge_load, robot_load = np.ones(HOUR_S), np.ones(HOUR_S)
    for load, factor in ((edge_load, 1.5), (robot_load, 1.2)):
        begin = int(draw.uniform(0, HOUR_S - 600))
        load[begin : begin + 600] = factor
    return Trace(seed, np.minimum(goodput_bps, ceiling_bps), 1 - 0.95 * spent / spent[-1], edge_load, robot_load)


def _arrivals(draw: np.random.Generator, every_s: float) -> list[float]:
    times, now_s = [], draw.exponential(every_s)
    while now_s < HOUR_S:
        times.append(now_s)
        now_s += draw.exponential(every_s)
    return times


def _dip(ceiling_bps: np.ndarray, begin_s: float, length_s: float, floor_bps: float) -> None:
    """Lowers the ceiling to a floor, with ramps in the logarithm before and after."""
    for second in range(max(0, int(begin_s) - _RAMP_S), min(HOUR_S, int(begin_s + length_s) + _RAMP_S)):
        outside_s = max(begin_s - second, second - begin_s - length_s, 0.0) / _RAMP_S
        low = max(floor_bps, 1e4) if outside_s else floor_bps
        level = low * (_MEDIAN_BPS / low) ** outside_s if outside_s else low
        ceiling_bps[second] = min(ceiling_bps[second], level)


@dataclass(frozen=True)
class Mission:
    """What a robot has to do with a profile, and what it has for it.

    Attributes:
        period_s: from frame to frame.
        deadline_s: from image to result.
        battery_wh: of the full battery.
        battery_share: part of what lies above 5 % that inference may spend; all spent, it is over.
        load_s: until a head of another bit-width serves.
    """

    period_s: float
    deadline_s: float
    battery_wh: float
    battery_share: float
    load_s: float

    @property
    def allowance_j(self) -> float:
        """Energy for all inference of the hour."""
        return 0.95 * self.battery_wh * 3600 * self.battery_share


@dataclass
class Outcome:
    """What became of the hour's frames."""

    frames: int = 0
    true: float = 0.0
    energy_j: float = 0.0
    deadline_misses: int = 0
    bytes: float = 0.0
    log: list[tuple] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        """The figures; truth as the share of all frames."""
        return {
            "true_in_deadline": self.true / self.frames,
            "energy_j": self.energy_j,
            "deadline_misses": self.deadline_misses,
            "bytes": self.bytes,
        }


class Link:
    """The trace as a pipe of one packet at a time."""

    def __init__(self, goodput_bps: np.ndarray) -> None:
        self._bits = [0.0, *np.cumsum(goodput_bps).tolist()]
        self._on_s = [0.0, *np.cumsum(goodput_bps > 0).tolist()]

    def bits_until(self, at_s: float) -> float:
        """Bits that a busy link has carried until then."""
        return _between(self._bits, at_s)

    def done_s(self, begin_s: float, packet_bytes: float) -> float:
        """When a packet whose sending begins then has arrived; infinite if not within the hour."""
        wanted = self.bits_until(begin_s) + 8 * packet_bytes
        second = bisect_left(self._bits, wanted)
        if second >= len(self._bits):
            return math.inf
        before = self._bits[second - 1]
        return max(begin_s, second - 1 + (wanted - before) / (self._bits[second] - before))

    def airtime_s(self, begin_s: float, end_s: float) -> float:
        """Seconds between the two in which the link carried anything."""
        return _between(self._on_s, end_s) - _between(self._on_s, begin_s)


def _between(cumulative: list[float], at_s: float) -> float:
    at_s = min(max(at_s, 0.0), HOUR_S)
    second = min(int(at_s), HOUR_S - 1)
    return cumulative[second] + (at_s - second) * (cumulative[second + 1] - cumulative[second])


class Robot:
    """Frames of one hour through robot, link and edge, under plans that somebody chooses frame by frame.

    The robot has one worker and the link carries one packet; in both the newest waiting frame wins, as in the nodes.
    """

    def __init__(self, trace: Trace, mission: Mission, choices: Choices, seed: int = 0) -> None:
        self.trace, self.mission, self.choices = trace, mission, choices
        self.outcome = Outcome()
        self.spent_j = 0.0
        self._link = Link(trace.goodput_bps)
        self._draw = np.random.default_rng((trace.seed, seed))
        frames = int(HOUR_S / mission.period_s)
        self._round_trips_s = (_ROUND_TRIP_S * np.exp(_JITTER * self._draw.normal(size=frames + HOUR_S))).tolist()
        self._robot_free_s = self._link_free_s = self._edge_free_s = 0.0
        self._waiting: tuple[float, float, int, float, float] | None = None
        self._answers: list[tuple[float, int, LinkReport]] = []
        self._open: dict[int, float] = {}
        self._head_bits: int | None = None
        self._loading: tuple[int, float] | None = None
        self._sent = self._probes = 0
        self._columns = [
            column.tolist()
            for column in (
                choices.robot_s,
                choices.edge_s,
                choices.packet_bytes,
                choices.active_w,
                choices.quality_loss,
            )
        ]

    @property
    def frames(self) -> int:
        return int(HOUR_S / self.mission.period_s)

    def charge(self, now_s: float) -> float:
        """Of the battery: the trace's, and what inference spent less than its even share."""
        even_j = self.mission.allowance_j * now_s / HOUR_S
        full_j = self.mission.battery_wh * 3600
        return float(self.trace.charge[min(int(now_s), HOUR_S - 1)]) + (even_j - self.spent_j) / full_j

    def run_fixed(self, row: int) -> Outcome:
        """The hour under one plan."""
        self._head_bits = self.choices.plans[row].weight_bits
        for frame in range(self.frames):
            self.frame(frame, row)
        return self.finish()

    def frame(self, number: int, row: int) -> None:
        """One image arrives and is run as this row of the choices says."""
        outcome, now_s = self.outcome, number * self.mission.period_s
        outcome.frames += 1
        begin_s = max(now_s, self._robot_free_s)
        # Overtaken by the next image, or nothing left to spend: no work, no energy.
        if begin_s >= now_s + self.mission.period_s or self.spent_j >= self.mission.allowance_j:
            outcome.deadline_misses += 1
            return
        robot_s, _, size, active_w, loss = (column[row] for column in self._columns)
        second = min(int(now_s), HOUR_S - 1)
        robot_s *= float(self.trace.robot_load[second])
        self._robot_free_s = ready_s = begin_s + robot_s
        self._spend(active_w * robot_s)
        if not size:
            self._conclude(number, row, now_s, ready_s, robot_s, begin_s - now_s, math.nan, 0.0, loss)
            return
        self._advance(ready_s)
        if self._waiting is not None:
            self._drop(self._waiting)
        self._sent += 1
        self._open[number] = ready_s
        self._waiting = (ready_s, now_s, row, robot_s, begin_s - now_s)
        self._advance(ready_s)

    def probe(self, now_s: float, size: float) -> None:
        """A small packet that only measures the link; it is answered when the link lets it through."""
        done_s = self._link.done_s(max(now_s, self._link_free_s), size)
        self._probes += 1
        round_trip_s = self._round_trips_s[-self._probes]
        key = -self._probes
        if done_s - now_s > LIFESPAN_S:
            self._open[key] = now_s
            return
        self._spend(self.choices.radio_w * self._link.airtime_s(now_s, done_s))
        self.outcome.bytes += size
        link_s = done_s + round_trip_s - now_s
        report = LinkReport(sequence=key, packet_bytes=int(size), link_s=link_s, probe=True)
        self._open[key] = now_s
        heapq.heappush(self._answers, (now_s + link_s, key, report))

    def news(self, now_s: float, tell: Callable[[LinkReport, float], None]) -> None:
        """Tells every answer that has come, and how long the oldest packet has waited for its own."""
        self._advance(now_s)
        while self._answers and self._answers[0][0] <= now_s:
            at_s, key, report = heapq.heappop(self._answers)
            # An answer settles what was sent before it: the edge takes the newest only.
            sent_s = self._open.pop(key, at_s)
            self._open = {each: when for each, when in self._open.items() if when > sent_s}
            tell(report, at_s)
        waited_s = now_s - min(self._open.values(), default=now_s)
        if waited_s > SILENT_AFTER_S:
            tell(LinkReport(sequence=UNKNOWN_SEQUENCE, unanswered_s=waited_s), now_s)

    def finish(self) -> Outcome:
        """What became of the hour."""
        self._advance(math.inf)
        self.outcome.energy_j = self.spent_j
        return self.outcome

    def ready_head(self, plan: Plan, now_s: float) -> int:
        """Bits of the head that serves: another one than in use is loaded first."""
        wanted = plan.weight_bits
        if plan.split_point == "input" or wanted == self._head_bits:
            self._loading = None
        elif self._head_bits is None:
            self._head_bits = wanted
        elif self._loading is None or self._loading[0] != wanted:
            self._loading = (wanted, now_s + self.mission.load_s)
        elif now_s >= self._loading[1]:
            self._head_bits, self._loading = wanted, None
        return self._head_bits if self._head_bits is not None else wanted

    def _advance(self, until_s: float) -> None:
        """Begins to send what waits, if the link is free by then."""
        if self._waiting is None:
            return
        ready_s, now_s, row, robot_s, waited_s = self._waiting
        begin_s = max(ready_s, self._link_free_s)
        if begin_s > until_s:
            return
        number = round(now_s / self.mission.period_s)
        if begin_s - ready_s >= LIFESPAN_S:
            self._drop(self._waiting)
            self._waiting = None
            return
        self._waiting = None
        _, edge_s, size, _, loss = (column[row] for column in self._columns)
        done_s = self._link.done_s(begin_s, size)
        given_up_s = ready_s + LIFESPAN_S
        self._link_free_s = min(done_s, given_up_s)
        self._spend(self.choices.radio_w * self._link.airtime_s(begin_s, self._link_free_s))
        self.outcome.bytes += size
        if done_s > given_up_s:
            self.outcome.deadline_misses += 1
            self._note(number, row, math.inf)
            return
        arrived_s = done_s + self._round_trips_s[number]
        edge_s *= float(self.trace.edge_load[min(int(arrived_s), HOUR_S - 1)])
        edge_wait_s = max(0.0, self._edge_free_s - arrived_s)
        if edge_wait_s > self.mission.period_s:  # the edge, too, takes the newest and lets the others go
            self.outcome.deadline_misses += 1
            self._note(number, row, math.inf)
            return
        self._edge_free_s = arrived_s + edge_wait_s + edge_s
        self._conclude(
            number, row, now_s, ready_s, robot_s, waited_s, arrived_s - ready_s, edge_s + edge_wait_s, loss, edge_wait_s
        )

    def _conclude(
        self,
        number: int,
        row: int,
        now_s: float,
        ready_s: float,
        robot_s: float,
        waited_s: float,
        link_s: float,
        edge_s: float,
        loss: float,
        edge_wait_s: float = 0.0,
    ) -> None:
        delay_s = ready_s - now_s + (0.0 if math.isnan(link_s) else link_s) + edge_s
        in_time = delay_s <= self.mission.deadline_s
        self.outcome.true += (1 - loss) * in_time
        self.outcome.deadline_misses += not in_time
        self._note(number, row, delay_s)
        plan = self.choices.plans[row]
        report = LinkReport(
            sequence=number,
            split_point=plan.split_point,
            weight_bits=plan.weight_bits,
            feature_bits=plan.feature_bits,
            codec=plan.codec,
            packet_bytes=int(self._columns[2][row]),
            robot_s=robot_s + waited_s,
            link_s=link_s,
            edge_s=edge_s,
            robot_wait_s=waited_s,
            edge_wait_s=edge_wait_s,
            latency_s=delay_s,
            packets_sent=self._sent,
        )
        heapq.heappush(self._answers, (now_s + delay_s, number, report))

    def _drop(self, packet: tuple[float, float, int, float, float]) -> None:
        self.outcome.deadline_misses += 1
        self._note(round(packet[1] / self.mission.period_s), packet[2], math.inf)

    def _note(self, number: int, row: int, delay_s: float) -> None:
        self.outcome.log.append((number, row, delay_s))

    def _spend(self, energy_j: float) -> None:
        self.spent_j += energy_j
