"""`References`: which earlier frame a predictive stream's next frame may refer to."""

from __future__ import annotations

import threading
from collections import OrderedDict

MOST_IN_A_ROW = 15
"""Predicted frames after which one comes by itself: an edge that has just started waits no longer than for these."""

_SENT_KEPT = 64


class References:
    """Remembers what was sent and what of that the other side has decoded. Thread-safe.

    Only frames that the other side is known to have decoded are referred to: a lost packet costs its own frame alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: OrderedDict[int, int] = OrderedDict()
        self._confirmed: int | None = None
        self._in_a_row = 0
        self._lost = False

    def next(self, stream_id: int) -> int | None:
        """Number of the frame that the next one of this stream may refer to; None where it must come by itself."""
        with self._lock:
            confirmed = self._confirmed
            if self._lost or confirmed is None or self._in_a_row >= MOST_IN_A_ROW:
                return None
            return confirmed if self._streams.get(confirmed) == stream_id else None

    def sent(self, stream_id: int, sequence: int, reference: int | None) -> None:
        """A frame has been coded, with the reference that `next` gave for it."""
        with self._lock:
            self._streams[sequence] = stream_id
            while len(self._streams) > _SENT_KEPT:
                self._streams.popitem(last=False)
            if reference is None:
                self._in_a_row, self._lost = 0, False
            else:
                self._in_a_row += 1

    def confirmed(self, sequence: int) -> None:
        """The other side has decoded this frame; what was sent before it is of no use any more."""
        with self._lock:
            if sequence not in self._streams:
                return
            while next(iter(self._streams)) != sequence:
                self._streams.popitem(last=False)
            self._confirmed = sequence

    def lost(self) -> None:
        """A frame was lost or refused: the next one comes by itself."""
        with self._lock:
            self._lost = True
