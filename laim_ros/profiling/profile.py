"""`profile_robot`, `profile_edge`: what the stages of a loaded model cost on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import torch

from laim_ros.coinference import EdgeHalf, RobotHalf
from laim_ros.models import SplitModel
from laim_ros.planning.kept import profile_cache
from laim_ros.planning.profiles import Calibrated, MachineProfile, PowerMode, StageTimes
from laim_ros.power import Meter
from laim_ros.profiling import coding, kept, measure
from laim_ros.profiling.machine import free_bytes, machine_name
from laim_ros.quantization.errors import GivenUpError

OTHER_WIDTHS = (8, 4, 16, 32, 2, 6, 3)
"""Bit-widths that are measured beside the loaded one while time lasts, the most telling first: 2, 6 and 3 cost about as
much as 4 or 8, the floating ones several times that."""

ASSUMED = "assumed"

_READ_BYTES_PER_S = 100e6
"""Of float32 weights that are read and quantized, before a load has shown better; measured on two cores."""

_PASSES = 4
"""Through a new head: one that warms up, and a few that count."""

_MARGIN = 1.25
"""By how much a load may take longer than the longest one before."""

_FREE_SHARE = 0.5
"""Of the free memory that a head beside the one in use may take."""

_LEAST_CLOCK_SHARE = 1e-3

_LEAST_SHARE = 0.8
"""Of a processor's time, below which figures are used once, but not kept for all later starts."""

_CACHE = profile_cache()


def profile_robot(
    half: RobotHalf,
    name: str,
    *,
    limit_s: float,
    meter: Meter | None,
    active_w: float,
    radio_w: float,
    clocks_hz: Sequence[float] = (),
    cache: Path | None = _CACHE,
) -> MachineProfile:
    """What the stages of a robot's half cost at its bit-width, and at others while time lasts.

    Only what was not kept from an earlier start, or was kept with other calibrations of codec `klt`, is measured. Heads
    of other bit-widths are loaded beside the one in use where time and memory allow, and let go; `half` stays as it is.

    Args:
        half: at rest meanwhile: frames would share the processor, and a small head's buffers.
        name: that the model was loaded by.
        limit_s: seconds from the call on in which other bit-widths may be measured; the loaded one always is.
        meter: of the machine's energy; None for none.
        active_w: power above idle while the head runs, in watts, where no meter tells.
        radio_w: power above idle while sending, in watts.
        clocks_hz: that the robot can choose from, the highest being the one that runs now.
        cache: folder of kept profiles, by default `profile_cache()` at the time of the import; None keeps nothing.

    Returns:
        The profile; its `notes` also tell what could not be measured or kept.

    Raises:
        ModelError: the model does not run.
    """
    until_s = time.perf_counter() + limit_s
    model = half.model
    stages = ["input", *(stage.name for stage in model.stages), *(["output"] if model.last == "output" else [])]
    path = None if cache is None else kept.file_of(half, cache)
    before = None if path is None else kept.read(path, half, stages)
    times = {} if before is None else {each.weight_bits: each for each in before.times}
    known = before is not None and before.digests == coding.digests(half)
    calibrations, code_s = (before.calibrations, before.code_s) if known else (coding.calibrated(half), {})
    batch, share = measure.first_batch(model), 1.0
    if model.weight_bits not in times or not code_s:
        watch = measure.Watch(model.device)
        stage_s, boundaries = measure.passes(model, batch)
        stage_s["input"] = measure.resize_s(model)
        if model.last == "output":
            stage_s["output"] = measure.text_s(model, boundaries["qformer"])
        times[model.weight_bits] = StageTimes(model.weight_bits, stage_s)
        code_s = code_s or coding.coding_s(model, half.codecs, boundaries, coding.encoding_s)
        share = watch.share()
    remarks, least_share = _add_widths(half, times, batch, until_s)
    power_w, power_source = _power(model, batch, meter, active_w, before)
    remarks.append(f"power {power_source}" if power_source == ASSUMED else f"power measured ({power_source})")
    modes = _modes(power_w, clocks_hz)
    if len(modes) > 1:
        remarks.append("other clocks computed: time as 1/f, power as f³")
    power = {"modes": modes, "power_source": power_source, "radio_w": radio_w}
    profile = _profile(model, name, times, code_s, calibrations, **power)
    return _kept(path, profile, before, remarks, min(share, least_share))


def profile_edge(half: EdgeHalf, name: str, *, cache: Path | None = _CACHE) -> MachineProfile:
    """What the stages of an edge's half cost, one frame at a time; measured unless kept from an earlier start.

    Args:
        half: at rest meanwhile.
        name: that the model was loaded by.
        cache: folder of kept profiles, by default `profile_cache()` at the time of the import; None keeps nothing.

    Returns:
        The profile; its `notes` also tell that it could not be kept.

    Raises:
        ModelError: the model does not run.
    """
    model = half.model
    path = None if cache is None else kept.file_of(half, cache)
    before = None if path is None else kept.read(path, half, [*(stage.name for stage in model.stages), "output"])
    if before is not None and before.digests == coding.digests(half):
        return _kept(path, msgspec.structs.replace(before, model=name), before)
    watch = measure.Watch(model.device)
    stage_s, boundaries = measure.passes(model, measure.first_batch(model))
    stage_s["output"] = measure.text_s(model, boundaries["qformer"])
    code_s = coding.coding_s(model, half.codecs, boundaries, coding.decoding_s)
    times, calibrations = {model.weight_bits: StageTimes(model.weight_bits, stage_s)}, coding.calibrated(half)
    return _kept(path, _profile(model, name, times, code_s, calibrations), None, [], watch.share())


def _profile(
    model: SplitModel,
    name: str,
    times: Mapping[int, StageTimes],
    code_s: Mapping[str, dict[str, float]],
    calibrations: Mapping[str, Calibrated],
    **power: object,
) -> MachineProfile:
    points = model.split_points
    return MachineProfile(
        machine=machine_name(model.device),
        model=name,
        model_id=model.model_id,
        engine=model.engine,
        split_points=points,
        shapes={point: tuple(model.boundary_shape(point)) for point in points if point != "output"},
        times=tuple(times[bits] for bits in sorted(times)),
        code_s=dict(code_s),
        calibrations=dict(calibrations),
        **power,
    )


def _kept(
    path: Path | None,
    profile: MachineProfile,
    before: MachineProfile | None,
    remarks: Sequence[str] = (),
    share: float = 1.0,
) -> MachineProfile:
    """The profile with its notes, written where it is not what the file holds already.

    Args:
        share: of a processor's time that measuring had at least.
    """
    told = [f"medians of whole passes, text of {measure.TEXT_TOKENS} tokens", *remarks]
    profile = msgspec.structs.replace(profile, notes="; ".join(told))
    if share < _LEAST_SHARE:
        told.append(f"not kept: the machine was busy, this had {share:.0%} of a processor's time")
    elif path is not None and profile != before:
        try:
            kept.write(path, profile)
        except OSError as error:  # a robot drives all the same
            told.append(f"not kept in {path.parent}: {error.strerror or error}")
    return msgspec.structs.replace(profile, notes="; ".join(told))


def _add_widths(
    half: RobotHalf, times: dict[int, StageTimes], batch: torch.Tensor, until_s: float
) -> tuple[list[str], float]:
    """Adds what there is time and memory for to `times`.

    Returns:
        What is to be told of the rest, and what share of a processor's time measuring had at least.
    """
    model = half.model
    known_s = times[model.weight_bits].stage_s
    shared_s = {point: known_s[point] for point in ("input", "output") if point in known_s}
    float_bytes = model.head_bytes * 32 / model.weight_bits
    pass_s = sum(known_s.values()) - sum(shared_s.values())
    expected_s = float_bytes / _READ_BYTES_PER_S + _PASSES * pass_s
    longest_s, least_share = 0.0, 1.0
    late, large, remarks = [], [], []
    for bits in _missing_widths(half, times):
        began_s = time.perf_counter()
        if began_s + expected_s >= until_s:
            late.append(bits)
            continue
        if model.head_bytes * max(1.0, bits / model.weight_bits) > _FREE_SHARE * free_bytes(model.device):
            large.append(bits)
            continue
        try:
            stage_s, share = _head_s(half, bits, batch, until_s)
        except GivenUpError:
            late.append(bits)
            continue
        except Exception as error:  # also memory that does not suffice: a robot drives without these figures
            remarks.append(f"{bits} bits could not be measured: {error}")
            continue
        times[bits], least_share = StageTimes(bits, {**shared_s, **stage_s}), min(least_share, share)
        longest_s = max(longest_s, time.perf_counter() - began_s)
        expected_s = _MARGIN * longest_s
    if late:
        remarks.append(f"no time to measure {_listing(late)} bits (profile_limit_s)")
    if large:
        remarks.append(f"too little free memory to measure {_listing(large)} bits")
    return remarks, least_share


def _head_s(half: RobotHalf, weight_bits: int, batch: torch.Tensor, until_s: float) -> tuple[dict[str, float], float]:
    # A function of its own, so that the head is let go before the next one is loaded.
    head = half.head_at(weight_bits, lambda: time.perf_counter() < until_s)
    watch = measure.Watch(head.device)
    stage_s, _ = measure.passes(head, batch)
    return stage_s, watch.share()


def _missing_widths(half: RobotHalf, times: Mapping[int, StageTimes]) -> list[int]:
    """Those of `OTHER_WIDTHS` that `half` can have, and that are not measured."""
    possible = []
    for bits in OTHER_WIDTHS:
        with suppress(ValueError):  # a packed folder, or a half without `Heads`
            half.check_weight_bits(bits)
            possible.append(half.bits_for(bits))
    return [bits for bits in dict.fromkeys(possible) if bits not in times]


def _listing(widths: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(widths)))


def _power(
    model: SplitModel, batch: torch.Tensor, meter: Meter | None, active_w: float, before: MachineProfile | None
) -> tuple[float, str]:
    """Watts above idle, and where they come from."""
    if meter is None or math.isnan(meter.joules()):
        return active_w, ASSUMED
    if before is not None and before.power_source == meter.source:
        return before.modes[0].active_w, meter.source
    measured_w = measure.head_power_w(model, batch, meter)
    return (measured_w, meter.source) if measured_w > 0 else (active_w, ASSUMED)  # also where it is NaN


def _modes(active_w: float, clocks_hz: Sequence[float]) -> tuple[PowerMode, ...]:
    """The machine as it is, then one mode per clock f: time as 1/f, power as f³ [paper, section III]."""
    highest_hz = max(clocks_hz, default=0.0)
    modes = [PowerMode(active_w=active_w)]
    for clock_hz in clocks_hz:
        share = clock_hz / highest_hz if highest_hz > 0 else 0.0
        if share >= _LEAST_CLOCK_SHARE:  # a profile takes no greater slowdown
            modes.append(PowerMode(clock_hz, 1 / share, active_w * share**3, f"{clock_hz / 1e9:g} GHz"))
    return tuple(modes)
