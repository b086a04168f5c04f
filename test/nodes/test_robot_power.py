"""The robot's clock follows the plan while the robot is at work, and is put back; what cannot be had is told."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from laim_ros import power
from laim_ros.nodes.robot_power import RobotPower
from laim_ros.parameters import CLOCKS, ENERGY_METERS, ParameterValueError


class Robot:
    """What a robot's node gives to its `RobotPower`."""

    def __init__(self, root: Path) -> None:
        self.wanted_hz = 0.0
        self.told: list[str] = []
        self.warned: list[str] = []
        self.now_s, self.idle_uj = 0.0, 0
        self.power = RobotPower(
            lambda: self.wanted_hz, self.told.append, self.warned.append, root, self.rest, lambda: self.now_s
        )
        self._limit = root / "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq"
        self._counter = root / "sys/class/powercap/intel-rapl:0/energy_uj"

    def rest(self, seconds: float) -> None:
        """Lets time pass, in which the machine takes `idle_uj`."""
        self.now_s += seconds
        self.write(energy_uj=str(int(self._counter.read_text()) + self.idle_uj))

    def limit_khz(self) -> int:
        return int(self._limit.read_text())

    def write(self, **values: str) -> None:
        for name, value in values.items():
            {"limit": self._limit, "energy_uj": self._counter}[name].write_text(value)

    def take_the_clock_away(self) -> None:
        self._limit.unlink()


@pytest.fixture
def robot(tmp_path) -> Robot:
    """A processor of 0.8, 1.2 and 2 GHz with an energy counter."""
    policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    files = {
        policy / "scaling_max_freq": "2000000",
        policy / "cpuinfo_min_freq": "800000",
        policy / "cpuinfo_max_freq": "2000000",
        policy / "scaling_available_frequencies": "2000000 1200000 800000",
        policy / "affected_cpus": "0 1",
        zone / "name": "package-0",
        zone / "energy_uj": "5000000",
        zone / "max_energy_range_uj": "262143328850",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return Robot(tmp_path)


def test_the_parameters_know_what_there_is():
    assert set(CLOCKS) == set(power.CLOCKS)
    assert set(ENERGY_METERS) == {"auto", *power.METERS}


def test_the_clock_follows_the_plan_while_the_robot_is_at_work(robot):
    robot.power.open("cpufreq", "none")
    assert robot.power.available_hz == (8e8, 1.2e9, 2e9)
    robot.wanted_hz = 1.5e9
    robot.power.check(1.5e9)
    robot.power.follow()
    assert robot.limit_khz() == 2_000_000  # not yet at work
    robot.power.begin()
    assert robot.limit_khz() == 1_200_000
    assert robot.power.figures() == {"clock_hz": 1.2e9}
    assert robot.told == ["clock: at most 1.2 GHz"]
    robot.wanted_hz = 8e8
    robot.power.follow()
    assert robot.limit_khz() == 800_000
    robot.wanted_hz = 0.0
    robot.power.follow()
    assert robot.limit_khz() == 2_000_000


def test_the_clock_is_put_back_when_the_robot_stops(robot):
    robot.power.open("cpufreq", "none")
    robot.wanted_hz = 8e8
    robot.power.begin()
    robot.power.end()
    assert robot.limit_khz() == 2_000_000
    robot.power.follow()  # a plan that comes late
    assert robot.limit_khz() == 2_000_000
    robot.power.begin()
    assert robot.limit_khz() == 800_000
    robot.power.end()
    robot.power.end()
    robot.power.close()
    robot.power.end()
    assert (robot.limit_khz(), robot.warned) == (2_000_000, [])


def test_a_robot_without_a_clock_refuses_to_set_one_and_works(tmp_path):
    robot = Robot(tmp_path)
    robot.power.check(1e9)  # before it is known what there is
    robot.power.open("cpufreq", "auto")
    (warning,) = robot.warned
    assert "the clock is left alone" in warning
    assert "has no clocks that can be set" in warning
    with pytest.raises(ParameterValueError, match=r"robot_clock_hz 1e\+09 cannot be had, 0 can: .* no clocks"):
        robot.power.check(1e9)
    robot.power.check(0.0)
    robot.power.begin()
    robot.power.end()
    assert (robot.power.figures(), robot.power.trouble) == ({}, "")
    robot.power.open("none", "none")
    with pytest.raises(ParameterValueError, match="clock is none; set clock: cpufreq"):
        robot.power.check(1e9)


def test_a_clock_that_goes_away_is_told_until_it_is_set_again(robot):
    robot.power.open("cpufreq", "none")
    robot.power.begin()
    robot.take_the_clock_away()
    robot.wanted_hz = 8e8
    robot.power.follow()
    assert "robot_clock_hz 8e+08 is not in force" in robot.power.trouble
    assert robot.warned == [robot.power.trouble]
    robot.write(limit="2000000\n")
    robot.wanted_hz = 1.2e9
    robot.power.follow()
    assert (robot.limit_khz(), robot.power.trouble) == (1_200_000, "")


def test_energy_is_what_the_meter_counts_in_between_above_idling(robot):
    robot.power.open("none", "auto")
    assert robot.power.figures() == {"energy_source": "rapl"}
    span = robot.power.span()
    robot.write(energy_uj="5750000\n")
    assert span.spent() == (0.75, "rapl")
    robot.power.close()
    robot.idle_uj = 600_000  # 2 W
    robot.power.open("none", "auto")
    span = robot.power.span()
    robot.now_s += 0.25
    robot.write(energy_uj=str(6_350_000 + 1_500_000))
    assert span.spent() == (pytest.approx(1.0), "rapl"), "above idling"
    robot.now_s += 60.0
    assert span.spent() == (0.0, "rapl"), "never less than nothing"
    robot.power.close()
    joules, source = robot.power.span().spent()
    assert math.isnan(joules)
    assert source == ""


def test_a_meter_that_cannot_be_had_is_told(tmp_path):
    robot = Robot(tmp_path)
    robot.power.open("none", "ina")
    (warning,) = robot.warned
    assert warning.startswith("energy is not measured: ")
    assert robot.power.span().spent()[1] == ""
