"""Damaged packets: what may come of each is a frame or a CodecError, soon, and without memory worth speaking of."""

from __future__ import annotations

import multiprocessing
import os
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from bench.codec_bars import Bar
from laim_ros.codec import CodecError, Codecs, Packet, StreamDescription, pack, unpack
from laim_ros.plan import Plan

PROCESSES = 2
HANG_S = 30.0
_REPORT_EVERY = 500
_TRACED_SHARE = 25
_SCENES = 24
_WARM_UP = 4000
_MOST_EXTRA_BYTES = 40

MOST_SHARE = 1.1
"""Of what an intact packet takes; errors' texts take some, too."""
MOST_GROWN_BYTES = 16 << 20
"""Of the process, which the allocator's fragments grow, too."""

_PLANS = (
    *(Plan("qformer", 32, bits, "klt") for bits in (1, 2, 4, 8)),
    *(Plan("vit.2", 32, bits, "klt") for bits in (1, 4, 8)),
    *(Plan("qformer", 32, bits, "plain") for bits in (1, 3, 4, 8, 16, 32)),
    Plan("vit.2", 32, 4, "plain"),
    *(Plan("input", 32, 8, codec) for codec in ("jpeg50", "webp50", "avif50")),
)
_PREDICTIVE = Plan("qformer", 32, 3, "klt")


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Intact packets of one stream.

    Attributes:
        name: of the stream, for people.
        stream: its description.
        packets: by their sequence.
        tensor_bytes: of a decoded frame.
    """

    name: str
    stream: StreamDescription
    packets: list[bytes]
    tensor_bytes: int


@dataclass(slots=True)
class Watch:
    """What one process saw of one stream.

    Attributes:
        packets, decoded: how many there were, and how many made a frame.
        slowest_s: of any, processor time.
        traced_bytes: most memory that Python and numpy held beside what was there before, over damaged packets.
        intact_bytes: the same over intact ones.
        errors: any other exceptions than CodecError, by their text.
    """

    packets: int = 0
    decoded: int = 0
    slowest_s: float = 0.0
    traced_bytes: int = 0
    intact_bytes: int = 0
    errors: Counter | None = None


def mutated(count: int) -> tuple[list[dict], list[Bar]]:
    """Decodes damaged packets in processes of their own.

    Args:
        count: of packets, over all streams and processes.

    Returns:
        rows by stream, and the bars.
    """
    from bench.codec_rows import Halves

    halves = Halves(_SCENES)
    corpora, calibrations = list(_corpora(halves)), dict(halves.robot.codecs.calibrations)
    del halves
    context = multiprocessing.get_context("spawn")
    running = []
    for seed in range(PROCESSES):
        here, there = context.Pipe()
        process = context.Process(
            target=_work, args=(corpora, calibrations, count // PROCESSES, seed, there), daemon=True
        )
        process.start()
        there.close()
        running.append((process, here))
    found: list[tuple[dict[str, Watch], dict]] = []
    failures = []
    for seed, (process, here) in enumerate(running):
        last: object = "the start"
        while True:
            try:
                if not here.poll(HANG_S):
                    failures.append(f"process {seed} hung after {last}")
                    process.kill()
                    break
                message = here.recv()
            except EOFError:
                process.join(10)
                failures.append(f"process {seed} died with {process.exitcode} after {last}")
                break
            if isinstance(message, tuple):
                found.append(message)
                break
            last = message
    return _summary(corpora, found, failures)


def _corpora(halves) -> Iterator[Corpus]:
    for plan in (*_PLANS, _PREDICTIVE):
        predictive = plan is _PREDICTIVE
        try:
            stream = halves.robot.describe(plan, predictive=predictive)
            features = _with_strange_ones(halves.features(plan.split_point))
            packets = [
                # In the predictive stream every other frame refers to the one before.
                halves.robot.pack(
                    stream,
                    number,
                    frame,
                    time.perf_counter(),
                    reference=number - 1 if predictive and number % 2 else None,
                )
                for number, frame in enumerate(features)
            ]
        except CodecError as error:
            print(f"{plan.split_point} {plan.codec} left out: {error}")
            continue
        name = f"{plan.split_point} {plan.codec}" + ("" if plan.sends_picture else f" {plan.feature_bits} bits")
        yield Corpus(name + (" predictive" if predictive else ""), stream, packets, features[0].nbytes)


def _with_strange_ones(features: np.ndarray) -> np.ndarray:
    """With some frames that no calibration has seen the like of: they, too, are coded, in more bytes."""
    if features.dtype == np.uint8:
        return features
    rng = np.random.default_rng(0)
    noise = [scale * rng.standard_normal(features.shape[1:], np.float32) for scale in (1, 10, 1000)]
    return np.concatenate((features, 30 * features[:3], noise))


def _work(corpora: list[Corpus], calibrations: Mapping, count: int, seed: int, report: Connection) -> None:
    """The process: tells a number of packets now and then, and at its end what it saw and how its memory grew."""
    import cv2

    cv2.setNumThreads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libjpeg tells of every picture that it cannot read
    # As no edge has so many streams at once that their codecs are made anew: that is not what is measured.
    codecs, rng = {corpus.name: Codecs(calibrations) for corpus in corpora}, np.random.default_rng(seed)
    watches = {corpus.name: Watch(errors=Counter()) for corpus in corpora}
    for corpus in corpora:
        _trace_intact(codecs[corpus.name], corpus, watches[corpus.name])
    traced_from = _WARM_UP + count - count // _TRACED_SHARE
    memory = []
    for number in range(count + _WARM_UP):
        if number == _WARM_UP:
            watches = {
                name: Watch(intact_bytes=watch.intact_bytes, errors=Counter()) for name, watch in watches.items()
            }
        if number in (_WARM_UP, traced_from):  # tracing takes memory of its own
            memory.append(_memory())
        corpus = corpora[number % len(corpora)]
        packet = _damaged(corpus, rng)
        _one(codecs[corpus.name], corpus, packet, watches[corpus.name], traced=number >= traced_from)
        if number % _REPORT_EVERY == 0:
            report.send(number)
    before, after = memory
    report.send((watches, {name: after[name] - before[name] for name in after}))


def _trace_intact(codecs: Codecs, corpus: Corpus, watch: Watch) -> None:
    for timed in (False, True):  # once to fill caches
        for packet in corpus.packets:
            tracemalloc.start()
            codecs.decode(corpus.stream, unpack(packet).payload, unpack(packet).sequence)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            if timed:
                watch.intact_bytes = max(watch.intact_bytes, peak)


def _one(codecs: Codecs, corpus: Corpus, data: bytes, watch: Watch, traced: bool) -> None:
    frame = None
    watch.packets += 1
    if traced:
        tracemalloc.start()
    began_s = time.process_time()
    try:
        packet = unpack(data)
        frame = codecs.decode(corpus.stream, packet.payload, packet.sequence)
    except CodecError:
        pass
    except Exception as error:  # the very thing that is looked for
        watch.errors[f"{type(error).__name__}: {str(error)[:100]}"] += 1
    taken_s = time.process_time() - began_s
    if not traced:  # tracing takes its time
        watch.slowest_s = max(watch.slowest_s, taken_s)
    else:
        watch.traced_bytes = max(watch.traced_bytes, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    if frame is not None:
        watch.decoded += 1
        if frame.shape != corpus.stream.shape or not np.isfinite(frame).all():
            watch.errors["a frame of another shape, or not finite"] += 1


def _damaged(corpus: Corpus, rng: np.random.Generator) -> bytes:
    """One packet, damaged: seven times in eight behind a right checksum, as a hostile sender would."""
    packet = corpus.packets[rng.integers(len(corpus.packets))]
    if rng.integers(8) == 0:
        return _mutation(packet, packet, rng)
    payload = unpack(packet).payload
    other = unpack(corpus.packets[rng.integers(len(corpus.packets))]).payload
    for _ in range(int(rng.integers(1, 4))):
        payload = _mutation(payload, other, rng)
    sequence = int(rng.integers(1 << 32)) if rng.integers(8) == 0 else unpack(packet).sequence
    return pack(Packet(corpus.stream.stream_id, sequence, payload))


def _mutation(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One of: bits flipped, bytes set, cut, extended, a piece dropped, doubled or of another packet, all random."""
    changed = bytearray(data)
    size = len(changed)
    kind = int(rng.integers(8)) if size else 3
    at = int(rng.integers(size)) if size else 0
    until = at + int(rng.integers(1, 9))
    if kind == 0:
        changed[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        changed[at] = (0, 255, 0x7F, 0x80, int(rng.integers(256)))[int(rng.integers(5))]
    elif kind == 2:
        del changed[at:]
    elif kind == 3:
        changed += rng.bytes(int(rng.integers(1, _MOST_EXTRA_BYTES)))
    elif kind == 4:
        del changed[at:until]
    elif kind == 5:
        changed[at:at] = changed[at:until]
    elif kind == 6:
        changed[at:] = other[at:]
    else:
        changed = bytearray(rng.bytes(size))
    return bytes(changed)


def _memory() -> dict[str, int]:
    """Most memory that this process ever held, resident and reserved, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    names = {"resident_peak": "VmHWM", "reserved_peak": "VmPeak"}
    return {name: 1024 * int(fields[field].split()[0]) for name, field in names.items()}


def _summary(
    corpora: list[Corpus], found: list[tuple[dict[str, Watch], dict]], failures: list[str]
) -> tuple[list[dict], list[Bar]]:
    print(
        f"\n{'damaged packets of':30} {'packets':>9} {'decoded':>9} {'slowest ms':>11}"
        f" {'traced kB':>10} {'intact kB':>10}"
    )
    rows = []
    for corpus in corpora:
        seen = [watches[corpus.name] for watches, _ in found]
        errors: Counter = sum((watch.errors for watch in seen), Counter())
        row = {
            "stream": corpus.name,
            "packets": sum(watch.packets for watch in seen),
            "decoded": sum(watch.decoded for watch in seen),
            "slowest_s": max((watch.slowest_s for watch in seen), default=0.0),
            "traced_bytes": max((watch.traced_bytes for watch in seen), default=0),
            "intact_bytes": max((watch.intact_bytes for watch in seen), default=0),
            "tensor_bytes": corpus.tensor_bytes,
            "errors": dict(errors),
        }
        rows.append(row)
        print(
            f"{row['stream']:30} {row['packets']:9} {row['decoded']:9} {1e3 * row['slowest_s']:11.1f} "
            f"{row['traced_bytes'] / 1e3:10.1f} {row['intact_bytes'] / 1e3:10.1f}"
            + "".join(f"\n    {times} × {text}" for text, times in errors.most_common(5))
        )
    total = sum(row["packets"] for row in rows)
    others = sum(sum(row["errors"].values()) for row in rows)
    slowest = max(rows, key=lambda row: row["slowest_s"])
    # What a packet may cost is what an intact one of any rate does: the tensor, and what its decoder works with.
    intact: dict[int, int] = {}
    for row in rows:
        size = row["tensor_bytes"]
        intact[size] = max(intact.get(size, size), row["intact_bytes"])
    worst = max(rows, key=lambda row: row["traced_bytes"] / intact[row["tensor_bytes"]])
    share = worst["traced_bytes"] / intact[worst["tensor_bytes"]]
    tensors = max(row["traced_bytes"] / row["tensor_bytes"] for row in rows)
    grown = {name: max((growth[name] for _, growth in found), default=0) for name in ("resident_peak", "reserved_peak")}
    bars = [
        Bar(
            f"{total} damaged packets",
            "no crash, no hang, nothing but CodecError",
            "; ".join(failures) or f"{others} other errors, slowest {1e3 * slowest['slowest_s']:.0f} ms",
            not failures and not others and total > 0,
        ),
        Bar(
            "memory for damaged packets",
            "no more than for intact ones of the same shape",
            f"at most {share:.2f} times that ({worst['stream']}), {tensors:.1f} times the tensor; the process grew by "
            f"{grown['resident_peak'] / 1e6:.1f} MB resident, {grown['reserved_peak'] / 1e6:.1f} MB reserved",
            len(found) == PROCESSES and share <= MOST_SHARE and grown["reserved_peak"] <= MOST_GROWN_BYTES,
        ),
    ]
    print(*bars, sep="\n")
    return rows, bars
