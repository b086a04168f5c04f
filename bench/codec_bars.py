"""What the rows of `bench/codec.py` must reach, and whether they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from bench.codec_rows import Row
from laim_ros.codec import HEADER_BYTES

BELOW_MOST = 0.005
"""Share of true captions that a codec may cost."""

PAYLOAD_MOST_BYTES, PACKET_MOST_BYTES = 24, 48
TIMES_SMALLER = {"jpeg": (100, 20), "webp": (40, 8), "avif": (0, 0)}
"""Payloads and packets, against pictures of equal truth; AVIF is reported only."""

ENTROPY_SHARE, ENTROPY_BYTES = 0.05, 3.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        name: what is measured.
        bar: what it must reach, in words.
        figure: what it reached, in words.
        held: whether that is enough; None where there is no bar, or where it was not measured.
    """

    name: str
    bar: str
    figure: str
    held: bool | None

    def to_json(self) -> dict:
        """As fields."""
        return asdict(self)

    def __str__(self) -> str:
        verdict = {True: "held", False: "MISSED", None: "-"}[self.held]
        return f"{verdict:6}  {self.name}: {self.figure}" + (f" [{self.bar}]" if self.bar else "")


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Bytes that a picture format needs for a share of true captions: the monotone hull of its rows.

    Attributes:
        payload_bytes, truth: rising, of the rows that no smaller one equals in truth.
    """

    payload_bytes: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Curve:
        """The curve of one format's rows, at least one."""
        kept: list[Row] = []
        for row in sorted(rows, key=lambda row: (row.payload_bytes, -row.truth)):
            if not kept or row.truth > kept[-1].truth:
                kept.append(row)
        return cls(np.array([row.payload_bytes for row in kept]), np.array([row.truth for row in kept]))

    def bytes_at(self, truth: float) -> tuple[float, str]:
        """Bytes for this truth, interpolated over their logarithm, and a sign where it is a bound.

        Returns:
            bytes; and `>` where no row is so true (bytes of the truest), `<` where even the smallest is truer, else "".
        """
        if truth > self.truth[-1]:
            return float(self.payload_bytes[-1]), ">"
        if truth < self.truth[0]:
            return float(self.payload_bytes[0]), "<"
        return float(np.exp(np.interp(truth, self.truth, np.log(self.payload_bytes)))), ""


def smallest_true(rows: Sequence[Row], split: str = "qformer", family: str = "klt") -> Row | None:
    """The row with the smallest payload whose truth is within half a point of the uncompressed; None without."""
    kept = [row for row in rows if row.split == split and row.family == family and row.below <= BELOW_MOST]
    return min(kept, key=lambda row: row.payload_bytes, default=None)


def bars(rows: Sequence[Row]) -> list[Bar]:
    """All bars that rows decide."""
    chosen = smallest_true(rows)
    if chosen is None:
        return [Bar("codec klt at qformer", "", "no row within half a point of the uncompressed", False)]
    found = [_bytes_bar(chosen)]
    for family in TIMES_SMALLER:
        pictures = [row for row in rows if row.family == family]
        if pictures:
            found += _picture_bars(family, Curve.of(pictures), chosen)
    found += _entropy_bars(rows)
    return found


def described(row: Row) -> str:
    """A row in a few words, with the errors of its truth."""
    frames = row.true_frames.size
    error = np.sqrt(row.truth * (1 - row.truth) / frames)
    return (
        f"{row.name}: {row.payload_bytes:.1f} B of payload, {100 * row.truth:.1f} ± {100 * error:.1f} % true, "
        f"{100 * row.below:+.1f} ± {100 * row.below_error:.1f} points below uncompressed on the same frames"
    )


def _bytes_bar(row: Row) -> Bar:
    return Bar(
        "smallest klt at qformer within half a point of uncompressed",
        f"payload at most {PAYLOAD_MOST_BYTES} B, packet at most {PACKET_MOST_BYTES} B",
        f"{described(row)}; packet {row.packet_bytes:.1f} B (largest payload {row.payload_bytes_most} B)",
        row.payload_bytes <= PAYLOAD_MOST_BYTES and row.packet_bytes <= PACKET_MOST_BYTES,
    )


def _picture_bars(family: str, curve: Curve, row: Row) -> list[Bar]:
    size, sign = curve.bytes_at(row.truth)
    payload = size / row.payload_bytes
    packet = (size + HEADER_BYTES) / row.packet_bytes
    figures = {"payload": (payload, TIMES_SMALLER[family][0]), "packet": (packet, TIMES_SMALLER[family][1])}
    return [
        Bar(
            f"{family} of equal truth against {row.name}, {what}",
            f"at least {least} times" if least else "",
            f"{sign}{times:.1f} times ({sign}{size:.0f} B of {family} for {100 * row.truth:.1f} %)",
            # A picture that is truer even at its smallest bounds the ratio from above: that decides nothing.
            None if not least or (sign == "<" and times >= least) else times >= least,
        )
        for what, (times, least) in figures.items()
    ]


def _entropy_bars(rows: Sequence[Row]) -> list[Bar]:
    """One per split point, for the row that is furthest above."""
    found = []
    for split in dict.fromkeys(row.split for row in rows if row.entropy_bytes is not None):
        here = [row for row in rows if row.split == split and row.entropy_bytes is not None]
        worst = max(here, key=lambda row: row.payload_bytes - (1 + ENTROPY_SHARE) * row.entropy_bytes)
        over = 100 * (worst.payload_bytes / worst.entropy_bytes - 1)
        found.append(
            Bar(
                f"payload against the entropy of its own levels, {split}, furthest of {len(here)} rows",
                f"at most {100 * ENTROPY_SHARE:.0f} % + {ENTROPY_BYTES:.0f} B above",
                f"{worst.name}: {worst.payload_bytes:.1f} B, {worst.payload_bytes - worst.entropy_bytes:+.2f} B "
                f"({over:+.1f} %) from {worst.entropy_bytes:.1f} B (uncorrected {worst.plug_in_bytes:.1f} B; ideal "
                f"coder with the codec's models {worst.model_bytes:.1f} B)",
                worst.payload_bytes <= (1 + ENTROPY_SHARE) * worst.entropy_bytes + ENTROPY_BYTES,
            )
        )
    return found
