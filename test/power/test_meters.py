"""Meters against files of known energy and power."""

import math
import shutil
import threading
import time

import pytest

from laim_ros.power import InaMeter, PowerError, RaplMeter, open_meter

RAPL = "sys/class/powercap"
INA = "sys/bus/i2c/drivers/ina3221"
RANGE_UJ = 262_143_328_850


def zone(name, label, energy_uj):
    return {
        f"{RAPL}/{name}/name": label,
        f"{RAPL}/{name}/energy_uj": energy_uj,
        f"{RAPL}/{name}/max_energy_range_uj": RANGE_UJ,
    }


def chip(address, hwmon, rails):
    """Files of one INA3221; rails are (label, millivolts, milliamperes), or None for an input that is not connected."""
    folder = f"{INA}/{address}/hwmon/{hwmon}"
    files = {f"{folder}/in7_label": "sum of shunt voltages", f"{folder}/in7_input": 760}
    for channel, rail in enumerate(rails, start=1):
        if rail is not None:
            label, millivolts, milliamperes = rail
            files[f"{folder}/in{channel}_label"] = label
            files[f"{folder}/in{channel}_input"] = millivolts
            files[f"{folder}/curr{channel}_input"] = milliamperes
    return files


def wait_until(happens):
    deadline_s = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


class Hands:
    """A clock whose hands are moved by hand."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def orin_nx(tree):
    """(meter, function that lets time pass and a current flow) of a module at 5 V; the meter's thread rests."""
    tree.write(chip("1-0040", "hwmon3", [("VDD_IN", 5000, 2000), ("VDD_CPU_GPU_CV", 5000, 900), ("VDD_SOC", 5000, 7)]))
    hands = Hands()
    meter = InaMeter(tree.root, period_s=1000.0, now_s=hands)

    def flow(passed_s, milliamperes):
        hands.now_s += passed_s
        tree.write({f"{INA}/1-0040/hwmon/hwmon3/curr1_input": milliamperes})

    yield meter, flow
    meter.close()


def test_rapl_adds_packages_and_neither_their_parts_nor_the_platform(tree):
    zones = {
        "intel-rapl:0": ("package-0", 1_000_000),
        "intel-rapl:0:0": ("core", 10_000_000),
        "intel-rapl:0:1": ("dram", 100_000_000),
        "intel-rapl:1": ("package-1", 2_000_000),
        "intel-rapl:2": ("psys", 1_000_000_000),
        "intel-rapl-mmio:0": ("package-0", 10_000_000_000),
    }
    for name, (label, _) in zones.items():
        tree.write(zone(name, label, 7))
    meter = RaplMeter(tree.root)
    assert meter.joules() == 0
    for name, (label, grown_uj) in zones.items():
        tree.write(zone(name, label, 7 + grown_uj))
    assert meter.joules() == pytest.approx(3.0)


def test_rapl_goes_on_where_a_counter_starts_over(tree):
    counters = {"intel-rapl:0": RANGE_UJ - 1_000_000, "intel-rapl:1": 0}
    for name, energy_uj in counters.items():
        tree.write(zone(name, "package", energy_uj))
    meter = RaplMeter(tree.root)
    step_uj = 100_000_000_000
    for step in range(1, 8):
        for name, energy_uj in counters.items():
            tree.write(zone(name, "package", (energy_uj + step * step_uj) % RANGE_UJ))
        assert meter.joules() == pytest.approx(2 * step * step_uj / 1e6)


def test_rapl_tells_nothing_while_a_counter_cannot_be_read_and_goes_on_after(tree):
    tree.write(zone("intel-rapl:0", "package-0", 0))
    meter = RaplMeter(tree.root)
    counter = tree.root / RAPL / "intel-rapl:0/energy_uj"
    counter.unlink()
    assert math.isnan(meter.joules())
    counter.write_text("5000000\n")
    assert meter.joules() == pytest.approx(5.0)


def test_rapl_that_only_root_may_read_is_refused_with_the_fix_and_passed_over_by_auto(tree, unprivileged):
    tree.write(zone("intel-rapl:0", "package-0", 0))
    counter = tree.root / RAPL / "intel-rapl:0/energy_uj"
    counter.chmod(0o000)
    with unprivileged():
        with pytest.raises(PowerError, match=rf"'sudo chmod a\+r {counter}'.*udev rule.*energy_uj"):
            open_meter("rapl", tree.root)
        meter = open_meter("auto", tree.root)
    assert meter.source == "none"
    assert math.isnan(meter.joules())
    assert str(counter) in meter.reason
    assert INA in meter.reason
    counter.chmod(0o444)
    with unprivileged():
        assert open_meter("auto", tree.root).source == "rapl"


def test_ina_integrates_a_known_power(orin_nx):
    meter, flow = orin_nx
    assert meter.joules() == 0
    passed_s = 0.0
    for step_s in (0.02, 0.5, 0.001, 2.0, 0.1):
        passed_s += step_s
        flow(step_s, round(2000 + 1000 * passed_s))  # from 10 W, 5 W more in every second
        meter.sample()
        assert meter.joules() == pytest.approx(10 * passed_s + 5 * passed_s**2 / 2)


def test_ina_carries_the_last_power_on_between_samples_and_never_falls(orin_nx):
    meter, flow = orin_nx
    flow(0.25, 0)
    assert meter.joules() == pytest.approx(10 * 0.25)
    meter.sample()  # the power has fallen to nothing: half of that was used
    assert meter.joules() == pytest.approx(10 * 0.25)
    flow(1.0, 4000)
    meter.sample()
    assert meter.joules() == pytest.approx(10 * 0.25 / 2 + 20 * 1.0 / 2)


def test_ina_does_not_give_energy_back_for_a_current_below_zero(orin_nx):
    meter, flow = orin_nx
    flow(1.0, -40)
    meter.sample()
    assert meter.joules() == pytest.approx(5.0)
    flow(1.0, -40)
    meter.sample()
    assert meter.joules() == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("chips", "power_w"),
    [
        pytest.param(
            {
                **chip("1-0040", "hwmon3", [("VDD_GPU_SOC", 20000, 100), ("VDD_CPU_CV", 20000, 50), None]),
                **chip("1-0041", "hwmon4", [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 200), ("VIN_SYS_5V0", 5000, 800)]),
            },
            2 + 1 + 4,
            id="AGX Orin",
        ),
        pytest.param(
            {
                **chip("1-0040", "hwmon0", [("GPU", 10000, 100), ("CPU", 10000, 200), ("SOC", 10000, 300)]),
                **chip("1-0041", "hwmon1", [("CV", 10000, 400), ("VDDRQ", 10000, 500), ("SYS5V", 5000, 600)]),
            },
            1 + 2 + 3 + 4 + 5 + 3,
            id="AGX Xavier",
        ),
        pytest.param(
            chip("1-0040", "hwmon0", [("VDD_IN", 5000, 3000), ("VDD_CPU_GPU_CV", 5000, 800), ("VDD_SOC", 5000, 400)]),
            15,
            id="Orin Nano",
        ),
    ],
)
def test_ina_takes_the_rails_that_feed_the_whole_module(tree, chips, power_w):
    tree.write(chips)
    hands = Hands()
    meter = InaMeter(tree.root, period_s=1000.0, now_s=hands)
    hands.now_s += 2.0
    assert meter.joules() == pytest.approx(2 * power_w)
    meter.close()


def test_ina_refuses_rails_that_it_cannot_add_up(tree):
    tree.write(chip("1-0040", "hwmon3", [("VDD_GPU", 5000, 1), ("VIN_SYS_5V0", 5000, 1), None]))
    with pytest.raises(PowerError, match=r"VDD_GPU, VIN_SYS_5V0 .*VDD_IN or VDD_GPU_SOC \+ VDD_CPU_CV"):
        InaMeter(tree.root)
    tree.write(chip("1-0040", "hwmon3", [("VDD_IN", 5000, 1), None, None]))
    (tree.root / INA / "1-0040/hwmon/hwmon3/curr1_input").unlink()
    with pytest.raises(PowerError, match=r"hwmon3 cannot be read: No such file.*in\*_enable"):
        InaMeter(tree.root)


def test_ina_takes_samples_by_itself_until_it_is_closed(tree):
    tree.write(chip("1-0040", "hwmon3", [("VDD_IN", 5000, 2000), None, None]))
    current = tree.root / INA / "1-0040/hwmon/hwmon3/curr1_input"
    meter = InaMeter(tree.root, period_s=0.001)
    current.rename(current.with_name("away"))
    wait_until(lambda: math.isnan(meter.joules()))
    current.with_name("away").rename(current)
    wait_until(lambda: meter.joules() > 0)
    meter.close()
    meter.close()
    assert "laim-ina-meter" not in [thread.name for thread in threading.enumerate()]


def test_auto_takes_what_is_there(tree):
    assert open_meter(root=tree.root).source == "none"
    tree.write(zone("intel-rapl:0", "package-0", 0))
    assert open_meter(root=tree.root).source == "rapl"
    shutil.rmtree(tree.root / "sys")
    tree.write(chip("1-0040", "hwmon3", [("VDD_IN", 5000, 2000), None, None]))
    meter = open_meter(root=tree.root)
    assert meter.source == "ina"
    meter.close()


def test_a_meter_by_name_is_had_or_refused(tree):
    assert math.isnan(open_meter("none", tree.root).joules())
    with pytest.raises(PowerError, match="meter 'watts' is none of auto, ina, rapl, none"):
        open_meter("watts", tree.root)
    with pytest.raises(PowerError, match=r"powercap has no counter of a processor package.*modprobe"):
        open_meter("rapl", tree.root)
    with pytest.raises(PowerError, match="ina3221 has no power rails"):
        open_meter("ina", tree.root)
