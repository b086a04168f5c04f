"""Energy that the machine tells, and clocks that can be set; the files under /sys, and nothing but them."""

from laim_ros.power.clocks import CLOCKS, Clock, CpufreqClock, NoClock, open_clock
from laim_ros.power.errors import PowerError
from laim_ros.power.meters import METERS, InaMeter, Meter, NoMeter, RaplMeter, open_meter

__all__ = [
    "CLOCKS",
    "METERS",
    "Clock",
    "CpufreqClock",
    "InaMeter",
    "Meter",
    "NoClock",
    "NoMeter",
    "PowerError",
    "RaplMeter",
    "open_clock",
    "open_meter",
]
