"""The demo's made-up link: how fast it is when, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from laim_ros.planning.reasons import bits_per_second_in_words


@dataclass(frozen=True, slots=True)
class LinkPhase:
    """A part of the demo's time.

    Attributes:
        share: of the time, relative to the other phases.
        goodput_bps: bits per second; 0 is an outage.
    """

    share: float
    goodput_bps: float


LINK: tuple[LinkPhase, ...] = (
    LinkPhase(8, 400e3),
    LinkPhase(8, 16e3),
    LinkPhase(4, 0.0),
    LinkPhase(10, 400e3),
)
"""It is good, sags, breaks, and recovers. Pictures that take 15 to 30 ms at first (0.8 kB as jpeg25, 1.6 kB as jpeg90)
take 400 to 800 ms on the sagged link, and four a second are more than it carries; the Q-Former's output takes 15 ms at
2 bits (31 bytes by codec klt) and 115 ms at 8 (231 bytes)."""

BURST_BYTES, LATENCY_S = 24, 0.005
"""Of the token bucket: a burst of the size of a packet would hide its limit."""


def phase_at(link: Sequence[LinkPhase], seconds: float, elapsed_s: float) -> int:
    """Number of the phase that is due so many seconds after the beginning of `seconds`."""
    whole = sum(phase.share for phase in link)
    ends_s = 0.0
    for number, phase in enumerate(link):
        ends_s += seconds * phase.share / whole
        if elapsed_s < ends_s:
            return number
    return len(link) - 1


def goodput_words(goodput_bps: float) -> str:
    """`2.0 Mbit/s`, `16 kbit/s`, `an outage`."""
    return bits_per_second_in_words(goodput_bps) if goodput_bps else "an outage"
