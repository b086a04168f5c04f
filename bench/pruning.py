"""What does pruning cost, and what does it gain?

Cost, on laim-mini-blip2 and held-out scenes, in floating point so that nothing but the pruning is measured: relative L1
error of the Q-Former's output, truth rate and CIDEr-D of the captions, per kind and ratio, chosen by the weights alone
and with pictures; then together with 8 and 4 bits.

Gain, at real size: one ViT-g block of random weights at 8 bits on the engine that `auto` chooses, batch 1, the ratios
interleaved, median of 9. Magnitude pruning gains no time; dropping blocks gains theirs.

    python bench/pruning.py [--scenes 1000] [--pictures 64] [--pixels FILE.npy] [--threads 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from bench.circumstances import cpu_name, version_of  # noqa: E402
from bench.pruned_model import PrunedModel, linears_of  # noqa: E402
from laim_ros.models.random_checkpoint import BLIP2_OPT_2_7B  # noqa: E402
from laim_ros.parameters import DEFAULT_MODEL  # noqa: E402
from laim_ros.paths import checkpoints_directory  # noqa: E402
from laim_ros.quantization.engines import make_engine  # noqa: E402
from laim_ros.quantization.pruning import Pruning, prune_block  # noqa: E402
from laim_ros.quantization.quantize import quantize  # noqa: E402
from laim_ros.quantization.weights import BlockWeights, LinearWeights, NormWeights  # noqa: E402

MAGNITUDES = ("magnitude:0.25", "magnitude:0.5", "magnitude:0.6", "magnitude:0.75")
STRUCTURED = (
    "heads:0.25",
    "heads:0.5",
    "neurons:0.125",
    "neurons:0.25",
    "neurons:0.5",
    "neurons:0.75",
    "heads:0.25,neurons:0.25",
    "blocks:1",
    "blocks:2",
)
TOGETHER = ("", "magnitude:0.5", "neurons:0.25", "heads:0.25,neurons:0.25")
"""Measured at 8 and 4 bits, too."""

SPEEDS = (
    "",
    "heads:0.25",
    "heads:0.5",
    "neurons:0.25",
    "neurons:0.5",
    "heads:0.25,neurons:0.25",
    "heads:0.5,neurons:0.5",
)
TOKENS = 257
RUNS, WARM_UP = 9, 3


def cases() -> Iterator[tuple[Pruning, bool, int]]:
    """What is measured: pruning, with pictures or without, bits."""
    yield Pruning(), False, 32
    for text in MAGNITUDES:
        yield Pruning.parse(text), False, 32
    for text in STRUCTURED:
        for with_pictures in (False, True):
            yield Pruning.parse(text), with_pictures, 32
    for bits in (8, 4):
        for text in TOGETHER:
            pruning = Pruning.parse(text)
            yield pruning, bool(pruning.heads or pruning.neurons), bits


def speeds(threads: int) -> list[dict]:
    """Latency of one block of real size per ratio."""
    torch.set_num_threads(threads)
    block, engine = real_block(), make_engine("auto", torch.device("cpu"))
    whole = sum(linear.weight.numel() for linear in linears_of(block))
    layers, left = {}, {}
    for text in SPEEDS:
        pruned = prune_block(block, Pruning.parse(text))
        left[text] = sum(linear.weight.numel() for linear in linears_of(pruned)) / whole
        layers[text] = engine.block(_at_8_bits(pruned))
    x = torch.randn((1, TOKENS, BLIP2_OPT_2_7B.vision_width))
    seconds: dict[str, list[float]] = {text: [] for text in SPEEDS}
    with torch.inference_mode():
        for run in range(-WARM_UP, RUNS):
            for text, layer in layers.items():
                began_s = time.perf_counter()
                layer(x)
                if run >= 0:
                    seconds[text].append(time.perf_counter() - began_s)
    medians = {text: statistics.median(each) for text, each in seconds.items()}
    return [
        {
            "prune": text,
            "engine": engine.name,
            "bits": 8,
            "weights_left": left[text],
            "latency_s": medians[text],
            "ratio_to_unpruned": medians[text] / medians[""],
        }
        for text in SPEEDS
    ]


def real_block() -> BlockWeights:
    """A ViT-g block of random weights."""
    torch.manual_seed(0)
    width, neurons, heads = BLIP2_OPT_2_7B.vision_width, BLIP2_OPT_2_7B.vision_mlp, BLIP2_OPT_2_7B.vision_heads

    def linear(outputs: int, inputs: int) -> LinearWeights:
        return LinearWeights(torch.randn((outputs, inputs)) * 0.02, torch.zeros(outputs))

    norm = NormWeights(torch.ones(width), torch.zeros(width), 1e-6)
    return BlockWeights(
        norm,
        linear(3 * width, width),
        linear(width, width),
        norm,
        linear(neurons, width),
        linear(width, neurons),
        heads=heads,
        head_width=width // heads,
    )


def _at_8_bits(block: BlockWeights) -> BlockWeights:
    names = ("qkv", "projection", "fc1", "fc2")
    linears = {name: getattr(block, name) for name in names}
    return replace(
        block, **{name: LinearWeights(quantize(each.weight, 8), each.bias) for name, each in linears.items()}
    )


def print_quality(row: dict) -> None:
    """One line."""
    chosen = "pictures" if row["with_pictures"] else "weights"
    print(
        f"{row['prune'] or 'none':26}{chosen:>10}{row['bits']:>6}{100 * row['tower_weights_left']:>9.1f} %"
        f"{100 * row['relative_l1']:>10.2f} %{100 * row['true']:>8.1f} %{100 * row['true_and_complete']:>10.1f} %"
        f"{row['cider_d']:>10.3f}",
        flush=True,
    )


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1000, help="held-out scenes to caption (default 1000)")
    parser.add_argument("--pictures", type=int, default=64, help="training scenes that calibrate (default 64)")
    parser.add_argument("--pixels", type=Path, help="keep the drawn pictures in this .npy file between runs")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of PyTorch")
    parser.add_argument("--model", type=Path, help=f"folder; default {DEFAULT_MODEL}")
    parser.add_argument("--no-quality", action="store_true", help="measure the speed only")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    asked = parser.parse_args()

    facts = {
        "scenes": asked.scenes,
        "pictures": asked.pictures,
        "threads": asked.threads,
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "torch": version_of("torch"),
        "load_average_before": os.getloadavg()[0],
    }
    fast = speeds(asked.threads)
    print(f"{'one ViT-g block, 8 bits':26}{'weights left':>14}{'latency':>14}{'of unpruned':>14}")
    for row in fast:
        print(
            f"{row['prune'] or 'none':26}{100 * row['weights_left']:>12.1f} %{1e3 * row['latency_s']:>11.2f} ms"
            f"{row['ratio_to_unpruned']:>14.2f}"
        )
    print(
        f"engine {fast[0]['engine']}, {facts['threads']} threads on {facts['cpus']} × {facts['cpu']}; load average "
        f"{facts['load_average_before']:.1f} before"
        + (" (BUSY: the times say little)" if facts["load_average_before"] > 0.5 * facts["cpus"] else "")
    )
    rows = []
    if not asked.no_quality:
        folder = asked.model or checkpoints_directory() / DEFAULT_MODEL
        model = PrunedModel(folder, asked.scenes, asked.pictures, asked.pixels)
        print(
            f"\n{folder.name:26}{'chosen by':>10}{'bits':>6}{'tower left':>11}{'rel. L1':>12}{'true':>10}"
            f"{'complete':>12}{'CIDEr-D':>10}"
        )
        for pruning, with_pictures, bits in cases():
            rows.append(model.measure(pruning, with_pictures=with_pictures, bits=bits))
            print_quality(rows[-1])
        print(
            f"{asked.scenes} scenes: one standard error of a rate of 95 % is {95 / asked.scenes**0.5 * 0.23:.1f} points"
        )
    if asked.json:
        text = json.dumps({"quality": rows, "speed": fast, **facts}, indent=2) + "\n"
        asked.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
