"""One frame's truth, result and times, brought together by the stamp of its image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from laim_ros.records import UNKNOWN_SEQUENCE, coded_as, coded_in_words
from laim_ros.scenes import Scene, SceneError, caption_truth

if TYPE_CHECKING:
    from laim_ros.records import FrameResult, LinkReport, Reference

_MOST_WAITING = 1024
"""More camera frames than pass while a large model on a slow computer makes one caption."""

_LINK_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that came back.

    Attributes:
        stamp_ns: of the image.
        true_caption, scene: what was there; None where the camera does not tell.
        caption: what the system said; empty where there is an error.
        right: whether the caption is true and complete.
        reason: why it is not; empty where it is.
        error: why there is no caption.
        answers: (prompt, text) of the questions that rode along.
        split_point, weight_bits, feature_bits, codec: the plan of this frame, as it was carried out.
        packet_bytes: sent over the link.
        robot_s, link_s, edge_s, latency_s: seconds; NaN where not known.
        picture: uint8 (H, W, 3) RGB as the camera published it, perhaps shrunk; None if it was not seen.
        at_s: when it came back, in seconds after the first caption; NaN where nobody said.
    """

    stamp_ns: int
    true_caption: str
    scene: Scene | None
    caption: str
    right: bool
    reason: str
    error: str = ""
    answers: tuple[tuple[str, str], ...] = ()
    split_point: str = ""
    weight_bits: int = 0
    feature_bits: int = 0
    codec: str = ""
    packet_bytes: int = 0
    robot_s: float = math.nan
    link_s: float = math.nan
    edge_s: float = math.nan
    latency_s: float = math.nan
    picture: np.ndarray | None = None
    at_s: float = math.nan

    @property
    def plan(self) -> FramePlan:
        """The plan in words."""
        return plan_in_force(self.split_point, self.weight_bits, self.feature_bits, self.codec)


class FramePlan(NamedTuple):
    """A plan in words.

    Attributes:
        split_point: last stage run on the robot.
        sent_as: bits per element and codec, or codec and quality, or a dash where nothing is sent; see `coded_as`.
        weights: bits per weight of the robot's half, or a dash where it runs nothing.
    """

    split_point: str
    sent_as: str
    weights: str


def plan_in_force(split_point: str, weight_bits: int, feature_bits: int, codec: str) -> FramePlan:
    """These figures as words."""
    weights = "–" if split_point == "input" or not weight_bits else str(weight_bits)
    return FramePlan(split_point, coded_as(split_point, feature_bits, codec), weights)


def plan_words(split_point: str, sent_as: str, weights: str = "") -> str:
    """A plan in words, such as `qformer, 2 bits (klt), weights 4 bits`; weights of 32 bits go without saying."""
    quantized = f", weights {weights} bits" if weights.isdigit() and weights != "32" else ""
    if split_point == "output":
        return f"all on the robot{quantized}"
    return f"{split_point}, {coded_in_words(sent_as)}{quantized}"


@dataclass(slots=True)
class _Parts:
    picture: np.ndarray | None = None
    reference: Reference | None = None
    result: FrameResult | None = None
    result_at_s: float = math.nan
    link: LinkReport | None = None

    def complete(self, now_s: float) -> bool:
        """Whether all is there that will come; the link report of a result follows it at once or not at all."""
        result = self.result
        if result is None:
            return False
        own = result.error or result.repeated or result.split_point == "output"
        known = self.reference is not None and (own or self.link is not None)
        return known or now_s - self.result_at_s > _LINK_WAIT_S


class Matcher:
    """Collects what is told of frames, in any order, and gives back those that are complete.

    Args:
        clock: seconds on a steady clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: dict[int, _Parts] = {}

    def add_picture(self, stamp_ns: int, picture: np.ndarray) -> None:
        """The image itself: uint8 (H, W, 3)."""
        self._parts(stamp_ns).picture = picture

    def add_reference(self, stamp_ns: int, reference: Reference) -> None:
        """The truth about the image."""
        self._parts(stamp_ns).reference = reference

    def add_result(self, stamp_ns: int, result: FrameResult) -> None:
        """What became of the image; the answer to a probe belongs to none."""
        if result.probe:
            return
        parts = self._parts(stamp_ns)
        parts.result, parts.result_at_s = result, self._clock()

    def add_link(self, stamp_ns: int, link: LinkReport) -> None:
        """How long that took. A probe or a silence belongs to no image, and an own result tells its times itself."""
        if link.probe or link.sequence == UNKNOWN_SEQUENCE or link.split_point == "output":
            return
        self._parts(stamp_ns).link = link

    def take(self) -> list[Frame]:
        """The frames completed since the last call, oldest first."""
        now_s = self._clock()
        done = sorted(stamp for stamp, parts in self._waiting.items() if parts.complete(now_s))
        return [_frame(stamp, self._waiting.pop(stamp)) for stamp in done]

    def _parts(self, stamp_ns: int) -> _Parts:
        parts = self._waiting.get(stamp_ns)
        if parts is None:
            parts = self._waiting[stamp_ns] = _Parts()
            while len(self._waiting) > _MOST_WAITING:
                # Newest wins in the robot and in the edge: a frame that was overtaken never comes back.
                del self._waiting[min(self._waiting)]
        return parts


def _frame(stamp_ns: int, parts: _Parts) -> Frame:
    result, link, reference = parts.result, parts.link, parts.reference
    scene = _scene(reference.scene) if reference else None
    caption = result.texts[0] if result.texts else ""
    right, reason = _judged(caption, scene, result.error)
    times = link or result
    return Frame(
        stamp_ns=stamp_ns,
        true_caption=reference.caption if reference else "",
        scene=scene,
        caption=caption,
        right=right,
        reason=reason,
        error=result.error,
        answers=tuple(zip(result.prompts[1:], result.texts[1:], strict=False)),
        split_point=result.split_point,
        weight_bits=result.weight_bits,
        feature_bits=result.feature_bits,
        codec=result.codec,
        packet_bytes=result.packet_bytes,
        robot_s=times.robot_s,
        # The edge reports the link of an earlier frame; this one's is known by the robot alone.
        link_s=link.link_s if link else (0.0 if result.split_point == "output" else math.nan),
        edge_s=times.edge_s,
        latency_s=link.latency_s if link else (result.robot_s if result.split_point == "output" else math.nan),
        picture=parts.picture,
    )


def _judged(caption: str, scene: Scene | None, error: str) -> tuple[bool, str]:
    if error:
        return False, error
    if scene is None:
        return False, "the camera did not tell what is there"
    truth = caption_truth(caption, scene)
    return truth.true and truth.complete, truth.reason


def _scene(text: str) -> Scene | None:
    try:
        return Scene.from_json(text) if text else None
    except SceneError:
        return None
