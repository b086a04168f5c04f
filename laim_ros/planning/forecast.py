"""`LinkForecaster`: how long packets of any size will take, with a margin for what the link has done lately."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from laim_ros.planning.link import LinkEstimator

_MEMORY_S = 5.0
"""Age at which an observation counts 1/e as much for the margin: the length of a short fade."""

MOST_SENDING_S = 5.0
"""A packet older than this is given up: the lifespan of laim/features."""

_MOST_KEPT = 64
_UNUSUAL, _MOST_USUAL = 2.0, 8
_LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class LinkForecast:
    """Link time ≈ max(least_s, round_trip_s + seconds_per_byte · bytes), both ways, in seconds.

    Attributes:
        round_trip_s: of the smallest packet.
        seconds_per_byte: 8 / goodput, with the safety margin.
        least_s: what every packet takes at least: where goodput was never seen, and while one is waited for.
        known: False before the first packet came back; then the link counts as free of cost.
        usual_seconds_per_byte: without the margin, for what is sent on average; None for the same.
    """

    round_trip_s: float = 0.0
    seconds_per_byte: float = 0.0
    least_s: float = 0.0
    known: bool = False
    usual_seconds_per_byte: float | None = None

    @property
    def goodput_bps(self) -> float:
        """Bits per second that the forecast counts on; NaN where unknown."""
        return 8 / self.seconds_per_byte if self.seconds_per_byte else math.nan

    def link_s(self, packet_bytes: np.ndarray) -> np.ndarray:
        """Seconds for packets of these sizes; 0 where nothing is sent."""
        needed_s = np.maximum(self.least_s, self.round_trip_s + self.seconds_per_byte * packet_bytes)
        return np.where(packet_bytes > 0, needed_s, 0.0)

    def sending_s(self, packet_bytes: np.ndarray) -> np.ndarray:
        """Seconds that the radio usually sends, without the round trip and what is spent waiting in an outage."""
        usual = self.usual_seconds_per_byte
        return np.minimum((self.seconds_per_byte if usual is None else usual) * packet_bytes, MOST_SENDING_S)


class LinkForecaster:
    """Forecast from the packets of the last seconds.

    `LinkEstimator` separates the round trip from the transmission over its longer memory. What lately exceeded the
    round trip is charged to the bytes: a link that sags shows at once, even while packets are small, and a larger
    packet is expected to suffer in proportion. The margin is a quantile of that charge over the last seconds.

    Not for two threads at once.
    """

    def __init__(self) -> None:
        self._estimator = LinkEstimator()
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=_MOST_KEPT)

    def update(self, packet_bytes: int, link_s: float, now_s: float) -> None:
        """Takes in one packet that was answered.

        Args:
            packet_bytes: its size on the wire, positive.
            link_s: its time on the link, both ways, in seconds; at most an hour.
            now_s: when its answer came, on a steady clock.

        Raises:
            ValueError: as `LinkEstimator.update`.
        """
        self._estimator.update(packet_bytes, link_s)
        self._recent.append((now_s, float(packet_bytes), min(max(link_s, 0.0), _LONGEST_S)))

    def forecast(self, now_s: float, quantile: float, unanswered_s: float = 0.0) -> LinkForecast:
        """What to count on now.

        Args:
            now_s: on the clock of `update`; a clock that was set back makes everything recent.
            quantile: share of the recent packets that the forecast would have covered, 0.5 to 1.
            unanswered_s: how long the oldest packet under way has waited: the next one will hardly be faster. If that
                is unusually long, it counts twice: what has lasted so long is likely to last as long again.
        """
        if not self._recent:
            return LinkForecast(least_s=unanswered_s, known=unanswered_s > 0)
        if unanswered_s > _UNUSUAL * max(link_s for _, _, link_s in list(self._recent)[-_MOST_USUAL:]):
            unanswered_s *= 2
        at_s, sizes_bytes, times_s = np.array(self._recent).T
        ages_s = np.maximum(0.0, now_s - at_s)
        weights = np.exp(-(ages_s - ages_s.min()) / _MEMORY_S)
        if self._estimator.goodput_bps is None:
            # Round trip and transmission cannot be told apart: smaller packets as the usual, larger in proportion.
            charge = times_s / sizes_bytes
            charged, usual = (_quantile(charge, weights * sizes_bytes, share) for share in (quantile, 0.5))
            least_s = max(_quantile(times_s, weights, quantile), unanswered_s)
            return LinkForecast(0.0, charged, least_s, True, usual)
        round_trip_s = min(self._estimator.round_trip_s, float(np.min(times_s)))
        charge = np.maximum(times_s - round_trip_s, 0.0) / sizes_bytes
        # By size: the few bytes of a small packet would turn each hiccup into hours for a large one.
        charged = _quantile(charge, weights * sizes_bytes, quantile)
        # Not below the longer memory: small packets alone cannot show that large ones have become cheap.
        longer = 8 / self._estimator.goodput_bps
        return LinkForecast(round_trip_s, max(charged, longer), unanswered_s, True, longer)


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, share * total[-1])]])
