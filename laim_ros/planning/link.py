"""`LinkEstimator`: goodput and round trip of the link, from the packets that went over it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

MEMORY_PACKETS = 16
"""Packets after which an observation counts 1/e as much."""

_WINDOW = 4 * MEMORY_PACKETS  # what is older counts less than 2 %
_WEIGHTS = np.exp(np.arange(1 - _WINDOW, 1) / MEMORY_PACKETS)
_MIN_PACKETS = 12
_REMEMBERED_PACKETS = 256
_SHORTEST_S, _LONGEST_S = 1e-6, 3600.0
_SIGNIFICANCE = 5.0


@dataclass(frozen=True, slots=True)
class _Fit:
    typical_bytes: float
    typical_s: float
    round_trip_s: float
    seconds_per_byte: float | None


class LinkEstimator:
    """Running fit of link time ≈ round trip + 8 · bytes / goodput, over the last packets, the newest counting most.

    The fit is a weighted Theil–Sen line: the weighted median of the slopes of all pairs of packets, then the weighted
    median of what remains. A fifth of the packets may be late by any time without moving it far, and nothing needs
    tuning to the scale of the link.

    Goodput can only be seen where packets of different sizes arrive. The slope is taken as known when the sizes
    differ (their 10 % and 90 % quantiles, after 12 packets) and it stands out of the noise by five standard errors:
    it is tested anew with every packet, and a false one would be remembered. Otherwise the last known goodput is kept
    for 256 packets, and raised where it would need longer than the packets now take: while sizes stay equal, a slower
    link then shows as a longer round trip. When goodput was never seen, or has expired, `goodput_bps` is None,
    `round_trip_s` includes the transmission of a packet of the usual size, and `goodput_floor_bps` is all that is
    known.

    Not for two threads at once.
    """

    def __init__(self) -> None:
        self._packets: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._fit: _Fit | None = None
        self._known_seconds_per_byte: float | None = None
        self._packets_since_known = 0

    def update(self, packet_bytes: int, link_s: float) -> None:
        """Take in one packet that was answered.

        Args:
            packet_bytes: its size on the wire, positive.
            link_s: time from sending to the answer, less the edge's own time, in seconds. The two are measured by
                different clocks, so zero and negative values happen on a fast link: they count as one microsecond.

        Raises:
            ValueError: packet_bytes not positive, or link_s not finite.
        """
        if not (math.isfinite(packet_bytes) and packet_bytes >= 1):
            raise ValueError(f"packet_bytes {packet_bytes} must be at least 1")
        if not math.isfinite(link_s):
            raise ValueError(f"link_s {link_s} must be finite")
        self._packets.append((float(packet_bytes), min(max(link_s, _SHORTEST_S), _LONGEST_S)))
        sizes_bytes, times_s = np.array(self._packets).T
        self._refit(sizes_bytes, times_s, _WEIGHTS[-len(sizes_bytes) :])

    @property
    def goodput_bps(self) -> float | None:
        """Bits per second that the link carries; None while packet sizes do not reveal it."""
        if self._fit is None or self._fit.seconds_per_byte is None:
            return None
        return 8 / self._fit.seconds_per_byte

    @property
    def goodput_floor_bps(self) -> float | None:
        """Bits per second that the link carries at least, as if it did nothing but transmit; None before any packet."""
        return None if self._fit is None else 8 * self._fit.typical_bytes / self._fit.typical_s

    @property
    def round_trip_s(self) -> float | None:
        """Time of the smallest packet there and its answer back; includes transmission while `goodput_bps` is None."""
        return None if self._fit is None else self._fit.round_trip_s

    def predict_s(self, packet_bytes: int) -> float | None:
        """Link time of a packet of this size in seconds; None before the first packet.

        While `goodput_bps` is None, an upper estimate: smaller packets than usual as the usual, larger in proportion.
        """
        fit = self._fit
        if fit is None:
            return None
        if fit.seconds_per_byte is None:
            return fit.typical_s * max(1.0, packet_bytes / fit.typical_bytes)
        return fit.round_trip_s + packet_bytes * fit.seconds_per_byte

    def _refit(self, sizes_bytes: np.ndarray, times_s: np.ndarray, weights: np.ndarray) -> None:
        typical_bytes, typical_s = _median(sizes_bytes, weights), _median(times_s, weights)
        slope = _clear_slope(sizes_bytes, times_s, weights)
        if slope is not None:
            self._known_seconds_per_byte, self._packets_since_known = slope, 0
        elif self._known_seconds_per_byte is not None:
            self._packets_since_known += 1
            if self._packets_since_known > _REMEMBERED_PACKETS:
                self._known_seconds_per_byte = None
            slope = self._known_seconds_per_byte
        if slope is None:
            self._fit = _Fit(typical_bytes, typical_s, typical_s, None)
            return
        round_trip_s = _median(times_s - slope * sizes_bytes, weights)
        if round_trip_s < 0:  # no link answers before it is asked: all the time is transmission
            slope, round_trip_s = _median(times_s / sizes_bytes, weights), 0.0
        self._fit = _Fit(typical_bytes, typical_s, round_trip_s, slope)


def _clear_slope(sizes_bytes: np.ndarray, times_s: np.ndarray, weights: np.ndarray) -> float | None:
    """Seconds per byte, or None where sizes are too equal or noise hides it."""
    if len(sizes_bytes) < _MIN_PACKETS:
        return None
    # Quantiles, not the extremes: one packet of another size, late for another reason, must not make a slope.
    spread_bytes = _quantile(sizes_bytes, weights, 0.9) - _quantile(sizes_bytes, weights, 0.1)
    if spread_bytes < 1:
        return None
    first, second = np.triu_indices(len(sizes_bytes), 1)
    distance_bytes = sizes_bytes[second] - sizes_bytes[first]
    apart = distance_bytes != 0
    first, second, distance_bytes = first[apart], second[apart], distance_bytes[apart]
    slopes = (times_s[second] - times_s[first]) / distance_bytes
    slope = _median(slopes, weights[first] * weights[second] * np.abs(distance_bytes))
    rest_s = times_s - slope * sizes_bytes
    noise_s = max(1.4826 * _median(np.abs(rest_s - _median(rest_s, weights)), weights), _SHORTEST_S)
    independent = weights.sum() ** 2 / np.square(weights).sum()
    # As for least squares, where normal sizes would have a standard deviation of spread/2.56; medians lose about 1.2.
    standard_error = 1.2 * noise_s * 2.56 / (spread_bytes * math.sqrt(independent))
    return float(slope) if slope > _SIGNIFICANCE * standard_error else None


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The smallest value that has at least this share of the weight at or below it."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, share * total[-1])]])


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    return _quantile(values, weights, 0.5)
