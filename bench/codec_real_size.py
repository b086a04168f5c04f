"""Codec `klt` on boundary tensors of BLIP-2's real size: how long it takes, and at which split points it ever pays."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.codec_bars import Bar
from bench.codec_real_size_features import SPLIT_POINTS, features
from laim_ros.codec import WIRE_VERSION, CodecError, Codecs, Packet, StreamDescription, pack, unpack
from laim_ros.codec.fitting import fitted
from laim_ros.plan import Plan, klt_decibels

MOST_S = {"qformer": 3e-3, "vision": 60e-3}
"""Of encoding and decoding together: 32 × 768 and 257 × 1408 elements."""

_BITS = (1, 2, 3, 4, 6, 8)
_AGAINST = "webp75"
"""The smallest picture that costs `laim-mini-blip2` less than half a point of true captions."""

_PICTURES = tuple(f"{kind}{quality}" for kind in ("jpeg", "webp", "avif") for quality in (25, 50, 75, 90))
_SHOWN_BITS = (1, 2, 3, 4)
_AS_CALIBRATED_FRAMES = 16


def real_size(cache: Path) -> tuple[list[dict], list[Bar]]:
    """Measures all split points.

    Not through the halves, as those hold the model: what they do with a tensor is `Codecs` and `pack`.

    Args:
        cache: see `codec_real_size_features.features`.

    Returns:
        rows: `codec`, `split`, `feature_bits`, `payload_bytes` (mean over photographs that the calibration has not
        seen), `as_calibrated_bytes` (over some that it has), `decibels` (signal-to-distortion ratio of the unseen),
        `encode_s`, `decode_s` (medians of processor time), `calibration_bytes`; and the bars on time.
    """
    folder = features(cache)
    pixels = np.load(folder / "coded_input.npy")
    rows, sizes = [], {}
    for codec in _PICTURES:
        try:
            row = _row(Codecs({}), Plan("input", 32, 8, codec), "", pixels)
        except CodecError as error:
            print(f"{codec} left out: {error}")
            continue
        rows.append(row)
        sizes[codec] = row["payload_bytes"]
    print(f"\nreal size, random weights: {len(pixels)} pieces of photographs, bytes of pictures of 224 × 224")
    print("  ".join(f"{codec} {size:.0f}" for codec, size in sizes.items()))
    print("\nkilobytes by feature_bits, and milliseconds to encode + decode")
    print(f"{'split':8}" + "".join(f"{f'{bits} bits':>22}" for bits in _SHOWN_BITS) + f"   below {_AGAINST} up to")
    for point in SPLIT_POINTS:
        mine = _rows_at(point, folder)
        rows += mine
        print(_line(point, mine, sizes), flush=True)
    bars = [_bar(point, [row for row in rows if row["split"] == point]) for point in MOST_S]
    print(*bars, sep="\n")
    return rows, bars


def _rows_at(point: str, folder: Path) -> list[dict]:
    seen, unseen = (np.load(folder / f"{group}_{point}.npy") for group in ("calibrated", "coded"))
    calibration = fitted(seen)
    stored_bytes = sum(
        array.nbytes for array in (calibration.mean, calibration.channels, calibration.tokens, calibration.scales)
    )
    seen = seen[:: len(seen) // _AS_CALIBRATED_FRAMES].copy()
    codecs = Codecs({point: calibration})
    rows = []
    for bits in _BITS:
        plan = Plan(point, 32, bits, "klt")
        row = _row(codecs, plan, calibration.digest, unseen)
        row["as_calibrated_bytes"] = _row(codecs, plan, calibration.digest, seen)["payload_bytes"]
        row["asked_decibels"] = klt_decibels(plan)
        row["calibration_bytes"] = stored_bytes
        rows.append(row)
    return rows


def _row(codecs: Codecs, plan: Plan, calibration: str, frames: np.ndarray) -> dict:
    stream = StreamDescription(WIRE_VERSION, "bench", "ab", plan, frames.shape[1:], calibration)
    sizes, encode_s, decode_s, errors = [], [], [], 0.0
    for number, frame in enumerate(frames):
        began_s = time.process_time()
        packet = pack(Packet(stream.stream_id, number, codecs.encode(stream, frame, number)))
        packed_s = time.process_time()
        decoded = codecs.decode(stream, unpack(packet).payload, number)
        decode_s.append(time.process_time() - packed_s)
        encode_s.append(packed_s - began_s)
        sizes.append(len(unpack(packet).payload))
        errors += float(np.square(decoded.astype(np.float64) - frame).sum())
    signal = float(np.square(frames.astype(np.float64) - frames.mean(0, dtype=np.float64)).sum())
    return {
        "codec": plan.codec,
        "split": plan.split_point,
        "feature_bits": plan.feature_bits if plan.codec == "klt" else 0,
        "payload_bytes": round(float(np.mean(sizes)), 1),
        "decibels": round(10 * float(np.log10(signal / max(errors, 1e-12))), 2),
        "encode_s": float(np.median(encode_s)),
        "decode_s": float(np.median(decode_s)),
    }


def _line(point: str, rows: list[dict], pictures: Mapping[str, float]) -> str:
    """One split point, and the finest rate at which it takes fewer bytes than a good picture."""
    shown = [row for row in rows if row["feature_bits"] in _SHOWN_BITS]
    cells = "".join(
        f"{row['payload_bytes'] / 1e3:10.2f} ({1e3 * (row['encode_s'] + row['decode_s']):6.1f} ms)" for row in shown
    )
    cheaper = [row for row in rows if row["payload_bytes"] < pictures.get(_AGAINST, 0)]
    finest = max(cheaper, key=lambda row: row["feature_bits"], default=None)
    pays = f"{finest['feature_bits']} bits ({finest['decibels']:.1f} dB)" if finest else "never"
    return f"{point:8}{cells}   {pays}"


def _bar(point: str, rows: list[dict]) -> Bar:
    slowest = max(rows, key=lambda row: row["encode_s"] + row["decode_s"])
    taken_s = slowest["encode_s"] + slowest["decode_s"]
    return Bar(
        f"real-size tensor at {point}, slowest of {len(rows)} rates",
        f"encode + decode at most {1e3 * MOST_S[point]:.0f} ms on one core",
        f"{slowest['feature_bits']} bits: {1e3 * slowest['encode_s']:.2f} + {1e3 * slowest['decode_s']:.2f} ms",
        taken_s <= MOST_S[point],
    )
