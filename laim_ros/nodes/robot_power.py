"""The robot's clock and energy meter, from `configure` to `cleanup`; no ROS in here."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from laim_ros.parameters import ParameterValueError
from laim_ros.power import Clock, Meter, NoClock, NoMeter, PowerError, open_clock, open_meter

_IDLE_S = 0.3
"""For which the machine is watched at rest."""


class EnergySpan:
    """What a meter tells between the beginning of a piece of work and its end, above idling.

    It is the whole machine's (or processor's) energy in that time: whatever else runs is in it.

    Args:
        idle_w: what the machine takes at rest, in watts.
        now_s: a steady clock, in seconds.
    """

    def __init__(self, meter: Meter, idle_w: float, now_s: Callable[[], float]) -> None:
        self._meter, self._idle_w, self._now_s = meter, idle_w, now_s
        self._before_j, self._began_s = meter.joules(), now_s()

    def spent(self) -> tuple[float, str]:
        """Joules since the beginning and what measured them; NaN and an empty string where nothing does."""
        spent_j = self._meter.joules() - self._before_j
        if math.isnan(spent_j):
            return math.nan, ""
        return max(0.0, spent_j - self._idle_w * (self._now_s() - self._began_s)), self._meter.source


class RobotPower:
    """Holds the clock at what the plan asks for while the robot is at work, and lets it go at once when it is not.

    A clock or a meter that cannot be had is told once, and the robot works without. Thread-safe: parameters are set
    by one thread, and the robot is stopped by another.

    Args:
        wanted_hz: the plan's clock in hertz, 0 to leave it alone; asked at the beginning and at every change.
        tell: takes sentences for people.
        warn: takes sentences about what cannot be had.
        root: where /sys is.
        rest: lets so many seconds pass.
        now_s: a steady clock, in seconds.
    """

    def __init__(
        self,
        wanted_hz: Callable[[], float],
        tell: Callable[[str], object],
        warn: Callable[[str], object],
        root: Path = Path("/"),
        rest: Callable[[float], object] = time.sleep,
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._wanted_hz, self._tell, self._warn, self._root = wanted_hz, tell, warn, root
        self._rest, self._now_s = rest, now_s
        self._idle_w = 0.0
        self._lock = threading.Lock()
        self._clock: Clock = NoClock()
        self._refusal = ""
        self._at_work = False
        self._held_hz = self._in_force_hz = 0.0
        self.meter: Meter = NoMeter()
        self.trouble = ""

    def open(self, clock: str, meter: str) -> None:
        """Opens both by the names that the parameters take; changes nothing yet.

        Takes 0.3 s where there is a meter, to see what the machine takes at rest: nothing of the robot's may run then.
        """
        self._clock, self._refusal, self.trouble = NoClock(), "", ""
        try:
            self._clock = open_clock(clock, self._root)
            if not self._clock.available_hz:
                self._refusal = "clock is none; set clock: cpufreq before the node is configured"
        except PowerError as error:
            self._refusal = str(error)
            self._warn(f"the clock is left alone: {error}")
        try:
            self.meter = open_meter(meter, self._root)
        except PowerError as error:
            self.meter = NoMeter()
            self._warn(f"energy is not measured: {error}")
        self._idle_w = self._measure_idle_w()

    def close(self) -> None:
        """Lets the meter go; may be called when nothing is open, and after `end` only."""
        meter, self.meter = self.meter, NoMeter()
        meter.close()
        self._clock, self._refusal, self.trouble = NoClock(), "", ""

    @property
    def available_hz(self) -> tuple[float, ...]:
        """Clocks that can be set, in hertz, ascending; empty where none can."""
        return self._clock.available_hz

    def check(self, clock_hz: float) -> None:
        """Whether the clock can be asked for that.

        Raises:
            ParameterValueError: it cannot; the message says why, and what would do.
        """
        if clock_hz and self._refusal:
            raise ParameterValueError(f"robot_clock_hz {clock_hz:g} cannot be had, 0 can: {self._refusal}")

    def begin(self) -> None:
        """The robot begins to work: the clock follows the plan from now on."""
        with self._lock:
            self._at_work = True
            self._hold(self._wanted_hz())

    def follow(self) -> None:
        """The plan may have changed."""
        with self._lock:
            if self._at_work:
                self._hold(self._wanted_hz())

    def end(self) -> None:
        """The robot stops working: puts back what was there before. May be called at any time."""
        with self._lock:
            self._at_work, self._held_hz, self._in_force_hz = False, 0.0, 0.0
            left = self._clock.restore()
        if left:
            self._warn(left)

    def span(self) -> EnergySpan:
        """Begins to measure one piece of work."""
        return EnergySpan(self.meter, self._idle_w, self._now_s)

    def figures(self) -> dict[str, object]:
        """The clock and the meter, where there are any."""
        clock = {"clock_hz": self._in_force_hz} if self._clock.available_hz else {}
        return {**clock, **({} if self.meter.source == "none" else {"energy_source": self.meter.source})}

    def _measure_idle_w(self) -> float:
        began_s, began_j = self._now_s(), self.meter.joules()
        if math.isnan(began_j):
            return 0.0
        self._rest(_IDLE_S)
        idle_w = (self.meter.joules() - began_j) / (self._now_s() - began_s)
        return 0.0 if math.isnan(idle_w) else idle_w

    def _hold(self, clock_hz: float) -> None:
        if clock_hz == self._held_hz:
            return
        self._held_hz = clock_hz
        try:
            self._in_force_hz = self._clock.set_hz(clock_hz)
        except PowerError as error:
            self.trouble = f"robot_clock_hz {clock_hz:g} is not in force: {error}"
            self._warn(self.trouble)
            return
        self.trouble = ""
        if self._in_force_hz:
            self._tell(f"clock: at most {self._in_force_hz / 1e9:g} GHz")
