"""Clocks that are set and put back, on files as `cpufreq` lays them out."""

import math
from pathlib import Path

import pytest

from laim_ros.power import CpufreqClock, PowerError, open_clock

CPUFREQ = "sys/devices/system/cpu/cpufreq"
LITTLE_KHZ = (300_000, 600_000, 1_200_000, 1_800_000)
BIG_KHZ = (700_000, 1_400_000, 2_100_000, 2_800_000)


def policy(number, lowest_khz, highest_khz, listed_khz=None, cores="0 1 2 3", limit_khz=None):
    folder = f"{CPUFREQ}/policy{number}"
    files = {
        f"{folder}/affected_cpus": cores,
        f"{folder}/cpuinfo_min_freq": lowest_khz,
        f"{folder}/cpuinfo_max_freq": highest_khz,
        f"{folder}/scaling_max_freq": highest_khz if limit_khz is None else limit_khz,
    }
    if listed_khz is not None:
        files[f"{folder}/scaling_available_frequencies"] = " ".join(map(str, listed_khz))
    return files


def limit(number):
    return f"{CPUFREQ}/policy{number}/scaling_max_freq"


@pytest.fixture
def big_little(tree):
    """Slow cores that were limited before, and fast ones."""
    tree.write(policy(0, 300_000, 1_800_000, reversed(LITTLE_KHZ), limit_khz=1_200_000))
    tree.write(policy(4, 700_000, 2_800_000, BIG_KHZ))
    return tree


def limits(tree):
    return tree.read(limit(0)), tree.read(limit(4))


def test_takes_the_nearest_clock_that_is_not_above_and_puts_back_what_was_there(tree):
    tree.write(policy(0, 600_000, 2_400_000, (2_400_000, 1_200_000, 600_000, 3_000_000), limit_khz=2_000_000))
    clock = open_clock("cpufreq", tree.root)
    assert clock.name == "cpufreq"
    assert clock.available_hz == (0.6e9, 1.2e9, 2e9)  # no more than the limit that a power mode has set
    for asked_hz, taken_hz in [(1.2e9, 1.2e9), (1.99e9, 1.2e9), (9e9, 2e9), (1.0, 0.6e9)]:
        assert clock.set_hz(asked_hz) == taken_hz
        assert tree.read(limit(0)) == taken_hz / 1e3
    assert clock.restore() == ""
    assert tree.read(limit(0)) == 2_000_000
    clock.set_hz(0.6e9)
    assert clock.set_hz(0.0) == 2e9


def test_without_a_list_there_is_a_ladder_from_lowest_to_highest(tree):
    tree.write(policy(0, 800_000, 3_600_000))
    clock = CpufreqClock(tree.root)
    assert clock.available_hz == (0.8e9, 1.5e9, 2.2e9, 2.9e9, 3.6e9)
    assert clock.set_hz(2.5e9) == 2.2e9
    tree.write(policy(0, 800_000, 3_600_000, limit_khz=2_800_000))
    assert CpufreqClock(tree.root).available_hz == (0.8e9, 1.3e9, 1.8e9, 2.3e9, 2.8e9)


def test_where_cores_differ_the_clock_is_that_of_the_fastest(big_little):
    clock = CpufreqClock(big_little.root)
    assert clock.available_hz == (0.7e9, 1.2e9, 1.4e9, 2.1e9, 2.8e9)
    for clock_hz in clock.available_hz:
        assert clock.set_hz(clock_hz) == clock_hz
        for limit_khz, steps_khz in zip(limits(big_little), (LITTLE_KHZ[:3], BIG_KHZ), strict=True):
            assert limit_khz == max(step for step in steps_khz if step <= max(clock_hz / 1e3, steps_khz[0]))
    assert clock.restore() == ""
    assert limits(big_little) == (1_200_000, 2_800_000)


def test_cores_that_are_off_are_passed_over(big_little):
    big_little.write(policy(8, 700_000, 3_000_000, cores=""))
    clock = CpufreqClock(big_little.root)
    clock.set_hz(0.7e9)
    assert big_little.read(limit(8)) == 3_000_000


def test_opening_and_restoring_change_nothing_that_was_not_set_here(big_little):
    clock = CpufreqClock(big_little.root)
    assert clock.restore() == ""
    assert clock.set_hz(0.0) == 2.8e9
    clock.set_hz(1.4e9)
    clock.restore()
    big_little.write({limit(0): 600_000})
    assert clock.restore() == ""
    assert limits(big_little) == (600_000, 2_800_000)


@pytest.mark.parametrize("theirs_khz", [600_000, 1_800_000])
def test_what_someone_else_has_set_meanwhile_is_left_and_told(big_little, theirs_khz):
    clock = CpufreqClock(big_little.root)
    clock.set_hz(1.2e9)
    big_little.write({limit(0): theirs_khz})
    told = clock.restore()
    assert f"{limit(0)} says {theirs_khz} kHz, not 1200000 kHz" in told
    assert limit(4) not in told
    assert limits(big_little) == (theirs_khz, 2_800_000)
    assert clock.restore() == ""


def test_what_someone_else_has_set_is_what_the_next_setting_puts_back(big_little):
    clock = CpufreqClock(big_little.root)
    clock.set_hz(2.1e9)
    big_little.write({limit(0): 600_000})
    clock.set_hz(2.8e9)
    assert limits(big_little) == (1_200_000, 2_800_000)
    assert clock.restore() == ""
    assert limits(big_little) == (600_000, 2_800_000)


@pytest.mark.parametrize("kind", ["cpufreq-cpu0", "thermal-cpufreq-0", "Processor"])
def test_a_limit_that_reads_lower_because_the_kernel_cools_is_still_put_back(big_little, kind):
    """The file tells the lowest of all limits, and the one that was set here is behind it."""
    clock = CpufreqClock(big_little.root)
    clock.set_hz(2.1e9)
    device = "sys/class/thermal/cooling_device1"
    big_little.write({limit(4): 1_400_000, f"{device}/type": kind, f"{device}/cur_state": 2})
    clock.set_hz(2.8e9)
    big_little.write({limit(4): 700_000})
    assert clock.restore() == ""
    assert limits(big_little) == (1_200_000, 2_800_000)


def test_a_limit_that_the_kernel_rounds_is_still_put_back(tree):
    """A file of this process stands in that answers otherwise than was written: timer slack takes 0 for its default."""
    slack = Path("/proc/self/timerslack_ns")
    tree.write(policy(0, 0, 90_000, (0, 90_000)))
    (tree.root / limit(0)).unlink()
    (tree.root / limit(0)).symlink_to(slack)
    before = slack.read_text()
    try:
        slack.write_text("0")
        default_khz = int(slack.read_text())
        slack.write_text("70000")
        clock = CpufreqClock(tree.root)
        assert clock.set_hz(1e6) == 1e3 * default_khz
        assert clock.restore() == ""
        assert tree.read(limit(0)) == 70_000
    finally:
        slack.write_text(before)


def test_a_fan_is_no_reason_to_put_back_what_someone_else_has_lowered(big_little):
    clock = CpufreqClock(big_little.root)
    clock.set_hz(2.1e9)
    for number, (kind, state) in enumerate([("pwm-fan", 3), ("cpufreq-cpu0", 0)]):
        device = f"sys/class/thermal/cooling_device{number}"
        big_little.write({f"{device}/type": kind, f"{device}/cur_state": state})
    big_little.write({limit(4): 700_000})
    assert limit(4) in clock.restore()
    assert big_little.read(limit(4)) == 700_000


def test_a_write_that_fails_undoes_those_before_it(big_little, unprivileged):
    for number in (0, 4):
        (big_little.root / limit(number)).chmod(0o666)
    with unprivileged():
        clock = CpufreqClock(big_little.root)
    fast = big_little.root / limit(4)
    fast.chmod(0o444)
    with unprivileged(), pytest.raises(PowerError, match=rf"{fast} cannot be set to 700000 kHz: Permission denied"):
        clock.set_hz(0.7e9)
    assert limits(big_little) == (1_200_000, 2_800_000)
    assert clock.restore() == ""
    fast.chmod(0o666)
    with unprivileged():
        clock.set_hz(0.7e9)
    fast.chmod(0o444)
    with unprivileged(), pytest.raises(PowerError, match="Permission denied"):
        clock.set_hz(2.8e9)
    assert limits(big_little) == (600_000, 700_000)  # as it was set before, not as it was in the beginning
    with unprivileged():
        assert clock.restore().startswith(f"{fast} could not be put back to 2800000 kHz: Permission denied")
        with pytest.raises(PowerError, match="could not be put back"):
            clock.set_hz(0.0)
    assert limits(big_little) == (1_200_000, 700_000)
    fast.chmod(0o666)
    with unprivileged():
        assert clock.restore() == ""
    assert limits(big_little) == (1_200_000, 2_800_000)


def test_clocks_that_may_not_be_written_are_refused_before_anything_is_changed(big_little, unprivileged):
    (big_little.root / limit(0)).chmod(0o666)
    fast = big_little.root / limit(4)
    fast.chmod(0o444)
    with unprivileged(), pytest.raises(PowerError, match=rf"{fast} may not be written.*sudo chmod.*udev rule"):
        CpufreqClock(big_little.root)
    assert limits(big_little) == (1_200_000, 2_800_000)


def test_a_clock_that_is_none_leaves_everything(big_little):
    clock = open_clock("none", big_little.root)
    assert (clock.name, clock.available_hz) == ("none", ())
    assert clock.set_hz(1e9) == 0.0
    assert clock.restore() == ""
    assert limits(big_little) == (1_200_000, 2_800_000)


def test_bad_requests_name_what_would_do(tree, big_little):
    with pytest.raises(PowerError, match="clock 'turbo' is none of none, cpufreq"):
        open_clock("turbo", tree.root)
    with pytest.raises(PowerError, match="cpufreq has no clocks that can be set"):
        CpufreqClock(tree.root / "elsewhere")
    clock = CpufreqClock(tree.root)
    for clock_hz in (-1.0, math.nan, math.inf):
        with pytest.raises(PowerError, match="must be finite and not negative"):
            clock.set_hz(clock_hz)
