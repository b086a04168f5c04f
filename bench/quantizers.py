"""What do the quantizers lose, in distortion and in captions, and how long do they take?

    python -m bench.quantizers --scenes 1000 --json out/quantizers.json

Distortion is λ·mean|w - ŵ| with λ = 1/mean|w|, scales per channel unless asked otherwise: on Exp(1) magnitudes (rows of
4096) beside theory, on a bell-shaped matrix of ViT-g's size (normal, 6144 × 1408), and on all linear layers of
laim-mini-blip2's head. `nested` is what `derive` makes of the 8-bit form. Captions: laim-mini-blip2 in float32 with the
linear layers of vision tower and Q-Former replaced by their dequantized selves; the rest, and the language model, as
they are. Rates of true captions over 1,000 scenes have a standard error of 0.6 points (at 96 %) to 1.6 (at 50 %).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from bench.circumstances import cpu_name, version_of
from laim_ros.evaluation.metrics import cider_d, score_captions
from laim_ros.planning.rate_distortion import best_scalar, exact_distortion, paper_upper_bound
from laim_ros.quantization import exponential, power_of_two, statistics, uniform
from laim_ros.quantization.nested import derive, quantize_nested
from laim_ros.quantization.quantize import QUANTIZER_NAMES, quantize
from laim_ros.quantization.search import WeightErrors
from laim_ros.scenes import render, sample_scene
from training.evaluate_mini_blip2 import Candidate

FOLDER = Path("checkpoints/laim-mini-blip2")
BITS = range(1, 9)
COLUMNS = (*QUANTIZER_NAMES, "nested")
VIT_G = (6144, 1408)
REAL_HEAD_WEIGHTS = 1.1e9
"""Of the linear layers of BLIP-2's ViT-g and Q-Former."""

Weights = dict[str, torch.Tensor]
Approximation = Callable[[torch.Tensor], torch.Tensor]


def approximation(name: str, bits: int, granularity: str) -> Approximation:
    """Weight to dequantized weight, float32."""
    if name == "nested":
        return lambda weight: derive(quantize_nested(weight, granularity), bits).dequantize()
    return lambda weight: quantize(weight, bits, name, granularity).dequantize()


def head_weights(folder: Path) -> Weights:
    """The weights of all linear layers of vision tower and Q-Former, by their keys."""
    tensors = load_file(folder / "model.safetensors")
    prefixes = ("vision_model.encoder.layers.", "qformer.")
    return {key: value for key, value in tensors.items() if key.startswith(prefixes) and value.ndim == 2}


def sources(folder: Path) -> dict[str, list[torch.Tensor]]:
    """The matrices that distortion is measured on."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (256, 4096), generator=generator) * 2 - 1
    return {
        "exp(1)": [torch.empty(256, 4096).exponential_(generator=generator) * signs],
        "normal 6144x1408": [torch.randn(VIT_G, generator=generator) * 0.02],
        folder.name: list(head_weights(folder).values()),
    }


def mean_distortion(weights: Iterable[torch.Tensor], approximate: Approximation) -> float:
    """λD of each matrix, averaged over all weights."""
    total, count = 0.0, 0
    for weight in weights:
        total += statistics.distortion(weight, approximate(weight)) * weight.numel()
        count += weight.numel()
    return total / count


def distortions(folder: Path, granularity: str) -> list[dict]:
    """λD for each source, width and quantizer."""
    rows = []
    for source, weights in sources(folder).items():
        distances = [statistics.ks_distance(each, statistics.fit_exponential(each)) for each in weights]
        fit = sum(d * each.numel() for d, each in zip(distances, weights, strict=True)) / sum(
            each.numel() for each in weights
        )
        for bits in BITS:
            row = {"source": source, "bits": bits, "ks_distance": fit}
            row |= {name: mean_distortion(weights, approximation(name, bits, granularity)) for name in COLUMNS}
            row |= {
                "nested_to_uniform": row["nested"] / row["uniform"],
                "best_scalar": best_scalar(bits - 1),
                "exact": exact_distortion(bits - 1),
                "paper_upper_bound": paper_upper_bound(bits - 1),
            }
            rows.append(row)
    return rows


def search_costs() -> list[dict]:
    """How much more error the fast search of scales leaves than a dense one, per cent, on ViT-g's size of rows."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn((128, VIT_G[1]), generator=generator)
    rows = []
    for name, family in (("uniform_l1", uniform), ("power_of_two", power_of_two), ("exponential_l1", exponential)):
        for bits in range(2, 9):
            found = quantize(weight, bits, name).scale.view(-1)
            errors = WeightErrors(weight.abs(), partial(family.nearest, bits=bits), False)
            dense = torch.stack([errors.at(found * 1.005**step) for step in range(-150, 151)]).amin(0)
            excess = 100 * float(errors.at(found).mean() / dense.mean() - 1)
            rows.append({"quantizer": name, "bits": bits, "excess_percent": excess})
    return rows


def durations() -> list[dict]:
    """Processor seconds for 1e8 weights of ViT-g's size on one thread, best of three."""
    weight = torch.randn(VIT_G) * 0.02
    stored = quantize_nested(weight)
    jobs: dict[str, Callable[[int], object]] = {
        name: partial(quantize, weight, quantizer=name) for name in COLUMNS[:-1]
    }
    jobs["quantize_nested"] = lambda bits: quantize_nested(weight)
    jobs["derive"] = partial(derive, stored)
    rows = []
    for name, job in jobs.items():
        for bits in (1, 2, 4, 7) if name == "derive" else (8,) if name == "quantize_nested" else (1, 2, 4, 8):
            seconds = []
            for _ in range(3):
                # Processor time: unlike the clock's it hardly changes while the machine does other work.
                began_s = time.process_time()
                job(bits)
                seconds.append(time.process_time() - began_s)
            rows.append({"job": name, "bits": bits, "cpu_s_per_1e8": min(seconds) / weight.numel() * 1e8})
    return rows


class Quality:
    """Captions of the head with other weights, on pictures that are drawn once."""

    def __init__(self, folder: Path, scenes: int, pixels: Path | None) -> None:
        self._candidate = Candidate(folder)
        self._weights = head_weights(folder)
        self._scenes = [sample_scene(seed, "held_out") for seed in range(scenes)]
        if pixels and pixels.exists():
            self._pixels = torch.load(pixels)[:scenes]
        else:
            self._pixels = self._candidate.pixels(render(scene, 480, 640).image for scene in self._scenes)
            if pixels:
                torch.save(self._pixels, pixels)

    def scores(self, approximate: Approximation) -> dict[str, float]:
        """Share of true, of true and complete captions, and CIDEr-D."""
        parameters = dict(self._candidate.model.named_parameters())
        with torch.no_grad():
            for key, weight in self._weights.items():
                parameter = parameters.get(key, parameters.get(f"model.{key}"))
                parameter.copy_(approximate(weight))
        said = self._candidate.say(self._pixels, [""] * len(self._scenes))
        scores = score_captions(self._scenes, said)
        return {
            "true": scores["true"],
            "true_and_complete": scores["true_and_complete"],
            "cider_d": cider_d(self._scenes, said),
        }


def qualities(folder: Path, scenes: int, pixels: Path | None, granularity: str) -> list[dict]:
    """Scores in float32, then for each width and quantizer."""
    quality = Quality(folder, scenes, pixels)
    rows = [{"quantizer": "float32", "bits": 32, **quality.scores(lambda weight: weight)}]
    print(rows[0], flush=True)
    for bits in BITS:
        for name in COLUMNS:
            rows.append({"quantizer": name, "bits": bits, **quality.scores(approximation(name, bits, granularity))})
            print(rows[-1], flush=True)
    return rows


def print_tables(results: dict) -> None:
    """The results for people."""
    for source in dict.fromkeys(row["source"] for row in results["distortion"]):
        rows = [row for row in results["distortion"] if row["source"] == source]
        columns = (*COLUMNS, "nested_to_uniform", "best_scalar", "exact", "paper_upper_bound")
        print(f"\nλD on {source} (KS distance from exponential {rows[0]['ks_distance']:.3f})")
        _print_table(rows, columns, ".5f")
    print("\nerror that the search of scales leaves above a dense one, % (rows of 1408)")
    _print_by_bits(results["search"], "quantizer", "excess_percent", ".2f")
    print(f"\nprocessor seconds per 1e8 weights, one thread (a real head has {REAL_HEAD_WEIGHTS / 1e8:g} times that)")
    _print_by_bits(results["durations"], "job", "cpu_s_per_1e8", ".2f")
    for score in ("true", "true_and_complete", "cider_d") if results["quality"] else ():
        full = results["quality"][0]
        print(f"\n{score} on {results['scenes']} held-out scenes; float32: {full[score]:.4f}")
        _print_by_bits(results["quality"][1:], "quantizer", score, ".4f")


def _print_by_bits(rows: list[dict], column: str, value: str, form: str) -> None:
    names = list(dict.fromkeys(row[column] for row in rows))
    table: dict[int, dict] = {}
    for row in rows:
        table.setdefault(row["bits"], {"bits": row["bits"]})[row[column]] = row[value]
    _print_table([table[bits] for bits in sorted(table)], names, form)


def _print_table(rows: list[dict], columns: Iterable[str], form: str) -> None:
    columns = list(columns)
    print("bits" + "".join(f"{name:>18}" for name in columns))
    for row in rows:
        cells = (format(row[name], form) if name in row else "" for name in columns)
        print(f"{row['bits']:4}" + "".join(f"{cell:>18}" for cell in cells))


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--scenes", type=int, default=1000, help="held-out scenes for the captions; 0 for none")
    parser.add_argument("--pixels", type=Path, help="keep the drawn pictures in this file between runs")
    parser.add_argument("--granularity", default="channel")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    asked = parser.parse_args()

    torch.set_num_threads(asked.threads)
    results = {
        "model": asked.folder.name,
        "granularity": asked.granularity,
        "scenes": asked.scenes,
        "threads": asked.threads,
        "cpu": cpu_name(),
        "load_average_before": os.getloadavg()[0],
        "versions": {package: version_of(package) for package in ("laim_ros", "torch", "transformers")},
        "durations": durations(),
        "search": search_costs(),
        "distortion": distortions(asked.folder, asked.granularity),
        "quality": [],
    }
    if asked.scenes:
        results["quality"] = qualities(asked.folder, asked.scenes, asked.pixels, asked.granularity)
    print_tables(results)
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
