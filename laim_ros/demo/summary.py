"""Figures of many frames: the share of true captions, bytes, latency; overall and per plan."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import laim_ros
from laim_ros.demo.frames import Frame, FramePlan
from laim_ros.demo.questions import Answered


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of some frames. Times are seconds; a figure that no frame tells is NaN.

    Attributes:
        frames: that came back, with a caption or an error.
        errors: that came back without a caption.
        true_share: share of frames whose caption is true and complete.
        bytes_per_frame: mean size of a packet.
        latency_p50_s, latency_p95_s: from the image's arrival at the robot to the result's.
        robot_p50_s, link_p50_s, edge_p50_s: medians of its parts.
    """

    frames: int
    errors: int
    true_share: float
    bytes_per_frame: float
    latency_p50_s: float
    latency_p95_s: float
    robot_p50_s: float
    link_p50_s: float
    edge_p50_s: float


def summarise(frames: Sequence[Frame]) -> Summary:
    """The figures of these frames."""
    judged = [frame.right for frame in frames if frame.scene is not None or frame.error]
    return Summary(
        frames=len(frames),
        errors=sum(bool(frame.error) for frame in frames),
        true_share=float(np.mean(judged)) if judged else math.nan,
        bytes_per_frame=float(np.mean([frame.packet_bytes for frame in frames])) if frames else math.nan,
        latency_p50_s=_quantile(frames, 0.5, lambda frame: frame.latency_s),
        latency_p95_s=_quantile(frames, 0.95, lambda frame: frame.latency_s),
        robot_p50_s=_quantile(frames, 0.5, lambda frame: frame.robot_s),
        link_p50_s=_quantile(frames, 0.5, lambda frame: frame.link_s),
        edge_p50_s=_quantile(frames, 0.5, lambda frame: frame.edge_s),
    )


def in_time_share(frames: Sequence[Frame], deadline_s: float) -> float:
    """Share of the frames with a known latency that kept the deadline; NaN where there is neither."""
    known = [frame.latency_s <= deadline_s for frame in frames if math.isfinite(frame.latency_s)]
    return sum(known) / len(known) if known and deadline_s else math.nan


def by_plan(frames: Sequence[Frame]) -> dict[FramePlan, list[Frame]]:
    """The frames of each plan, in the order in which the plans came up."""
    groups: dict[FramePlan, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.plan, []).append(frame)
    return groups


def report(frames: Sequence[Frame], answered: Sequence[Answered], further: dict[str, Any]) -> str:
    """All figures as JSON; what is not known is null.

    Args:
        further: more entries, such as what the demo was asked to do.
    """
    plans = [{**plan._asdict(), **asdict(summarise(group))} for plan, group in by_plan(frames).items()]
    questions = {
        "asked": len(answered),
        "true_share": float(np.mean([each.right for each in answered])) if answered else math.nan,
        "answers": [{**asdict(each), "right": each.right} for each in answered],
    }
    content = {
        **asdict(summarise(frames)),
        "plans": plans,
        "questions": questions,
        **further,
        "versions": versions(),
        "each_frame": [_row(frame) for frame in frames],
    }
    return json.dumps(_without_nan(content), indent=2, ensure_ascii=False)


def versions() -> dict[str, str | None]:
    """Versions of what the figures depend on."""
    return {
        "laim_ros": laim_ros.__version__,
        "torch": _version("torch"),
        "transformers": _version("transformers"),
        "rclpy": _version("ros-rclpy") or _version("rclpy"),
        "ros_distro": os.environ.get("ROS_DISTRO"),
        "rmw": os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _quantile(frames: Sequence[Frame], share: float, value: Callable[[Frame], float]) -> float:
    values = [value(frame) for frame in frames]
    known = [each for each in values if math.isfinite(each)]
    return float(np.quantile(known, share)) if known else math.nan


_OWN_PLACE = frozenset({"picture", "scene", "answers"})


def _row(frame: Frame) -> dict[str, Any]:
    return {name: getattr(frame, name) for name in Frame.__slots__ if name not in _OWN_PLACE}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
