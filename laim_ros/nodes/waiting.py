"""Service calls that wait for the next result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from laim_ros.nodes.lifecycle import LaimNode
from laim_ros.records import FrameResult


class ResultWaiters:
    """Futures that the next result, or a timeout, resolves. Thread-safe."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._group = ReentrantCallbackGroup()
        # Wall time also where the node's clock follows a bag that may be paused.
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._lock = threading.Lock()
        self._waiting: set[Future] = set()

    async def next_result(self, timeout_s: float) -> FrameResult | None:
        """The next result, or None after `timeout_s` seconds of wall time."""
        future: Future = Future()
        with self._lock:
            self._waiting.add(future)
        timer = self._node.create_timer(timeout_s, lambda: self._settle({future}, None), self._group, clock=self._clock)
        try:
            return await future
        finally:
            self._node.destroy_timer(timer)

    def resolve(self, result: FrameResult) -> None:
        """Hands `result` to everybody who waits."""
        self._settle(set(self._waiting), result)

    def give_up(self, reason: str) -> None:
        """Ends every wait with an error."""
        self._settle(set(self._waiting), FrameResult(error=reason))

    def _settle(self, futures: set[Future], result: FrameResult | None) -> None:
        with self._lock:
            ended = futures & self._waiting
            self._waiting -= ended
        for future in ended:
            future.set_result(result)
        if ended and self._node.executor is not None:
            # The executor sleeps until a message comes; a future set by another thread does not wake it.
            self._node.executor.wake()


def offer_describe(node: LaimNode, waiters: ResultWaiters, why_silent: Callable[[float], str]) -> None:
    """Offers `~/describe`, which answers with the next caption.

    Args:
        node: that has the parameter `describe_timeout_s`.
        waiters: who are told of the next result.
        why_silent: why there has been no result since a moment of the steady clock.
    """

    async def describe(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if node.state != "active":
            name = node.get_fully_qualified_name()
            response.message = f"the robot is {node.state}; run `ros2 lifecycle set {name} activate`"
            return response
        asked_s, timeout_s = time.perf_counter(), node.values["describe_timeout_s"]
        result = await waiters.next_result(timeout_s)
        if result is None:
            response.message = f"no result within {timeout_s:g} s: {why_silent(asked_s)}"
        else:
            response.success, response.message = not result.error, result.error or result.texts[0]
        return response

    # In a group of its own: it waits for a result, and must not hold up the callbacks that bring it.
    node.create_service(Trigger, "~/describe", describe, callback_group=ReentrantCallbackGroup())
