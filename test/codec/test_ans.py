"""Levels and side information to bytes and back."""

import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mutation import mutated

from laim_ros.codec import gaps, lanes
from laim_ros.codec.ans import SMALL, LevelReader, LevelWriter
from laim_ros.codec.bigint import Sink, Source
from laim_ros.codec.errors import CodecError
from laim_ros.codec.probabilities import (
    BUCKETS,
    CLASSES,
    ESCAPE,
    ESCAPE_BITS,
    LOWEST_RATIO,
    MAX_MAGNITUDE,
    RATIOS,
    TOTAL,
    cost_bits,
    quantize,
)
from laim_ros.codec.rawbits import levels_of, pop_raw

LAPLACE = RATIOS
LEVELS = st.one_of(
    st.just(0),
    st.integers(-3, 3),
    st.integers(-MAX_MAGNITUDE, MAX_MAGNITUDE),
    st.sampled_from([15, 16, -19, 20, -MAX_MAGNITUDE, MAX_MAGNITUDE]),
)

SIDE = st.one_of(
    st.tuples(st.just("pick"), st.integers(0, 2), st.just((64, 1, TOTAL - 65))),
    st.integers(1, 1 << 16).flatmap(lambda size: st.tuples(st.just("number"), st.integers(0, size - 1), st.just(size))),
)


def written(levels, classes, side=()):
    writer = LevelWriter()
    for what, *arguments in side:
        getattr(writer, what)(*arguments)
    writer.levels(levels, classes)
    return writer.to_bytes()


def read(payload, classes, side=()):
    reader = LevelReader(payload)
    said = [getattr(reader, what)(about) for what, _, about in side]
    levels = reader.levels(classes)
    reader.end()
    return levels, said


def ideal_bytes(levels, classes):
    return float(cost_bits(levels, classes).sum(dtype=np.float64)) / 8


def laplacian(count, sigma, fall_octaves, seed, outliers=0):
    """Levels whose σ falls over `count` coefficients from `sigma` steps by `fall_octaves`, and their true classes."""
    random_numbers = np.random.default_rng(seed)
    quarters = np.rint(4 * (np.log2(sigma) - fall_octaves * np.arange(count) / count)).astype(int)
    quarters = np.clip(quarters, LOWEST_RATIO, LOWEST_RATIO + RATIOS - 1)
    scaled = random_numbers.laplace(size=count) * 2 ** (quarters / 4) / np.sqrt(2)
    places = random_numbers.integers(0, count, outliers)
    scaled[places] = random_numbers.normal(size=outliers) * 10.0 ** random_numbers.integers(0, 7, outliers)
    return quantize(scaled), (LAPLACE + quarters - LOWEST_RATIO).astype(np.uint16)


@given(st.lists(st.tuples(LEVELS, st.integers(0, CLASSES - 1)), max_size=60), st.lists(SIDE, max_size=3))
@example([], [])
@example([(-MAX_MAGNITUDE, 0)] * 60, [("number", 65535, 65536)])
def test_what_goes_in_comes_out(coded, side):
    levels, classes = (np.array([pair[row] for pair in coded], kind) for row, kind in enumerate((np.int32, np.uint16)))
    payload = written(levels, classes, side)
    found, said = read(memoryview(payload), classes, side)
    assert found.dtype == np.int32
    assert np.array_equal(found, levels)
    assert said == [value for _, value, _ in side]
    side_bytes = sum(
        np.log2(about) if what == "number" else -np.log2(about[value] / TOTAL) for what, value, about in side
    )
    # Numbers share a power of two, 64 to 128 times their own: next to nothing is in the state, that is 7 bits each.
    assert len(payload) <= ideal_bytes(levels, classes) + side_bytes / 8 + 2 + len(side)


@given(st.integers(SMALL + 1, 6000), st.integers(-6, 8), st.integers(0, 30), st.integers(0, 1 << 30), st.integers(0, 9))
@example(SMALL + 1, -6, 0, 0, 0)
def test_many_levels_come_out(count, sigma_octaves, fall_octaves, seed, outliers):
    levels, classes = laplacian(count, 2.0**sigma_octaves, fall_octaves, seed, outliers)
    side = [("pick", 1, (64, TOTAL - 64)), ("number", 99, 1000)]
    payload = written(levels, classes, side)
    found, said = read(payload, classes, side)
    assert np.array_equal(found, levels)
    assert said == [1, 99]


@pytest.mark.parametrize("count", [1, SMALL, SMALL + 1])
@pytest.mark.parametrize("level", [0, 1, -MAX_MAGNITUDE])
def test_levels_that_are_all_the_same_come_out(count, level):
    levels = np.full(count, level, np.int32)
    for classes in (np.full(count, LAPLACE, np.uint16), (np.arange(count) % CLASSES).astype(np.uint16)):
        payload = written(levels, classes)
        assert np.array_equal(read(payload, classes)[0], levels)
        assert len(payload) <= 1 or level


@pytest.mark.parametrize(
    ("count", "sigma", "fall_octaves"),
    [(2049, 8, 0), (4096, 0.1, 0), (20_000, 2, 12), (20_000, 0.7, 3), (20_000, 3, 3), (20_000, 300, 12)],
)
def test_large_payloads_are_as_long_as_they_must(count, sigma, fall_octaves):
    for seed in range(2):
        levels, classes = laplacian(count, sigma, fall_octaves, seed)
        ideal = ideal_bytes(levels, classes)
        payload = written(levels, classes)
        assert np.array_equal(read(payload, classes)[0], levels)
        assert len(payload) <= 1.01 * ideal + 3


@pytest.mark.parametrize("sigma", [1, 6, 40])
def test_small_payloads_are_as_long_as_they_must(sigma):
    over_bytes = []
    for seed in range(20):
        levels, classes = laplacian(1024, sigma, 60, seed)
        over_bytes.append(len(written(levels, classes)) - ideal_bytes(levels, classes))
    assert max(over_bytes) <= 1.2
    assert np.mean(over_bytes) <= 0.6


def test_a_foreign_scene_costs_bytes_only():
    levels, _ = laplacian(5000, 1000, 2, 0)
    _, classes = laplacian(5000, 0.1, 2, 0)
    payload = written(levels, classes)
    assert np.array_equal(read(payload, classes)[0], levels)
    assert len(payload) <= 1.01 * ideal_bytes(levels, classes) + 3


@pytest.fixture(scope="module")
def payloads():
    """One of each way of coding: small, all by distances, lanes alone, lanes and distances."""
    made = []
    for count, sigma, fall_octaves in ((200, 4, 8), (3000, 0.3, 4), (3000, 20, 0), (9000, 4, 12)):
        levels, classes = laplacian(count, sigma, fall_octaves, count, outliers=3)
        made.append((written(levels, classes), classes))
    return made


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("which", range(4))
def test_damaged_payloads_give_levels_or_an_error(payloads, which):
    payload, classes = payloads[which]
    dice = random.Random(which)
    refused = 0
    for trial in range(100):
        damaged = dice.randbytes(dice.randint(0, 400)) if trial % 4 == 0 else mutated(payload, dice)
        try:
            levels, _ = read(damaged, classes)
        except CodecError:
            refused += 1
            continue
        assert levels.shape == classes.shape
        assert np.abs(levels).max() <= MAX_MAGNITUDE
        # What is accepted is what a writer writes: nothing is left over, and nothing was read beyond the end.
        if which == 0:
            assert written(levels, classes) == damaged
    assert refused > 50


def test_what_is_left_over_is_refused(payloads):
    with pytest.raises(CodecError, match="padded"):
        LevelReader(b"\5\0")
    for payload, classes in payloads:
        with pytest.raises(CodecError, match="more bytes"):
            LevelReader(payload).end()
        with pytest.raises(CodecError):
            read(payload, classes[: classes.size // 4])


@pytest.mark.parametrize("which", [2, 3])
def test_lanes_that_are_cut_or_extended_are_refused(payloads, which):
    payload, classes = payloads[which]
    for damaged in (payload + b"\1", payload + bytes(40) + b"\1", payload[:-32], payload[32:], payload[:40]):
        with pytest.raises(CodecError):
            read(damaged, classes)


def test_lanes_hold_nothing_but_what_was_put_in():
    classes = np.full(100, LAPLACE + 28, np.uint16)
    symbols, raw = np.tile(np.arange(4, dtype=np.uint8), 25), np.resize(np.uint8([1, 0, 0, 1, 1]), 333)
    data = lanes.pack(symbols, classes, raw, 8)
    unpacked = lanes.Unpacked(memoryview(data), classes, 8)
    assert np.array_equal(unpacked.symbols, symbols)
    with pytest.raises(CodecError, match="more bytes"):
        unpacked.end()
    assert np.array_equal(unpacked.take(333), raw)
    unpacked.end()
    with pytest.raises(CodecError, match="cut"):
        unpacked.take(9)
    states_bits = sum(4 + 16 + (data[lane // 2] >> 4 * (lane % 2) & 15) for lane in range(8))
    assert states_bits % 8
    padded = bytearray(data)
    padded[states_bits // 8] |= 0x80
    with pytest.raises(CodecError, match="damaged"):
        lanes.Unpacked(memoryview(padded), classes, 8)
    for longer in (data + b"\0", data[:-1] + bytes([data[-1] | 0x80])):
        unpacked = lanes.Unpacked(memoryview(longer), classes, 8)
        unpacked.take(333)
        with pytest.raises(CodecError, match="more bytes"):
            unpacked.end()


def test_a_payload_ends_with_its_lanes(monkeypatch):
    pack = lanes.pack
    monkeypatch.setattr(lanes, "pack", lambda *arguments: pack(*arguments) + b"\0")
    levels, classes = laplacian(3000, 20, 0, 0)
    payload = written(levels, classes)
    with pytest.raises(CodecError, match="more bytes"):
        read(payload, classes)


@pytest.mark.parametrize("bucket", [1, BUCKETS])
def test_an_escape_must_be_needed(bucket):
    bits = [0] + [bucket >> place & 1 for place in range(ESCAPE_BITS)]
    source = iter([np.uint8(bits[:1]), np.uint8(bits[1:])])
    with pytest.raises(CodecError, match="escape"):
        levels_of(np.uint8([ESCAPE]), np.uint16([0]), lambda count: next(source))
    state = Sink()
    state.push(bucket << 1, 1, ESCAPE_BITS + 1)
    with pytest.raises(CodecError, match="escape"):
        pop_raw(Source(state.to_bytes()), [ESCAPE], [0])


def test_hidden_levels_are_written_so_that_they_can_be_read():
    # All where the writer, which looks at a sample, sees none: too many to code them by their distances.
    classes, levels = np.zeros(20_000, np.uint16), np.zeros(20_000, np.int32)
    levels[1::3] = 1
    assert np.array_equal(read(written(levels, classes), classes)[0], levels)
    state = Sink()
    gaps.push_gaps(state, (levels > 0).astype(np.uint8), classes)
    with pytest.raises(CodecError, match="more than 4096"):
        gaps.pop_gaps(Source(state.to_bytes()), classes)


def test_hostile_bytes_take_few_steps(payloads):
    # One unit of lanes for a million levels, or all of them by their distances, would take minutes.
    classes = np.full(1_000_000, LAPLACE + 40, np.uint16)
    for choice, error in ((0, "too few"), (7, "too many")):
        writer = LevelWriter()
        writer.number(255, 256)
        writer.number(choice, 8)
        writer.number(0, 512)
        with pytest.raises(CodecError, match=error):
            read(writer.to_bytes(), classes)


def test_what_cannot_be_said_is_refused():
    writer = LevelWriter()
    for call in (
        lambda: writer.pick(2, (TOTAL - 1, 1)),
        lambda: writer.pick(1, (TOTAL, 0)),
        lambda: writer.pick(0, (1, 2)),
        lambda: writer.number(5, 5),
        lambda: writer.number(0, 65537),
        lambda: writer.levels(np.zeros(3, np.int64), np.zeros(3, np.uint16)),
        lambda: writer.levels(np.zeros(3, np.int32), np.zeros(4, np.uint16)),
        lambda: writer.levels(np.zeros(1, np.int32), np.full(1, CLASSES, np.uint16)),
        lambda: writer.levels(np.full(1, -(2**31), np.int32), np.zeros(1, np.uint16)),
        lambda: LevelReader(b"").number(0),
        lambda: LevelReader(b"").pick((1, 2)),
        lambda: LevelReader(b"").levels(np.zeros((2, 2), np.uint16)),
    ):
        with pytest.raises(CodecError):
            call()
    writer.levels(np.zeros(3, np.int32), np.zeros(3, np.uint16))
    with pytest.raises(CodecError, match="once"):
        writer.levels(np.zeros(3, np.int32), np.zeros(3, np.uint16))
