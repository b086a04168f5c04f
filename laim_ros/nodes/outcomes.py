"""What becomes of a robot's frames: results that needed no edge go out, and whoever waits for a result gets it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sensor_msgs.msg import CompressedImage, Image

from laim_ros.nodes.ledger import Ledger, SentFrame
from laim_ros.nodes.publishing import LinkPublisher, ResultPublisher
from laim_ros.nodes.robot_health import Health
from laim_ros.nodes.robot_settings import Repeater
from laim_ros.nodes.waiting import ResultWaiters
from laim_ros.records import FrameResult


@dataclass(frozen=True, slots=True)
class Frame:
    """An image, and when it came by the robot's steady clock, in seconds."""

    message: Image | CompressedImage
    received_s: float


class Outcomes:
    """Ends frames, from one activation to the next.

    Args:
        results, links: where results of the robot's own, and what is measured of frames, go.
        waiters: those who wait for the next result.
        ledger, health: where frames are counted.
        deadline_s: latency above which a result counts as late, 0 for none; asked each time.

    Attributes:
        repeater: gets every result, and gives back the frame that waited for one.
    """

    def __init__(
        self,
        results: ResultPublisher,
        links: LinkPublisher,
        waiters: ResultWaiters,
        ledger: Ledger,
        health: Health,
        deadline_s: Callable[[], float],
    ) -> None:
        self._results, self._links, self._waiters = results, links, waiters
        self._ledger, self._health, self._deadline_s = ledger, health, deadline_s
        self.repeater: Repeater[Frame] = Repeater()

    def conclude(self, result: FrameResult) -> None:
        """A frame has its result, wherever it was made."""
        self._waiters.resolve(result)
        held = self.repeater.finished(result)
        if held is not None:
            self.repeat(*held)

    def repeat(self, frame: Frame, result: FrameResult) -> None:
        """The frame gets the result of an equal one."""
        self._health.repeated += 1
        self.publish(frame, result)

    def publish(self, frame: Frame, result: FrameResult, done: SentFrame | None = None) -> None:
        """Publishes a result that needed no edge.

        Args:
            frame: whose result it is.
            result: without times.
            done: what is to be told of a frame that the robot finished; None where it repeats a result, or failed.
        """
        header, latency_s = frame.message.header, time.perf_counter() - frame.received_s
        result = replace(result, robot_s=latency_s, link_s=0.0, edge_s=0.0, packet_bytes=0)
        self._results.publish(header, result)
        if result.error:
            self._health.refused(result.error, time.perf_counter())
            return
        if done is None:
            self._ledger.count_repeated(latency_s, self._deadline_s())
        else:
            self._links.publish(header, self._ledger.finished_here(done, self._deadline_s()))
        self._links.plot(latency_s)
        self.conclude(result)
