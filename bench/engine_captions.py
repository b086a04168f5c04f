"""Does it matter to the captions what runs the quantized head?

    python -m bench.engine_captions --scenes 1000 --json out/engine_captions.json

laim-mini-blip2 on held-out scenes: the same b-bit weights run by engine `float` (the numbers that the codes stand for,
in float32) and by the engines that a robot uses, which round activations to 8 bits. One standard error of a rate over
1,000 scenes is 0.6 points at 96 %.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from laim_ros.coinference import RobotHalf
from laim_ros.evaluation.metrics import cider_d, score_captions
from laim_ros.models import Generation, SplitModel, load
from laim_ros.scenes import render, sample_scene
from laim_ros.scenes.world import Scene

MODEL = "laim-mini-blip2"
CHOICES = [(8, "uniform"), (4, "uniform"), (4, "exponential"), (2, "exponential")]
ENGINES = ("float", "auto", "torch")
_BATCH = 50


def pictures(scenes: list[Scene], tail: SplitModel, cache: Path | None) -> np.ndarray:
    """uint8 (scenes, H, W, 3) at the model's size; drawn once where there is a file to keep them in."""
    if cache and cache.exists():
        return np.load(cache)[: len(scenes)]
    drawn = np.stack([tail.resize(render(scene, 480, 640).image) for scene in scenes])
    if cache:
        np.save(cache, drawn)
    return drawn


def captions(head: SplitModel, tail: SplitModel, pixels: np.ndarray) -> tuple[list[str], np.ndarray]:
    """A caption per picture, and the features that they were made of."""
    said, features = [], []
    for start in range(0, len(pixels), _BATCH):
        batch = torch.from_numpy(pixels[start : start + _BATCH])
        features.append(head.run(batch, "input", "qformer").to(torch.float32))
        said += tail.generate(features[-1], [""] * len(batch), Generation())
    return said, torch.cat(features).numpy()


def measure(count: int, cache: Path | None) -> list[dict]:
    """A row for each width, quantizer and engine."""
    tail = load(MODEL)
    scenes = [sample_scene(seed, "held_out") for seed in range(count)]
    pixels = pictures(scenes, tail, cache)
    rows = []
    for bits, quantizer in CHOICES:
        exact = np.zeros(0)
        for engine in ENGINES:
            half = RobotHalf.open(MODEL, "bench", device="cpu", weight_bits=bits, quantizer=quantizer, engine=engine)
            said, features = captions(half.model, tail, pixels)
            exact = features if engine == "float" else exact
            rows.append(
                {
                    "bits": bits,
                    "quantizer": quantizer,
                    "engine": half.model.engine,
                    "asked": engine,
                    "true": score_captions(scenes, said)["true_and_complete"],
                    "cider_d": cider_d(scenes, said),
                    "error_of_execution": float(np.abs(features - exact).sum() / np.abs(exact).sum()),
                }
            )
            print(_line(rows[-1]), flush=True)
    return rows


def _line(row: dict) -> str:
    return (
        f"{row['bits']} bits {row['quantizer']:<12} {row['asked']:>6} ({row['engine']:<6})  "
        f"{100 * row['true']:5.1f} % true and complete  CIDEr-D {row['cider_d']:.3f}  "
        f"execution error {100 * row['error_of_execution']:.2f} %"
    )


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1000, help="held-out scenes")
    parser.add_argument("--pixels", type=Path, help="keep the drawn pictures in this file (.npy) between runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    rows = measure(asked.scenes, asked.pixels)
    if asked.json:
        asked.json.write_text(json.dumps({"scenes": asked.scenes, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
