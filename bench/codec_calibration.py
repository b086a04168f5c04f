"""How many frames does the calibration of codec `klt` need, and what does it do on scenes of another kind?

    python -m bench.codec_calibration --scenes 1000 --json out/codec_calibration.json

laim-mini-blip2, calibrated on the first N scenes that it was trained on, or on other pictures, and measured on held-out
scenes through `RobotHalf` and `EdgeHalf`, as `laim calibrate` measures. Decibels are those that each calibration
expects of the frames that it was made of; `moves` tells what came of them: Σ|y - ŷ| / Σ|y| of the Q-Former's features.
Shares of true captions over 1,000 scenes have a standard error of 0.6 points, but all rows look at the same scenes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.circumstances import cpu_name, version_of
from bench.codec_real_size_features import CALIBRATED, crops
from laim_ros.codec import HEADER_BYTES, Codecs
from laim_ros.coinference import EdgeHalf
from laim_ros.evaluation.codec_calibration import calibrate_codec
from laim_ros.evaluation.frames import Frames, scene_frames
from laim_ros.evaluation.quality import Meter
from laim_ros.models import SplitModel, load
from laim_ros.plan import Plan
from laim_ros.quantization import Heads

MODEL = "laim-mini-blip2"
SPLIT_POINTS = ("vit.2", "vision", "qformer")
FRAMES = (30, 100, 300, 1000, 3000, 8000)
DECIBELS = (9, 12, 18)
OF_A_KIND = 1000
"""Frames of each calibration that is compared by what is to be seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """Pictures to calibrate on."""

    name: str
    pixels: np.ndarray


def by_number(training: Frames) -> Iterator[Made]:
    """The first so many of all scenes."""
    for frames in FRAMES:
        if frames <= len(training.pixels):
            yield Made(f"{frames} scenes", training.pixels[:frames])


def by_kind(training: Frames, model: SplitModel) -> Iterator[Made]:
    """Scenes as those that are judged, others, and pictures that are no such scenes at all."""
    for objects in (2, 1):
        kind = [number for number, scene in enumerate(training.scenes) if len(scene.objects) == objects][:OF_A_KIND]
        yield Made(f"{len(kind)} scenes of {objects} object{'s' * (objects > 1)}", training.pixels[kind])
    photographs = crops(CALIBRATED, -(-OF_A_KIND // len(CALIBRATED)), seed=0)
    yield Made("pieces of photographs", np.stack([model.resize(piece) for piece in photographs][:OF_A_KIND]))


def with_objects(frames: Frames, objects: int) -> Frames:
    """Those that show so many objects."""
    chosen = [number for number, scene in enumerate(frames.scenes) if len(scene.objects) == objects]
    scenes = tuple(frames.scenes[number] for number in chosen)
    return Frames(frames.pixels[chosen], f"{frames.source} of {objects} objects", scenes)


def measured(made: Made, model: SplitModel, judged: Frames) -> Iterator[dict]:
    """A row for each split point and ratio."""
    began_s = time.process_time()
    calibrations = calibrate_codec(model, made.pixels, SPLIT_POINTS)
    took_s = time.process_time() - began_s
    edge = EdgeHalf(model, Codecs(calibrations))
    plans = [Plan(point, 32, 32, f"klt{decibels}") for point in SPLIT_POINTS for decibels in DECIBELS]
    for plan, row in zip(plans, Meter(edge, Heads(MODEL, device="cpu"), judged).rows(plans), strict=True):
        yield {
            "calibrated_on": made.name,
            "frames": len(made.pixels),
            "calibration_cpu_s": round(took_s, 1),
            "judged_on": f"{len(judged.pixels)} {judged.source}",
            "split": plan.split_point,
            "decibels": int(plan.codec.removeprefix("klt")),
            "payload_bytes": round(row.packet_bytes - HEADER_BYTES, 1),
            "moves": row.distortion,
            "same": row.same_share,
            "truth": row.true_share,
        }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1000, help="held-out scenes to judge by (default: 1000)")
    parser.add_argument("--training", type=int, default=max(FRAMES), help="training scenes to calibrate on, at most")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    model = load(MODEL)
    held_out, training = (
        scene_frames(options.scenes, model.resize),
        scene_frames(options.training, model.resize, split="train"),
    )
    pairs = [(made, held_out) for made in by_number(training)]
    pairs += [(made, with_objects(held_out, 2)) for made in by_kind(training, model)]
    rows: list[dict] = []
    for made, judged in pairs:
        for row in measured(made, model, judged):
            rows.append(row)
            print(
                f"{row['calibrated_on']:24} {row['judged_on']:36} {row['split']:8} {row['decibels']:3} dB "
                f"{row['payload_bytes']:8,.1f} B  moves {100 * row['moves']:5.2f} %  same {100 * row['same']:5.1f} %  "
                f"true {100 * row['truth']:5.1f} %",
                flush=True,
            )
    if options.json:
        about = {"cpu": cpu_name(), **{name: version_of(name) for name in ("numpy", "torch", "transformers")}}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"circumstances": about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
