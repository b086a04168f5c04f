"""Service calls that wait for the next result."""

from __future__ import annotations

import threading

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

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
