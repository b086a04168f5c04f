"""How few bytes is a frame? Every codec on the same held-out scenes, side by side, and the bars that they must hold.

    python -m bench.codec --json out/codec.json --png out/codec.png
    python -m bench.codec --coders                 the entropy coder beside constriction's (.venv-bench has it)
    python -m bench.codec --real-size              tensors of BLIP-2's real size: times, and bytes by split point
    python -m bench.codec --predictive             differences to confirmed frames: moving camera, 20 % of packets lost
    python -m bench.codec --mutated 1000000        damaged packets

Without a flag: laim-mini-blip2 through `RobotHalf.pack` and `EdgeHalf.decode`, codec `klt` with the shipped calibration
beside `plain` (quantized values in zstd) and JPEG, WebP and AVIF of the model's input. All on one thread. A share p of
true captions over n scenes has a standard error of √(p (1 - p) / n), 0.6 points at 96 % of 1,000; differences from the
uncompressed features on the same scenes have a smaller one, which is printed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.codec_rows import Halves, Row

CACHE = Path("out/codec_real_size")
THREADS_OF = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_CODERS = (("qformer", "klt", 1), ("qformer", "klt", 4), ("vit.2", "klt10", 8))
_CODER_FRAMES = 200


def measured(scenes: int, png: Path | None) -> dict:
    """The rows of all codecs, the bars that they decide, and the picture."""
    from bench.codec_bars import bars
    from bench.codec_picture import draw
    from bench.codec_rows import MODEL, Halves, measured_rows

    halves = Halves(scenes)
    print(f"\n{MODEL}, {scenes} held-out scenes; uncompressed: {_captions(halves.truth, halves.cider_d)}")
    print(halves.robot.codecs.source)
    print(_ROW_HEAD)
    rows = []
    for row in measured_rows(halves, print):
        rows.append(row)
        print(_line(row), flush=True)
    print()
    found = bars(rows)
    print(*found, sep="\n", flush=True)
    if png:
        draw(png, rows, halves.truth, halves.cider_d)
    return {
        "scenes": scenes,
        "calibration": halves.robot.codecs.source,
        "uncompressed": {"truth": halves.truth, "cider_d": halves.cider_d},
        "rows": [row.to_json() for row in rows],
        "bars": [bar.to_json() for bar in found],
        "coders": coders(halves),
    }


_ROW_HEAD = f"{'split':8} {'codec':12} {'payload B':>10} {'packet B':>9} {'true %':>7} {'below':>13} {'CIDEr-D':>8}" + (
    f" {'entropy B':>10} {'encode ms':>10} {'decode ms':>10}"
)


def _line(row: Row) -> str:
    entropy = "" if row.entropy_bytes is None else f"{row.entropy_bytes:.1f}"
    below = f"{100 * row.below:+.1f} ± {100 * row.below_error:.1f}"
    cider = "" if row.cider_d is None else f"{row.cider_d:.3f}"
    return (
        f"{row.split:8} {row.name:12} {row.payload_bytes:10.1f} {row.packet_bytes:9.1f} {100 * row.truth:7.1f} "
        f"{below:>13} {cider:>8} {entropy:>10} {1e3 * row.encode_s:10.3f} {1e3 * row.decode_s:10.3f}"
    )


def _captions(truth: float, cider: float | None) -> str:
    return f"{100 * truth:.1f} % true" + (f", CIDEr-D {cider:.3f}" if cider is not None else ", no pycocoevalcap here")


def coders(halves: Halves) -> list[dict]:
    """Sizes and times of entropy coders on the same levels."""
    from bench.codec_coders import CONSTRICTION, CodedLevels, compared, has_constriction
    from laim_ros.plan import Plan

    print("\nentropy coders on the same levels with the same models")
    if not has_constriction():
        again = "`make setup-bench`, `.venv-bench/bin/python -m bench.codec --coders`"
        print(f"{CONSTRICTION} is not installed here, so it is left out: {again}")
    rows = []
    for split, codec, bits in _CODERS:
        if split not in halves.robot.codecs.calibrations:
            continue
        stream = halves.robot.describe(Plan(split, 32, bits, codec))
        frames = halves.features(split)[:_CODER_FRAMES]
        coded = CodedLevels.of(
            halves.edge.codecs, stream, [halves.robot.codecs.encode(stream, frame) for frame in frames]
        )
        for row in compared(coded):
            rows.append({"split": split, "codec": codec, "feature_bits": bits if codec == "klt" else 0, **row})
            named = f"{split} {codec}" + (f" {bits} bits" if codec == "klt" else "")
            times = f"encode {1e3 * row['encode_s']:.3f} ms, decode {1e3 * row['decode_s']:.3f} ms"
            print(f"{named:18} {row['coder']:20} {row['bytes']:9.1f} B, {times}", flush=True)
    return rows


def print_bars(found: Sequence[Mapping]) -> None:
    """How many were held."""
    decided = [bar for bar in found if bar["held"] is not None]
    missed = [bar["name"] for bar in decided if not bar["held"]]
    print(
        f"\n{len(decided) - len(missed)} of {len(decided)} bars held"
        + "".join(f"\n  missed: {name}" for name in missed)
    )


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1000, help="held-out scenes")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--png", type=Path, help="draw truth and CIDEr-D over bytes")
    parser.add_argument("--coders", action="store_true", help="only the entropy coders")
    parser.add_argument(
        "--real-size", action="store_true", help="tensors of BLIP-2's real size; the first run takes long"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="keeps what --real-size makes, 6 GB")
    parser.add_argument("--predictive", action="store_true", help="a moving camera and lost packets")
    parser.add_argument("--mutated", type=int, default=0, metavar="N", help="decode so many damaged packets")
    asked = parser.parse_args()
    os.environ |= dict.fromkeys(THREADS_OF, "1")  # before anything that reads it is imported

    import cv2
    import torch

    from bench.circumstances import cpu_name, version_of

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    packages = ("laim_ros", "numpy", "opencv-python-headless", "torch", "constriction")
    results: dict = {
        "cpu": cpu_name(),
        "load_average_before": os.getloadavg()[0],
        "versions": {package: version_of(package) for package in packages},
        "rows": [],
        "bars": [],
    }
    print(f"{results['cpu']}, one thread; load average before: {results['load_average_before']:.2f}")
    if not (asked.coders or asked.real_size or asked.predictive or asked.mutated):
        results |= measured(asked.scenes, asked.png)
    if asked.coders:
        from bench.codec_rows import Halves

        results["coders"] = coders(Halves(_CODER_FRAMES))
    if asked.real_size:
        from bench.codec_real_size import real_size

        results["real_size"], found = real_size(asked.cache)
        results["bars"] += [bar.to_json() for bar in found]
    if asked.predictive:
        from bench.codec_predictive import predictive

        results["predictive"], found = predictive()
        results["bars"] += [bar.to_json() for bar in found]
    if asked.mutated:
        from bench.codec_mutated import mutated

        results["mutated"], found = mutated(asked.mutated)
        results["bars"] += [bar.to_json() for bar in found]
    if results["bars"]:
        print_bars(results["bars"])
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
