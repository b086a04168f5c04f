"""A robot, an edge and a quality table small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from laim_ros.plan import Plan
from laim_ros.planning import Choices, MachineProfile, PowerMode, QualityRow, QualityTable, StageTimes
from laim_ros.planning.quality import plan_key

POINTS = ("input", "vit.1", "vision", "qformer", "output")
SHAPES = {"input": (96, 96, 3), "vit.1": (145, 128), "vision": (145, 128), "qformer": (8, 128)}
HEAD_S = {"input": 0.001, "vit.1": 0.02, "vision": 0.03, "qformer": 0.01}
EDGE_S = {"vit.1": 0.002, "vision": 0.003, "qformer": 0.001, "output": 0.04}


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
        "code_s": {"input": 0.002, "qformer": 0.004},
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
        "code_s": {"input": 0.005},
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
    )
