"""Energy that the machine tells of itself: `open_meter`."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from laim_ros.power.errors import PowerError
from laim_ros.power.sysfs import read_int, reason

SAMPLE_PERIOD_S = 0.02
"""Rest between two samples of the INA3221's rails, in seconds."""

RAIL_SETS: tuple[tuple[str, ...], ...] = (
    ("VDD_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
"""Labels of rails that together feed a whole Jetson module; see `InaMeter`."""

_PACKAGE_ZONE = re.compile(r"intel-rapl:(\d+)")


class Meter(Protocol):
    """Tells energy. The difference of two readings is what was used in between.

    Attributes:
        source: what tells it, for people and messages: `rapl`, `ina`, `none`.
    """

    source: str

    def joules(self) -> float:
        """Energy in joules since the meter was opened, never falling; NaN while it cannot be told. Thread-safe."""

    def close(self) -> None:
        """Ends what measures; the meter is not to be read any more. May be called twice."""


class NoMeter:
    """Knows nothing.

    Attributes:
        reason: why no other meter was taken; empty if none was asked for.
    """

    source = "none"

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def joules(self) -> float:
        return math.nan

    def close(self) -> None:
        pass


class RaplMeter:
    """Processor packages of an Intel or AMD machine, by the counters of Linux's `powercap`.

    Counts `/sys/class/powercap/intel-rapl:N` where it is a package. Not added, because the packages hold them already
    or hold more than the packages: parts (`intel-rapl:N:M`), the second way to the same counters (`intel-rapl-mmio`)
    and the whole platform (`psys`). Not counted: memory of servers, graphics cards, and all else in the machine.

    A counter starts over at its `max_energy_range_uj`, after minutes under full load at the earliest; a reading must be
    taken at least once in that time. The error at each such wrap is one unit of the counter (about 61 µJ).

    Not tried on a real counter by its tests, which build the files.

    Raises:
        PowerError: there is no such counter, or it may not be read. Since Linux 5.10 only root may, because power
            tells of the data that is computed (CVE-2020-8694).
    """

    source = "rapl"

    def __init__(self, root: Path = Path("/")) -> None:
        self._lock = threading.Lock()
        self._counters: dict[Path, int] = {}
        self._ranges_uj: dict[Path, int] = {}
        self._total_uj = 0
        for zone in _package_zones(root):
            counter = zone / "energy_uj"
            self._ranges_uj[counter] = _read_counter(zone / "max_energy_range_uj")
            self._counters[counter] = _read_counter(counter)

    def joules(self) -> float:
        with self._lock:
            try:
                now_uj = {counter: read_int(counter) for counter in self._counters}
            except (OSError, ValueError):
                return math.nan
            for counter, last_uj in self._counters.items():
                grown_uj = now_uj[counter] - last_uj
                self._total_uj += grown_uj if grown_uj >= 0 else grown_uj + self._ranges_uj[counter]
            self._counters = now_uj
            return self._total_uj / 1e6

    def close(self) -> None:
        pass


class InaMeter:
    """A Jetson module, by the INA3221 chips on its supply rails.

    Reads `in*_label`, `in*_input` (mV) and `curr*_input` (mA) under `/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/`, as
    the kernel's driver lays them out (JetPack 5 and 6; not the older `ina3221x`). The rails that are taken:

    - `VDD_IN` where there is one: all that goes into the module (Xavier NX, Orin NX, Orin Nano).
    - AGX Orin has no such rail: `VDD_GPU_SOC` + `VDD_CPU_CV` + `VIN_SYS_5V0`. Its `VDDQ_VDD2_1V8AO` (memory) is taken
      to hang on `VIN_SYS_5V0`, at whose 5 V it is measured, and is not added; tools that add it tell more.
    - AGX Xavier: `GPU` + `CPU` + `SOC` + `CV` + `VDDRQ` + `SYS5V`.

    The carrier board, and what hangs on it, is not measured.

    A daemon thread takes samples until `close`, and the trapezoidal rule integrates them; `joules` carries the last
    power on to the present. The driver waits for a conversion in every read, milliseconds by default, so that one
    sample may take longer than the rest between two.

    What was tried: the tests build these files, with labels and units from the kernel's documentation and the device
    trees. No Jetson was at hand, so neither the rails' completeness nor the pace of the samples has been measured.

    Args:
        root: where /sys is.
        period_s: rest between two samples, in seconds.
        now_s: the clock that times them, in seconds.

    Raises:
        PowerError: the chips or the rails are not there, or cannot be read.
    """

    source = "ina"

    def __init__(
        self,
        root: Path = Path("/"),
        period_s: float = SAMPLE_PERIOD_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rails = _whole_module(root)
        self._period_s = period_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._joules = self._told_joules = 0.0
        self._readable = True
        try:
            self._sampled_s, self._power_w = self._read()
        except (OSError, ValueError) as error:
            raise PowerError(
                f"the power rails in {self._rails[0][0].parent} cannot be read: {reason(error)} "
                "(a rail whose in*_enable is 0 tells nothing)"
            ) from None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_closed, name="laim-ina-meter", daemon=True)
        self._thread.start()

    def sample(self) -> None:
        """Takes one sample now, as the thread does at every period."""
        try:
            at_s, power_w = self._read()
        except (OSError, ValueError):
            with self._lock:
                self._readable = False
            return
        with self._lock:
            self._joules += (at_s - self._sampled_s) * (self._power_w + power_w) / 2
            self._sampled_s, self._power_w, self._readable = at_s, power_w, True

    def joules(self) -> float:
        with self._lock:
            if not self._readable:
                return math.nan
            carried_joules = self._joules + (self._now_s() - self._sampled_s) * self._power_w
            # Where power has fallen since, the next sample corrects downward: then it stands still for a moment.
            self._told_joules = max(self._told_joules, carried_joules)
            return self._told_joules

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _sample_until_closed(self) -> None:
        while not self._closed.wait(self._period_s):
            self.sample()

    def _read(self) -> tuple[float, float]:
        """(time in seconds, power in watts); not below zero, which only the noise of an idle rail is."""
        began_s = self._now_s()
        power_w = sum(read_int(millivolts) * read_int(milliamperes) for millivolts, milliamperes in self._rails) / 1e6
        return (began_s + self._now_s()) / 2, max(power_w, 0.0)


METERS: dict[str, Callable[[Path], Meter]] = {
    "ina": InaMeter,
    "rapl": RaplMeter,
    "none": lambda root: NoMeter(),
}
"""By their names, how to open them on the machine whose files are under a root."""


def open_meter(kind: str = "auto", root: Path = Path("/")) -> Meter:
    """A meter of this machine's energy.

    Args:
        kind: a name in `METERS`, or `auto`: the first of them that can be had; a `NoMeter` then knows why no other.
        root: where /sys is.

    Raises:
        PowerError: the kind is not known, or cannot be had here.
    """
    if kind == "auto":
        refusals = []
        for name in [name for name in METERS if name != "none"]:
            try:
                return METERS[name](root)
            except PowerError as error:
                refusals.append(str(error))
        return NoMeter("; ".join(refusals))
    if kind not in METERS:
        raise PowerError(f"meter '{kind}' is none of auto, {', '.join(METERS)}")
    return METERS[kind](root)


def _package_zones(root: Path) -> list[Path]:
    folder = root / "sys/class/powercap"
    numbers = sorted(int(match[1]) for path in folder.glob("*") if (match := _PACKAGE_ZONE.fullmatch(path.name)))
    zones = []
    for number in numbers:
        zone = folder / f"intel-rapl:{number}"
        try:
            name = (zone / "name").read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise PowerError(f"{zone / 'name'}: {reason(error)}") from None
        if name.startswith("package"):
            zones.append(zone)
    if not zones:
        raise PowerError(
            f"{folder} has no counter of a processor package: virtual machines and most Arm processors have none, "
            "elsewhere load it with 'sudo modprobe intel_rapl_msr'"
        )
    return zones


def _read_counter(path: Path) -> int:
    try:
        return read_int(path)
    except PermissionError:
        raise PowerError(
            f"{path} may not be read: allow it until the next start with 'sudo chmod a+r {path}', or for good with "
            'the udev rule SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", '
            f'RUN+="/bin/chmod a+r /sys%p/{path.name}"'
        ) from None
    except (OSError, ValueError) as error:
        raise PowerError(f"{path}: {reason(error)}") from None


def _whole_module(root: Path) -> tuple[tuple[Path, Path], ...]:
    """(file of millivolts, file of milliamperes) of every rail to be added."""
    folder = root / "sys/bus/i2c/drivers/ina3221"
    rails: dict[str, tuple[Path, Path]] = {}
    for label in sorted(folder.glob("*/hwmon/hwmon*/in[123]_label")):
        channel = label.name[2]
        try:
            name = label.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise PowerError(f"{label}: {reason(error)}") from None
        rails[name] = (label.parent / f"in{channel}_input", label.parent / f"curr{channel}_input")
    if not rails:
        raise PowerError(f"{folder} has no power rails: only Jetson modules have them, since JetPack 5")
    for names in RAIL_SETS:
        if all(name in rails for name in names):
            return tuple(rails[name] for name in names)
    known = " or ".join(" + ".join(names) for names in RAIL_SETS)
    raise PowerError(f"the rails {', '.join(rails)} in {folder} are not known to feed a whole module: {known} would be")
