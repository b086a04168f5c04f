"""The one thread in which a node does its heavy work, fed by callbacks that never wait."""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")

_FIGURES = re.compile(r"\d+")


class NewestWins(Generic[_Item]):
    """A waiting room with one seat per key: a newer item takes the seat of the one that waits there."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, _Item] = {}
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: _Item, key: Hashable = None) -> _Item | None:
        """Seats `item`; returns the older item that it replaced, if one was waiting."""
        with self._changed:
            # A newer item keeps the place in the queue: else the one who is refreshed most often would wait for ever.
            replaced = self._waiting.get(key)
            self._waiting[key] = item
            self._changed.notify_all()
        return replaced

    def take(self, most: int) -> list[_Item]:
        """Up to `most` items, longest waiting first; waits for one, and is empty only when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            keys = list(self._waiting)[:most]
            return [self._waiting.pop(key) for key in keys]

    def close(self) -> None:
        """Ends every `take`, now and later."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()


class Worker(Generic[_Item]):
    """Runs `work` in a thread of its own on what waits; an exception costs one piece of work, not the thread.

    Args:
        work: does one piece of work on one or more items.
        failed: told of an exception of `work`, and the items that it was working on.
        most: most items per piece of work; asked each time.
        pause_s: seconds to wait before the next piece of work; asked each time.
    """

    def __init__(
        self,
        work: Callable[[list[_Item]], None],
        failed: Callable[[list[_Item], Exception], None],
        *,
        most: Callable[[], int] = lambda: 1,
        pause_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.waiting: NewestWins[_Item] = NewestWins()
        self._work, self._failed, self._most, self._pause_s = work, failed, most, pause_s
        self._stopping = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="laim-worker", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Asks `pause_s` again at once, because it may have changed."""
        self._woken.set()

    def stop(self) -> None:
        """Ends the thread after the piece of work in hand, however long that takes."""
        self._stopping = True
        self._woken.set()
        self.waiting.close()
        self._thread.join()

    def _pause(self) -> bool:
        """Waits as long as asked; False if the thread is to end."""
        while not self._stopping and (pause_s := self._pause_s()) > 0:
            self._woken.wait(pause_s)
            self._woken.clear()
        return not self._stopping

    def _loop(self) -> None:
        while self._pause():
            items = self.waiting.take(self._most())
            if not items:
                return
            try:
                self._work(items)
            except Exception as error:  # anything a strange picture or packet may cause
                try:
                    self._failed(items, error)
                except Exception:  # told nowhere else, and the thread must live
                    traceback.print_exc()


class ThrottledLog:
    """Lets a message through once per period, and a few messages in all, so that bad input cannot flood the log.

    Thread-safe: callbacks and the worker complain through the same one.
    """

    def __init__(self, log: Callable[[str], object], period_s: float = 10.0, most: int = 10) -> None:
        self._log, self._period_s, self._most = log, period_s, most
        self._held_back: dict[str, int] = {}
        self._period_began_s = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, text: str, figures_matter: bool = True) -> None:
        """Logs `text`, unless it was logged in this period or the period is full.

        Args:
            text: to be logged.
            figures_matter: False where texts that differ in their figures alone count as the same.
        """
        with self._lock:
            self._pass_or_count(text, text if figures_matter else _FIGURES.sub("#", text))

    def _pass_or_count(self, text: str, key: str) -> None:
        now_s = time.monotonic()
        if now_s - self._period_began_s > self._period_s:
            more = sum(self._held_back.values())
            if more:
                self._log(f"{more} more such messages in the last {now_s - self._period_began_s:.0f} s")
            self._held_back, self._period_began_s = {}, now_s
        if key in self._held_back or len(self._held_back) >= self._most:
            self._held_back[key if key in self._held_back else next(iter(self._held_back))] += 1
            return
        self._held_back[key] = 0
        self._log(text)
