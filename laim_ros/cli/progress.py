"""How far a long piece of work is: one line on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time

_QUIET_S = 60.0
"""Between two lines where nobody sits at a terminal."""


class Line:
    """One line of stderr that is written over; nothing where that is no terminal."""

    def __init__(self) -> None:
        self.is_live = sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Puts this text in the place of the one before."""
        if self.is_live:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Takes the line away."""
        self.show("")


class Progress:
    """Rows of a table that are measured one after the other, and how long the rest will take.

    Attributes:
        kept: rows that were there before.
        measured: rows since.
    """

    def __init__(self) -> None:
        self._line = Line()
        self.kept = self.measured = self._rows = self._work = self._done = 0
        self._began_s = self._told_s = 0.0

    def begin(self, rows: int, kept: int, work: int) -> None:
        """Of so many rows some are kept; the others are so much work, in units of one's own."""
        self._rows, self.kept, self._work = rows, kept, work
        self._began_s = self._told_s = time.monotonic()
        if kept:
            print(f"{kept} of {rows} rows are kept from a run that was interrupted", file=sys.stderr, flush=True)

    def tick(self, work: int) -> None:
        """So much of the work has been done."""
        self._done += work
        now_s = time.monotonic()
        left_s = (now_s - self._began_s) * (self._work / self._done - 1)
        row = min(self.kept + self.measured + 1, self._rows)
        text = f"row {row} of {self._rows}, {100 * self._done // self._work} %, about {_duration(left_s)} left"
        if self._line.is_live:
            self._line.show(text)
        elif now_s - self._told_s > _QUIET_S:
            self._told_s = now_s
            print(text, file=sys.stderr, flush=True)

    def row(self) -> None:
        """A row is complete, and safe."""
        self.measured += 1

    def close(self) -> None:
        """Takes the line away."""
        self._line.clear()


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
