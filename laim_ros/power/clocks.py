"""Clocks of the machine that can be set: `open_clock`."""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from laim_ros.power.errors import PowerError
from laim_ros.power.sysfs import read_int, reason, write_int

LADDER_STEPS = 5
"""Clocks offered between lowest and highest where the processor lists none."""

_POLICY = re.compile(r"policy(\d+)")
_Number = TypeVar("_Number", int, float)


class Clock(Protocol):
    """Sets the clock of a processor.

    Attributes:
        name: for people and messages: `cpufreq`, `none`.
    """

    name: str

    @property
    def available_hz(self) -> tuple[float, ...]:
        """Clocks that can be set, in hertz, ascending; may be empty."""

    def set_hz(self, clock_hz: float) -> float:
        """Sets the nearest available clock that is not above `clock_hz`, or the lowest. Thread-safe.

        Args:
            clock_hz: in hertz; 0 puts back what was there before.

        Returns:
            what is in force now, in hertz: less than was set where the machine throttles; 0 where it is not known.

        Raises:
            PowerError: it cannot be set. What had been changed on the way is undone, or named where that failed too.
        """

    def restore(self) -> str:
        """Puts back what was there before the first `set_hz`; never raises, and may be called again.

        Returns:
            what could not be put back or was left, in a sentence; empty if there is nothing to tell.
        """


class NoClock:
    """Leaves the clock alone, whatever is asked for."""

    name = "none"
    available_hz: tuple[float, ...] = ()

    def set_hz(self, clock_hz: float) -> float:
        return 0.0

    def restore(self) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class _Policy:
    """Cores that share a clock.

    Attributes:
        limit: file of the highest clock allowed, in kHz.
        steps_khz: clocks it may be set to, ascending.
    """

    limit: Path
    steps_khz: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Hold:
    """A limit that was set here.

    Attributes:
        before_khz: to put back.
        written_khz: what was written.
        read_khz: what the file said then, which is less if the kernel held the clock lower.
    """

    before_khz: int
    written_khz: int
    read_khz: int


class CpufreqClock:
    """The highest clock that the cores may take, by Linux's `cpufreq`.

    Writes `scaling_max_freq` of every `/sys/devices/system/cpu/cpufreq/policy*` whose cores are on; within it, the
    governor still chooses. The clocks offered are those in `scaling_available_frequencies`, or a ladder of
    `LADDER_STEPS`, from `cpuinfo_min_freq` on, up to the limit that is in force when this is opened, which is the
    highest. Where cores differ, the clock is that of the fastest ones, and the others get their nearest that is not
    above.

    The limit is the machine's, not this process's: whoever opens this must call `restore` in the end. Put back is only
    what still stands as it was written here; what someone else has set meanwhile is left. A limit that reads lower
    because the kernel cools the processor counts as standing: the kernel goes by the lowest of all limits, so that
    putting back the own one does not lift the other.

    If the kernel cools the processor already at the first `set_hz`, its limit is what will be put back, because the
    one behind it cannot be read.

    Tried on files that the tests build, not on a processor whose clock can be set.

    Raises:
        PowerError: there are no such files, or they may not be written.
    """

    name = "cpufreq"

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._holds: dict[_Policy, _Hold] = {}
        self._policies = _policies(root)
        lowest_khz = max(policy.steps_khz[0] for policy in self._policies)
        steps_khz = {step for policy in self._policies for step in policy.steps_khz if step >= lowest_khz}
        self._available_hz = tuple(1e3 * step for step in sorted(steps_khz))

    @property
    def available_hz(self) -> tuple[float, ...]:
        return self._available_hz

    def set_hz(self, clock_hz: float) -> float:
        if not (math.isfinite(clock_hz) and clock_hz >= 0):
            raise PowerError(f"clock_hz {clock_hz} must be finite and not negative (0 puts back what was there before)")
        with self._lock:
            if clock_hz == 0:
                failures, _ = self._put_back()
                if failures:
                    raise PowerError(" ".join(failures))
            else:
                self._limit(round(_not_above(self._available_hz, clock_hz) / 1e3))
            return self._in_force_hz()

    def restore(self) -> str:
        with self._lock:
            failures, left = self._put_back()
        return " ".join(failures + left)

    def _limit(self, clock_khz: int) -> None:
        undo: list[tuple[_Policy, _Hold | None, int]] = []
        for policy in self._policies:
            try:
                current_khz = read_int(policy.limit)
                hold = self._holds.get(policy)
                if hold is not None and not self._stands(hold, current_khz):
                    hold = None  # someone else has set it: that is now what was there before
                wanted_khz = _not_above(policy.steps_khz, clock_khz)
                write_int(policy.limit, wanted_khz)
                undo.append((policy, hold, current_khz if hold is None else hold.written_khz))
                new = _Hold(current_khz if hold is None else hold.before_khz, wanted_khz, wanted_khz)
                self._holds[policy] = new
                self._holds[policy] = replace(new, read_khz=read_int(policy.limit))
            except (OSError, ValueError) as error:
                failures = [
                    f"{policy.limit} cannot be set to {clock_khz} kHz: {reason(error)} "
                    "(are its cores on, and is its scaling_min_freq not above?)."
                ]
                for written, earlier, value_khz in reversed(undo):
                    failures += self._undo(written, earlier, value_khz)
                raise PowerError(" ".join(failures)) from None

    def _undo(self, policy: _Policy, earlier: _Hold | None, value_khz: int) -> list[str]:
        try:
            write_int(policy.limit, value_khz)
        except OSError as error:
            return [f"{policy.limit} could not be put back to {value_khz} kHz: {reason(error)}."]
        if earlier is None:
            del self._holds[policy]
        else:
            self._holds[policy] = earlier
        return []

    def _put_back(self) -> tuple[list[str], list[str]]:
        """Sentences about what could not be put back, and about what was left because someone else has set it."""
        failures, left = [], []
        for policy, hold in list(self._holds.items()):
            try:
                current_khz = read_int(policy.limit)
                if self._stands(hold, current_khz):
                    write_int(policy.limit, hold.before_khz)
                else:
                    left.append(
                        f"{policy.limit} says {current_khz} kHz, not {hold.written_khz} kHz as was set here: "
                        f"it is left so (it was {hold.before_khz} kHz before)."
                    )
                del self._holds[policy]
            except (OSError, ValueError) as error:
                failures.append(f"{policy.limit} could not be put back to {hold.before_khz} kHz: {reason(error)}.")
        return failures, left

    def _stands(self, hold: _Hold, current_khz: int) -> bool:
        if current_khz in (hold.written_khz, hold.read_khz):
            return True
        return current_khz < hold.written_khz and _cooling(self._root)

    def _in_force_hz(self) -> float:
        try:
            return 1e3 * max(read_int(policy.limit) for policy in self._policies)
        except (OSError, ValueError) as error:
            raise PowerError(f"the clock in force cannot be read: {reason(error)}") from None


CLOCKS: dict[str, Callable[[Path], Clock]] = {
    "none": lambda root: NoClock(),
    "cpufreq": CpufreqClock,
}
"""By their names, how to open them on the machine whose files are under a root."""


def open_clock(kind: str, root: Path = Path("/")) -> Clock:
    """A clock of this machine; opening it changes nothing.

    Args:
        kind: a name in `CLOCKS`.
        root: where /sys is.

    Raises:
        PowerError: the kind is not known, or cannot be had here.
    """
    if kind not in CLOCKS:
        raise PowerError(f"clock '{kind}' is none of {', '.join(CLOCKS)}")
    return CLOCKS[kind](root)


def _policies(root: Path) -> tuple[_Policy, ...]:
    folder = root / "sys/devices/system/cpu/cpufreq"
    numbers = sorted(int(match[1]) for path in folder.glob("*") if (match := _POLICY.fullmatch(path.name)))
    policies = []
    for number in numbers:
        policy = folder / f"policy{number}"
        limit = policy / "scaling_max_freq"
        try:
            if not (policy / "affected_cpus").read_text(encoding="ascii").strip():
                continue  # all its cores are off, and the kernel answers neither reads nor writes
            steps_khz = _steps_khz(policy, read_int(limit))
        except (OSError, ValueError) as error:
            raise PowerError(f"the clocks of {policy} cannot be read: {reason(error)}") from None
        try:
            os.close(os.open(limit, os.O_WRONLY))  # asks for leave and writes nothing
        except PermissionError:
            raise PowerError(
                f"{limit} may not be written: allow it until the next start with "
                f"'sudo chmod a+w {folder}/policy*/scaling_max_freq', or for good with the udev rule "
                f'SUBSYSTEM=="cpu", ACTION=="add", RUN+="/bin/sh -c \'chmod a+w {folder}/policy*/scaling_max_freq\'", '
                "or run with the capability CAP_DAC_OVERRIDE"
            ) from None
        except OSError as error:
            raise PowerError(f"{limit} cannot be written: {reason(error)} (in a container, mount /sys rw)") from None
        policies.append(_Policy(limit, steps_khz))
    if not policies:
        raise PowerError(f"{folder} has no clocks that can be set: virtual machines and containers often have none")
    return tuple(policies)


def _steps_khz(policy: Path, limit_khz: int) -> tuple[int, ...]:
    """Up to and with the limit: a power mode may hold it below what the cores can take, and profiles are of it."""
    lowest_khz = read_int(policy / "cpuinfo_min_freq")
    highest_khz = max(lowest_khz, min(limit_khz, read_int(policy / "cpuinfo_max_freq")))
    listed = policy / "scaling_available_frequencies"
    if listed.exists():
        steps_khz = {int(word) for word in listed.read_text(encoding="ascii").split()}
        if inside_khz := sorted(step for step in steps_khz if lowest_khz <= step <= highest_khz):
            return tuple(sorted({*inside_khz, highest_khz}))
    rise_khz = highest_khz - lowest_khz
    return tuple(sorted({lowest_khz + rise_khz * step // (LADDER_STEPS - 1) for step in range(LADDER_STEPS)}))


def _not_above(ascending: Sequence[_Number], highest: float) -> _Number:
    """The largest that is not above `highest`, or the smallest of all."""
    return max((value for value in ascending if value <= highest), default=ascending[0])


def _cooling(root: Path) -> bool:
    """Whether the kernel now holds a processor's clock down against heat."""
    for device in (root / "sys/class/thermal").glob("cooling_device*"):
        try:
            kind = (device / "type").read_text(encoding="ascii").strip()
            # `cpufreq-cpuN`, in older kernels `thermal-cpufreq-N`; `Processor` is ACPI's.
            if ("cpufreq" in kind or kind == "Processor") and read_int(device / "cur_state") > 0:
                return True
        except (OSError, ValueError):
            continue
    return False
