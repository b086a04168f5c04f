"""`References`: which earlier frame a predictive stream's next frame may refer to."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

MOST_IN_A_ROW = 15
"""Predicted frames after which one comes by itself: an edge that has just started waits no longer than for these."""

_STREAMS_KEPT = 4
"""The standing stream, and those of the latest questions: each question makes one, for a single frame."""

_SENT_KEPT = 64


@dataclass(slots=True)
class _Stream:
    """What is known of one stream.

    Attributes:
        waiting: frames sent since the last that was confirmed, in the order of sending, with what counts them (sequence
            numbers start over); -1 for one that is known to be lost.
        sent: how many frames were.
        alone_at: count of the last frame that came by itself.
        in_a_row: predicted frames since then.
        confirmed: newest frame that the other side has decoded.
        lost: whether a frame was lost, and none has come by itself since.
    """

    waiting: OrderedDict[int, int] = field(default_factory=OrderedDict)
    sent: int = 0
    alone_at: int = 0
    in_a_row: int = 0
    confirmed: int | None = None
    lost: bool = False

    def add(self, sequence: int, alone: bool) -> None:
        self.sent += 1
        self.waiting[sequence] = self.sent
        while len(self.waiting) > _SENT_KEPT:
            self.waiting.popitem(last=False)
        if alone:
            self.alone_at, self.in_a_row, self.lost = self.sent, 0, False
        else:
            self.in_a_row += 1

    def lose(self, sequence: int) -> None:
        # A frame that came by itself after the lost one has mended it already.
        self.lost |= self.waiting[sequence] >= self.alone_at
        self.waiting[sequence] = -1

    def confirm(self, sequence: int) -> None:
        while (oldest := next(iter(self.waiting))) != sequence:
            self.lose(oldest)
            del self.waiting[oldest]
        del self.waiting[sequence]
        self.confirmed = sequence


class References:
    """Remembers what was sent and what of that the other side has decoded. Thread-safe.

    Only frames that the other side is known to have decoded are referred to: a lost packet costs its own frame alone.
    Frames are answered in the order in which they were sent, so one that is answered tells that those before it which
    were not are lost. Streams do not disturb each other: a question has a stream of its own, and after it the standing
    one goes on where it was.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: OrderedDict[int, _Stream] = OrderedDict()

    def next(self, stream_id: int) -> int | None:
        """Number of the frame that the next one of this stream may refer to; None where it must come by itself."""
        with self._lock:
            stream = self._streams.get(stream_id)
            if stream is None or stream.lost or stream.in_a_row >= MOST_IN_A_ROW:
                return None
            return stream.confirmed

    def sent(self, stream_id: int, sequence: int, reference: int | None) -> None:
        """A frame has been coded, with the reference that `next` gave for it."""
        with self._lock:
            stream = self._streams.setdefault(stream_id, _Stream())
            self._streams.move_to_end(stream_id)
            while len(self._streams) > _STREAMS_KEPT:
                self._streams.popitem(last=False)
            stream.add(sequence, reference is None)

    def confirmed(self, sequence: int) -> None:
        """The other side has decoded this frame; those before it that it has not answered are lost."""
        with self._lock:
            stream = self._stream_of(sequence)
            if stream is not None:
                stream.confirm(sequence)

    def lost(self, sequence: int | None = None) -> None:
        """A frame was lost or refused: the next one of its stream comes by itself.

        Args:
            sequence: of the frame; None where it is not known, so that the next one of every stream comes by itself.
        """
        with self._lock:
            if sequence is None:
                for stream in self._streams.values():
                    stream.lost = True
                return
            stream = self._stream_of(sequence)
            if stream is not None:
                stream.lose(sequence)

    def _stream_of(self, sequence: int) -> _Stream | None:
        return next((stream for stream in self._streams.values() if sequence in stream.waiting), None)
