"""Differences to confirmed frames against frames by themselves: a slowly moving camera, a fifth of the packets lost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.codec_bars import Bar
from bench.codec_rows import Halves
from laim_ros.codec import CodecError, unpack
from laim_ros.codec.prediction import References
from laim_ros.plan import Plan
from laim_ros.scenes import SceneStream, caption_truth
from laim_ros.scenes.world import Scene

FRAMES = 1000
RATE_HZ = 10.0
SECONDS_PER_SCENE = 5.0
LOSS = 0.2
DELAYS = (1, 2)
"""Frames after which the robot knows whether one has arrived."""

PLANS = tuple(
    Plan(split, 32, 8, f"klt{ratio}")
    for split, ratios in (("qformer", (10, 12, 16, 24)), ("vit.2", (6, 10, 16)))
    for ratio in ratios
)


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """What became of a stream of frames.

    Attributes:
        payload_bytes: int (frames,).
        predicted: bool (frames,), which had a reference to refer to.
        arrived: bool (frames,), which packets were not lost.
        decoded: by the number of the frame.
    """

    payload_bytes: np.ndarray
    predicted: np.ndarray
    arrived: np.ndarray
    decoded: Mapping[int, np.ndarray]


def camera(halves: Halves) -> tuple[np.ndarray, list[Scene]]:
    """Frames of the moving camera at the model's size, and what is to be seen in each."""
    stream = SceneStream(1, "held_out", SECONDS_PER_SCENE)
    pixels, scenes = [], []
    for number in range(FRAMES):
        image, scene = stream.frame(number / RATE_HZ)
        pixels.append(halves.robot.model.resize(image))
        scenes.append(scene)
    return np.stack(pixels), scenes


def send(halves: Halves, plan: Plan, features: np.ndarray, delay: int | None, arrived: np.ndarray) -> Sent:
    """Sends frames over a link that loses some.

    Args:
        halves: robot and edge.
        plan: of the stream.
        features: float32 (frames, *shape).
        delay: after how many frames the robot hears of one, or misses it; None codes every frame by itself.
        arrived: bool (frames,), which packets the link does not lose.
    """
    stream = halves.robot.describe(plan, predictive=delay is not None)
    references = References()
    sizes, predicted, decoded = [], [], {}
    for number, frame in enumerate(features):
        if delay is not None and number >= delay:
            heard = number - delay
            if heard in decoded:  # a lost packet is not heard of: the next confirmed one tells
                references.confirmed(heard)
        reference = references.next(stream.stream_id) if delay is not None else None
        payload = unpack(halves.robot.pack(stream, number, frame, time.perf_counter(), reference=reference)).payload
        references.sent(stream.stream_id, number, reference)
        sizes.append(len(payload))
        predicted.append(reference is not None)
        if arrived[number]:
            try:
                decoded[number] = halves.edge.decode(stream, payload, number)
            except CodecError:
                continue  # a frame that came and cannot be used counts as missing: the bar sees it
    return Sent(np.array(sizes), np.array(predicted), arrived, decoded)


def predictive() -> tuple[list[dict], list[Bar]]:
    """Measures all plans.

    Returns:
        rows: `codec`, `split`, `delay` in frames (0: every frame by itself), `payload_bytes`, `predicted` (share of
        frames with a reference), `truth` of the frames that arrived, `missing` (arrived and not decoded), `intra_bytes`
        and `intra_truth` (every frame by itself, at the same step); and the bars.
    """
    halves = Halves(0)
    pixels, scenes = camera(halves)
    arrived = np.random.default_rng(5).random(FRAMES) >= LOSS
    print(
        f"\n{FRAMES} frames at {RATE_HZ:g} Hz, a scene every {SECONDS_PER_SCENE:g} s, {100 * LOSS:g} % of packets lost "
        f"({np.count_nonzero(~arrived)})"
    )
    print("split    codec   delay  payload B  by itself    saved  predicted  true %  by itself  arrived, not decoded")
    rows, features = [], {split: halves.features_of(pixels, split) for split in {plan.split_point for plan in PLANS}}
    for plan in PLANS:
        if plan.split_point not in halves.robot.codecs.calibrations:
            continue
        alone = send(halves, plan, features[plan.split_point], None, arrived)
        alone_truth = _truth(halves, plan, alone, scenes)
        for delay in DELAYS:
            sent = send(halves, plan, features[plan.split_point], delay, arrived)
            row = {
                "codec": plan.codec,
                "split": plan.split_point,
                "delay": delay,
                "payload_bytes": round(float(sent.payload_bytes.mean()), 2),
                "predicted": round(float(sent.predicted.mean()), 3),
                "truth": _truth(halves, plan, sent, scenes),
                "missing": int(np.count_nonzero(arrived)) - len(sent.decoded),
                "intra_bytes": round(float(alone.payload_bytes.mean()), 2),
                "intra_truth": alone_truth,
            }
            rows.append(row)
            saved = 1 - row["payload_bytes"] / row["intra_bytes"]
            print(
                f"{row['split']:8} {row['codec']:6} {delay:6} {row['payload_bytes']:10.1f} {row['intra_bytes']:10.1f} "
                f"{100 * saved:7.1f}% {100 * row['predicted']:9.0f}% {100 * row['truth']:7.1f} "
                f"{100 * alone_truth:10.1f} {row['missing']:21}",
                flush=True,
            )
    found = _bars(rows)
    print(*found, sep="\n")
    return rows, found


def _truth(halves: Halves, plan: Plan, sent: Sent, scenes: Sequence[Scene]) -> float:
    """Share of true and complete captions of the frames that were decoded."""
    stream = halves.robot.describe(plan)
    numbers = sorted(sent.decoded)
    texts = halves.captions(stream, np.stack([sent.decoded[number] for number in numbers]))
    truths = (caption_truth(text, scenes[number]) for number, text in zip(numbers, texts, strict=True))
    return round(float(np.mean([truth.true and truth.complete for truth in truths])), 4)


_SAME_TRUTH = 0.005


def _bars(rows: Sequence[Mapping]) -> list[Bar]:
    found = []
    for split in dict.fromkeys(row["split"] for row in rows):
        here = [row for row in rows if row["split"] == split]
        kept = [row for row in here if row["truth"] >= row["intra_truth"] - _SAME_TRUTH]
        best = min(kept, key=lambda row: row["payload_bytes"] / row["intra_bytes"], default=None)
        if best is None:
            found.append(Bar(f"predictive at {split}", "", "never as true as every frame by itself", False))
            continue
        smaller = [row for row in kept if row["payload_bytes"] < row["intra_bytes"]]
        found.append(
            Bar(
                f"predictive at {split}, {100 * LOSS:g} % loss",
                "fewer bytes than every frame by itself at equal truth",
                f"in {len(smaller)} of {len(here)} rows; at best {best['codec']}, {best['payload_bytes']:.1f} B for "
                f"{best['intra_bytes']:.1f} B, {100 * best['truth']:.1f} % true for {100 * best['intra_truth']:.1f} %",
                best["payload_bytes"] < best["intra_bytes"],
            )
        )
    missing = sum(row["missing"] for row in rows)
    found.append(
        Bar(
            "predictive, frames that arrived and could not be decoded",
            "only lost frames are lost",
            f"{missing} in {len(rows)} rows of {FRAMES} frames",
            missing == 0,
        )
    )
    return found
