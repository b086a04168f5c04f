"""`SlowLink`: what a slow link does to packets, on a clock that the caller brings. No ROS in here."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

_Item = TypeVar("_Item")

_NEARLY_SENT_BYTES = 1e-6
"""Below this rounding errors of the clock are all that is left of a packet."""


@dataclass(slots=True)
class _Sending(Generic[_Item]):
    key: str
    item: _Item
    left_bytes: float


class SlowLink(Generic[_Item]):
    """A token bucket that sends one packet after the other, with a queue of one packet per topic.

    Tokens, one per byte, come in with `goodput_bps` and are kept up to `burst_bytes`; a packet arrives `latency_s`
    after the last of its bytes has found one. A packet that waits is replaced by a newer one of its topic, as in a DDS
    writer that keeps the last one; in an outage that holds for the packet on its way too: a radio that cannot be heard
    sends it anew.

    Times are of one steady clock, in seconds, and must not run backwards. Not for two threads at once.

    Args:
        goodput_bps: bits per second; 0 is an outage.
        burst_bytes: that may pass at once after a pause.
        latency_s: added to every packet.
        now_s: the beginning; the bucket is full.
    """

    def __init__(self, goodput_bps: float, burst_bytes: float, latency_s: float, now_s: float) -> None:
        self._burst_bytes, self._latency_s = float(burst_bytes), latency_s
        self._byte_rate = goodput_bps / 8
        self._tokens = self._burst_bytes
        self._at_s = now_s
        self._sending: _Sending[_Item] | None = None
        self._waiting: OrderedDict[str, tuple[_Item, int]] = OrderedDict()
        self._flying: deque[tuple[float, str, _Item]] = deque()
        self.received = self.passed = self.replaced = 0

    def set(self, goodput_bps: float, burst_bytes: float, latency_s: float, now_s: float) -> None:
        """Takes other figures from now on; a packet on its way goes on with them."""
        self._advance(now_s)
        self._byte_rate, self._burst_bytes, self._latency_s = goodput_bps / 8, float(burst_bytes), latency_s
        self._tokens = min(self._tokens, self._burst_bytes)

    def put(self, key: str, item: _Item, packet_bytes: int, now_s: float) -> None:
        """Takes in a packet of the topic `key`."""
        self._advance(now_s)
        self.received += 1
        if not self._byte_rate and self._sending is not None and self._sending.key == key:
            self._sending = None
            self.replaced += 1
        # A newer packet keeps the place of the one that it replaces: no topic starves another.
        self.replaced += key in self._waiting
        self._waiting[key] = item, packet_bytes
        self._advance(now_s)

    def take(self, now_s: float) -> list[tuple[str, _Item]]:
        """The packets that have arrived since the last call, with their topics."""
        self._advance(now_s)
        arrived = []
        while self._flying and self._flying[0][0] <= now_s:
            _, key, item = self._flying.popleft()
            arrived.append((key, item))
        self.passed += len(arrived)
        return arrived

    @property
    def next_s(self) -> float:
        """When the next packet arrives if nothing changes; infinite if none does."""
        if self._flying:
            return self._flying[0][0]
        if self._sending is None or not self._byte_rate:
            return math.inf
        return self._at_s + max(0.0, self._sending.left_bytes - self._tokens) / self._byte_rate + self._latency_s

    @property
    def waiting(self) -> int:
        """Packets that have not been sent altogether."""
        return len(self._waiting) + (self._sending is not None)

    def _advance(self, now_s: float) -> None:
        while True:
            if self._sending is None and self._waiting:
                key, (item, packet_bytes) = self._waiting.popitem(last=False)
                self._sending = _Sending(key, item, float(packet_bytes))
            elapsed_s = max(0.0, now_s - self._at_s)
            sending = self._sending
            if sending is None:
                self._tokens = min(self._burst_bytes, self._tokens + elapsed_s * self._byte_rate)
                self._at_s += elapsed_s
                return
            lacking = sending.left_bytes - self._tokens
            if lacking > elapsed_s * self._byte_rate + _NEARLY_SENT_BYTES:
                sending.left_bytes = lacking - elapsed_s * self._byte_rate
                self._tokens = 0.0
                self._at_s += elapsed_s
                return
            self._tokens = max(0.0, -lacking)
            if lacking > 0 and self._byte_rate:
                self._at_s = min(now_s, self._at_s + lacking / self._byte_rate)
            self._flying.append((self._at_s + self._latency_s, sending.key, sending.item))
            self._sending = None
