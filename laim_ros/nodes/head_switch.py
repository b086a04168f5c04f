"""The robot's half as its parameters ask for it, and its head replaced while it serves; no ROS in here."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from laim_ros.parameters import ParameterValue
from laim_ros.plan import Plan

if TYPE_CHECKING:  # PyTorch takes seconds to import, and nodes are on the graph before
    from laim_ros.coinference import RobotHalf

_NICENESS = 2
"""How far loading stands back behind frames: to two thirds of their share where they take all there is. Not further: a
head of real size would then take minutes, and the frames would pay for the same work all the same."""

_FIRST_PICTURE = (480, 640, 3)


def open_half(values: Mapping[str, ParameterValue], plan: Plan, robot: str) -> RobotHalf:
    """Loads the stages up to `last_split` and runs them once.

    Args:
        values: the robot's parameters.
        plan: the one in force.
        robot: full name of the node.

    Raises:
        ValueError: the model cannot be loaded so, or cannot carry out the plan; the message says what would do.
    """
    import torch

    from laim_ros.coinference import RobotHalf
    from laim_ros.models import Generation

    if values["num_threads"]:
        torch.set_num_threads(values["num_threads"])
    half = RobotHalf.open(
        values["model"],
        robot,
        weight_bits=plan.weight_bits,
        last=values["last_split"],
        device=values["device"],
        quantizer=values["quantizer"],
        prune=values["prune"],
        engine=values["engine"],
    )
    half.check(plan)
    at_output = half.model.last == "output"
    warm_up, _ = half.features(np.zeros(_FIRST_PICTURE, np.uint8), "qformer" if at_output else half.model.last)
    if at_output:
        half.finish(warm_up, [""], Generation(max_new_tokens=2))
    return half


class HeadSwitch:
    """Brings a half to the bit-width that is wanted, in a thread of its own, while the old head serves. Thread-safe.

    Only the newest wish counts: a head that is being loaded for an older one is given up after the layer in hand. A
    wish that failed is tried again when it is uttered again.

    Args:
        half: whose head is replaced.
        switched: told how many seconds it took, in the thread, after the new head has begun to serve.
        failed: told of trouble, in the thread: why a wish could not be fulfilled, or what `switched` raised.
    """

    def __init__(self, half: RobotHalf, switched: Callable[[float], object], failed: Callable[[str], object]) -> None:
        self._half, self._switched, self._failed = half, switched, failed
        self._changed = threading.Condition()
        self._wanted = half.weight_bits
        self._trouble = ""
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def trouble(self) -> str:
        """Why the bit-width in force is not the one wanted, or why its change could not be told; else empty."""
        with self._changed:
            return self._trouble

    def want(self, weight_bits: int) -> None:
        """Asks for a bit-width, once more where it failed; 32 is the model as it is. Returns at once.

        Raises:
            ModelError, QuantizationError: a packed folder that does not say how many bits it has.
        """
        weight_bits = self._half.bits_for(weight_bits)
        with self._changed:
            if self._closed or (weight_bits == self._wanted and not self._trouble):
                return
            self._wanted, self._trouble = weight_bits, ""
            if self._thread is None:
                # Not before it is needed: most robots never change their bit-width.
                self._thread = threading.Thread(target=self._loop, name="laim-head-switch", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the thread: nothing is loaded any more, and what is being loaded is given up after the layer in hand.

        Only heads of transformers' own layers, of 16 and 32 bits, are loaded to their end.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def figures(self) -> dict[str, object]:
        """What is in force, and what is wanted where that is something else."""
        model = self._half.model
        with self._changed:
            wanted = {"weight_bits_wanted": self._wanted} if self._wanted != model.weight_bits else {}
        return {
            "weight_bits": model.weight_bits,
            **wanted,
            "engine": model.engine,
            "head_bytes": model.head_bytes,
            "weight_bytes": model.weight_bytes,
        }

    def _loop(self) -> None:
        # Imported here, as it brings PyTorch along.
        from laim_ros.quantization.errors import GivenUpError

        _stand_back()
        while (weight_bits := self._next()) is not None:
            began_s = time.perf_counter()
            try:
                self._half.set_weight_bits(weight_bits, partial(self._wants, weight_bits))
            except GivenUpError:
                continue  # as was asked for: another wish has come, or the end
            except Exception as error:  # also memory that does not suffice: the old head serves on
                stays = f"weight_bits stays {self._half.weight_bits}, {weight_bits} could not be loaded"
                self._complain(weight_bits, f"{stays}: {_in_words(error)}")
                continue
            try:
                self._switched(time.perf_counter() - began_s)
            except Exception as error:  # whoever listens must not end the thread: later wishes would be lost
                self._complain(weight_bits, f"weight_bits is {weight_bits}, but telling so failed: {_in_words(error)}")

    def _next(self) -> int | None:
        """The bit-width to load, once there is one; None when closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or (self._wanted != self._half.weight_bits and not self._trouble)
            )
            return None if self._closed else self._wanted

    def _wants(self, weight_bits: int) -> bool:
        return not self._closed and self._wanted == weight_bits

    def _complain(self, weight_bits: int, reason: str) -> None:
        if self._closed:
            return
        self._set_trouble(weight_bits, reason)
        try:
            self._failed(reason)
        except Exception as error:
            self._set_trouble(weight_bits, f"{reason}; telling so failed: {_in_words(error)}")

    def _set_trouble(self, weight_bits: int, reason: str) -> None:
        with self._changed:
            # A newer wish is not in trouble yet, and would not be tried if it were.
            if self._wanted == weight_bits:
                self._trouble = reason


def _in_words(error: Exception) -> str:
    return f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _stand_back() -> None:
    """Makes the calling thread take one core at most, and let the others of this process go first."""
    import torch

    threads = torch.get_num_threads()
    if threads > 1:
        torch.set_num_threads(1)
        # Threads that run already keep their number, but those that begin later take the one that was set last.
        setting_back = threading.Thread(target=torch.set_num_threads, args=(threads,))
        setting_back.start()
        setting_back.join()
    if sys.platform == "linux":  # elsewhere a priority belongs to the whole process
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)
