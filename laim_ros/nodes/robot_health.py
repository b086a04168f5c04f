"""What came in at the robot and what went wrong lately, and why there is no result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from laim_ros.nodes.ledger import Ledger
from laim_ros.plan import Plan

if TYPE_CHECKING:
    from laim_ros.nodes.sending import PacketSender

SILENCE_S = 5.0
"""How long nothing may come, or an answer be missing, before that is worth a warning."""


class Health:
    """Counts and times since activation. Times are of the robot's steady clock, in seconds.

    Args:
        ledger: of the frames under way.
        sender: of the packets.
        image_topic: full name.

    Attributes:
        images: that came.
        overtaken: of them, before their turn.
        bad: of them, that could not be read.
        repeated: frames that got the result of an equal one.
        last_image_s: when the newest came.
    """

    def __init__(self, ledger: Ledger, sender: PacketSender, image_topic: str) -> None:
        self._ledger, self._sender, self._image_topic = ledger, sender, image_topic
        self.images = self.overtaken = self.bad = self.repeated = 0
        self.last_image_s = -math.inf
        self._refusal, self._refused_s = "", -math.inf

    def refused(self, reason: str, now_s: float) -> None:
        """Remembers why a frame got no result."""
        self._refusal, self._refused_s = reason, now_s

    def why_silent(self, since_s: float, plan: Plan) -> str:
        """Why there has been no result since then."""
        if self.last_image_s < since_s:
            return f"no image on {self._image_topic} (`ros2 topic hz` it; remap with image:=TOPIC)"
        if self._refused_s >= since_s:
            return self._refusal
        if plan.split_point == "output":
            return "the model is still at work; raise describe_timeout_s"
        if not self._sender.readers:
            return f"no edge reads {self._sender.topic}; start edge_node, or look at domain and network"
        return f"{self._ledger.waiting} packets wait for the edge's answer"

    def complaint(self, now_s: float, plan: Plan) -> str:
        """What has been missing for so long, or went wrong so lately, that it is worth a warning; empty if nothing."""
        since_s = now_s - SILENCE_S
        overdue = plan.split_point != "output" and self._ledger.oldest_waits_s(now_s) > SILENCE_S
        wrong = self.last_image_s < since_s or self._refused_s >= since_s or overdue
        return self.why_silent(since_s, plan) if wrong else ""

    def figures(self) -> dict[str, object]:
        """The counts, with those of the frames sent."""
        return {
            "images": self.images,
            "images_overtaken": self.overtaken,
            "images_bad": self.bad,
            "frames_repeated": self.repeated,
            **self._ledger.figures(),
        }
