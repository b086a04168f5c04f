"""A robot, an edge, a quality table and a link small enough to work out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from laim_ros.plan import Plan
from laim_ros.planning import (
    Allowed,
    Battery,
    Choices,
    Decision,
    Goals,
    MachineProfile,
    Planner,
    PowerMode,
    QualityRow,
    QualityTable,
    StageTimes,
    build_choices,
)
from laim_ros.planning.profiles import Calibrated
from laim_ros.planning.quality import plan_key
from laim_ros.records import UNKNOWN_SEQUENCE, LinkReport

POINTS = ("input", "vit.1", "vision", "qformer", "output")
SHAPES = {"input": (96, 96, 3), "vit.1": (145, 128), "vision": (145, 128), "qformer": (8, 128)}
HEAD_S = {"input": 0.001, "vit.1": 0.02, "vision": 0.03, "qformer": 0.01}
EDGE_S = {"vit.1": 0.002, "vision": 0.003, "qformer": 0.001, "output": 0.04}


CALIBRATED = {"qformer": Calibrated("c1", tuple(float(size) for size in range(0, 110, 10)))}
"""Codec `klt` takes 10 bytes for every 6 dB."""


def robot_profile(**changes: object) -> MachineProfile:
    """A robot that has loaded all but `output`: 61 ms for the head at 8 bits, 121 ms at 32, 10 W."""
    wide_s = {name: seconds * (1 if name == "input" else 2) for name, seconds in HEAD_S.items()}
    facts = {
        "machine": "robot",
        "model": "mini",
        "model_id": "aa",
        "engine": "test",
        "split_points": POINTS,
        "shapes": SHAPES,
        "times": (StageTimes(4, HEAD_S), StageTimes(8, HEAD_S), StageTimes(32, wide_s)),
        "modes": (PowerMode(0.0, 1.0, 10.0),),
        "code_s": {
            "input": {"jpeg90": 0.002, "webp75": 0.006},
            "qformer": {"plain": 0.004, "klt12": 0.01, "klt48": 0.02},
        },
        "radio_w": 2.0,
    }
    return MachineProfile(**{**facts, **changes})


def whole_robot(**changes: object) -> MachineProfile:
    """The same with `output` loaded, which takes 0.2 s at every bit-width."""
    times = tuple(StageTimes(each.weight_bits, {**each.stage_s, "output": 0.2}) for each in robot_profile().times)
    return robot_profile(**{"times": times, **changes})


def edge_profile(**changes: object) -> MachineProfile:
    """An edge that can go on after every split point: 46 ms from a picture, 40 ms from `qformer`."""
    facts = {
        "machine": "edge",
        "model": "mini",
        "model_id": "aa",
        "engine": "test",
        "split_points": POINTS,
        "shapes": SHAPES,
        "times": (StageTimes(32, EDGE_S),),
        "code_s": {"input": {"jpeg90": 0.005, "webp75": 0.005}},
    }
    return MachineProfile(**{**facts, **changes})


def quality_table(rows: Mapping[Plan, tuple[float, float]], **changes: object) -> QualityTable:
    """A table of (bytes, quality loss) by plan."""
    found = tuple(
        QualityRow(plan.split_point, plan.weight_bits, plan.feature_bits, plan.codec, size, size, 0.1, 1 - loss)
        for plan, (size, loss) in rows.items()
    )
    facts = {"model": "mini", "model_id": "aa", "frames": 500, "source": "test", "quantizer": "uniform", "rows": found}
    return QualityTable(**{**facts, **changes})


def choices_of(
    plans: Sequence[Plan],
    *,
    robot_s: Sequence[float],
    edge_s: Sequence[float],
    packet_bytes: Sequence[float],
    active_w: Sequence[float],
    quality_loss: Sequence[float],
    radio_w: float = 1.0,
) -> Choices:
    """Choices with these columns."""
    columns = [np.array(column, np.float64) for column in (robot_s, edge_s, packet_bytes, active_w)]
    return Choices(
        tuple(plans),
        *columns,
        radio_w,
        np.array(quality_loss, np.float64),
        "test",
        "assumed",
        np.zeros(len(plans), bool),
        {(plan_key(plan), plan.robot_clock_hz): row for row, plan in enumerate(plans)},
        np.array([plan.sends_picture for plan in plans], bool),
    )


QUALITY = quality_table(
    {
        Plan("vision", 8, 8): (18_000.0, 0.0),
        Plan("input", 32, 8, "jpeg90"): (6_000.0, 0.04),
        Plan("qformer", 8, 8): (900.0, 0.08),
        Plan("qformer", 8, 2): (250.0, 0.2),
        Plan("output", 8, 8): (0.0, 0.12),
    }
)
"""Better plans send more. On a free link: vision 92 ms and 0.51 J, input 54 ms and 0.03 J, qformer 105 ms and 0.65 J,
output 261 ms and 2.61 J."""


class Story:
    """A robot that carries out what a planner decides, frame by frame, over a link whose truth is known.

    Attributes:
        planner: the planner.
        now_s: its clock; may be set.
        goodput_bps, round_trip_s: of the link; nothing comes back at 0 bit/s.
        robot_slower, edge_slower: than their profiles say.
        noise: standard deviation of the link's goodput, as a share.
        battery: what it tells before every decision; None for nothing.
        spent_j: by all frames so far.
        frames: that were sent so far.
        decisions: all so far.
    """

    def __init__(self, planner: Planner, world: Choices, *, period_s: float = 0.5, seed: int = 0) -> None:
        self.planner, self.now_s, self.decisions = planner, 1000.0, []
        self.goodput_bps, self.round_trip_s, self.noise = 20e6, 0.01, 0.0
        self.robot_slower = self.edge_slower = 1.0
        self.battery: Callable[[], Battery] | None = None
        self.spent_j = 0.0
        self._world, self._period_s, self._random = world, period_s, np.random.default_rng(seed)
        self.frames = 0
        self._silent_since_s: float | None = None

    def run(self, seconds: float) -> Decision | None:
        """The newest decision after so long."""
        until_s = self.now_s + seconds
        while self.now_s < until_s - 1e-9:
            if self.battery is not None:
                self.planner.observe_battery(self.battery(), self.now_s)
            self.decisions.append(self.planner.decide(self.now_s))
            self._frame(self.planner.plan)
            if self.frames % 4 == 0:
                self._probe()
            self.now_s += self._period_s
        return self.decisions[-1]

    @property
    def changes(self) -> int:
        """How often the plan changed."""
        return sum(decision is not None and decision.changed for decision in self.decisions)

    def _frame(self, plan: Plan) -> None:
        self.frames += 1
        world, row = self._world, self._world.index(plan)
        robot_s, edge_s = world.robot_s[row] * self.robot_slower, world.edge_s[row] * self.edge_slower
        size = int(world.packet_bytes[row])
        link_s = self._link_s(size) if size else math.nan
        self.spent_j += world.active_w[row] * robot_s + (world.radio_w * link_s if 0 < link_s < math.inf else 0)
        facts = {"packet_bytes": size, "robot_s": robot_s, "edge_s": edge_s, "link_s": link_s}
        plan_facts = {name: getattr(plan, name) for name in ("split_point", "weight_bits", "feature_bits", "codec")}
        self._tell(link_s, LinkReport(self.frames, **plan_facts, **facts, packets_sent=self.frames))

    def _probe(self) -> None:
        size = int(self._random.integers(200, 16_000))
        link_s = self._link_s(size)
        self._tell(link_s, LinkReport(1, packet_bytes=size, link_s=link_s, probe=True, packets_sent=self.frames))

    def _tell(self, link_s: float, report: LinkReport) -> None:
        if math.isinf(link_s):  # as the robot does: twice a second, while the oldest packet has waited for a second
            self._silent_since_s = self.now_s if self._silent_since_s is None else self._silent_since_s
            if self.now_s - self._silent_since_s <= 1:
                return
            report = LinkReport(UNKNOWN_SEQUENCE, packets_sent=self.frames)
        elif not math.isnan(link_s):
            self._silent_since_s = None
        waited_s = 0.0 if self._silent_since_s is None else self.now_s - self._silent_since_s
        self.planner.observe_link(replace(report, unanswered_s=waited_s), self.now_s)

    def _link_s(self, size: int) -> float:
        goodput_bps = self.goodput_bps * math.exp(self.noise * self._random.standard_normal())
        return self.round_trip_s + 8 * size / goodput_bps if goodput_bps else math.inf


GOALS = Goals(deadline_s=0.3)
MISSION = Goals(deadline_s=0.3, mission_s=3600.0, battery_share=0.2, battery_reserve=0.1, battery_capacity_wh=10.0)
"""36 kJ in an hour: at one frame per second, each may cost 2 J times the charge above the reserve."""
START = Plan("qformer", 8, 8)
JPEG = Plan("input", 8, 8, "jpeg90")


def story(
    robot: MachineProfile | None = None,
    *,
    goals: Goals = GOALS,
    quality: QualityTable = QUALITY,
    plan: Plan = START,
    period_s: float = 0.5,
    seed: int = 0,
) -> Story:
    """A planner that has got all profiles, and the robot that it plans for."""
    robot = robot or whole_robot()
    planner = Planner(goals, Allowed(), plan, 1000.0)
    planner.set_profiles(robot, edge_profile(), quality)
    return Story(planner, build_choices(robot, edge_profile(), quality), period_s=period_s, seed=seed)
