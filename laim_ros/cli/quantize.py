"""`laim quantize`: packs a model's head into a folder of b bits per weight."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from laim_ros.cli.errors import CommandError, UsageError
from laim_ros.cli.values import integer

if TYPE_CHECKING:
    from laim_ros.quantization.storage.manifest import Manifest
    from laim_ros.quantization.storage.write import Packing
    from laim_ros.quantization.survey import LayerSample

NAME = "quantize"
HELP = "pack the robot's half of a model into b bits per weight"
DESCRIPTION = """\
Quantizes the linear layers of a model's head (vision tower and Q-Former) and writes them into a folder of just that
many bits, which a robot takes as its model; the edge keeps the model itself.

  laim quantize laim-mini-blip2 --bits 4 --quantizer exponential --out head4
  laim up role:=robot model:=head4
  laim up role:=edge model:=laim-mini-blip2

With --pictures, heads, neurons and blocks are chosen by what the model makes of these pictures, and what stays is
fitted to do the work of what goes. Less is lost; but it takes time: half an hour of two cores and 4 GB of memory for
BLIP-2 at real size.

  laim quantize laim-mini-blip2 --prune neurons:0.25 --pictures scenes:64 --out small
  laim quantize laim-mini-blip2 --prune neurons:0.25 --pictures recorded/ --out small

The feature codec's calibration goes along where the model has one (codec.safetensors, of `laim calibrate`): robot and
edge must have the same.

8 bits with the quantizer uniform hold every lower bit-width too, so that the robot can change it while it drives.
"""

_MB = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="shipped name, local folder or hub id")
    add("--bits", type=integer(1, 8), default=8, help="bits per weight, 1 to 8 (default: 8)")
    add(
        "--quantizer",
        default="uniform",
        metavar="NAME",
        help="where the levels lie: uniform, uniform_absmax, power_of_two, exponential … (default: uniform)",
    )
    add(
        "--granularity",
        default="channel",
        metavar="WHICH",
        help="which weights share a scale: tensor, channel or group:N (default: channel)",
    )
    add("--prune", default="", metavar="WHAT", help="taken out before, such as magnitude:0.5 or heads:0.25,blocks:2")
    add(
        "--pictures",
        metavar="SOURCE",
        help="prune heads, neurons and blocks by what these show: a folder of pictures, of which 64 are taken, or "
        "scenes:N for N rendered scenes; many minutes at real size (default: none, by the weights alone)",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write; must not exist, or be empty")
    add("--report", type=Path, metavar="FILE", help="also draw the weights and their distortion, as PNG")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit status."""
    if options.report is not None and options.report.suffix.lower() != ".png":
        raise UsageError(f"--report {options.report}: the report is a picture; give a name that ends in .png")
    from laim_ros.models import ModelError
    from laim_ros.models.source import find_source
    from laim_ros.quantization import QuantizationError
    from laim_ros.quantization.calibration import Calibration
    from laim_ros.quantization.pruning import Pruning
    from laim_ros.quantization.report import require_matplotlib
    from laim_ros.quantization.storage.write import Packing, require_empty, require_packable
    from laim_ros.quantization.survey import Survey

    try:
        pruning = Pruning.parse(options.prune)
        if options.pictures is not None and not pruning.structured:
            raise UsageError(
                f"--pictures {options.pictures}: pictures serve to prune heads, neurons or blocks; add for instance "
                "--prune neurons:0.25"
            )
        require_empty(options.out)
        if options.report is not None:
            require_matplotlib()
        survey = Survey(sampled=options.report is not None)
        source = find_source(options.model)
        # Pictures take minutes: what cannot be done is refused before.
        require_packable(source, options.bits, options.quantizer, options.granularity, pruning)
        calibration = None if options.pictures is None else Calibration.of(source, options.pictures, _warn)
        packing = Packing(
            source,
            options.bits,
            options.quantizer,
            options.granularity,
            pruning,
            observe=survey,
            calibration=calibration,
        )
        print(_promised(packing))
        began_s = time.perf_counter()
        packing.write(options.out, _progress(packing.layers))
        took_s = time.perf_counter() - began_s
        print(_written(packing, options.out, survey.relative_error, took_s))
        if options.report is not None:
            _report(survey.samples, packing.manifest, options)
    except (ModelError, QuantizationError) as error:
        raise CommandError(f"{error}") from None
    return 0


def _report(samples: Sequence[LayerSample], made: Manifest, options: argparse.Namespace) -> None:
    """Draws the report of a head that has been written.

    Raises:
        CommandError: it failed; the head is there all the same.
    """
    from laim_ros.quantization import QuantizationError
    from laim_ros.quantization.report import draw_report

    try:
        draw_report(samples, made, options.report)
    except QuantizationError as error:
        raise CommandError(f"{options.out} is complete, but its report failed: {error}") from None
    print(f"report in {options.report}")


def _warn(text: str) -> None:
    print(f"laim quantize: {text}", file=sys.stderr)


def _promised(packing: Packing) -> str:
    made, promise = packing.manifest, packing.promise
    nested = " with those of 1 to 7 bits" if made.nested else ""
    return (
        f"{made.model}: {promise.weights / 1e6:,.1f} M weights in {packing.layers} linear layers at {made.bits} bits, "
        f"{made.quantizer} per {made.granularity}{made.pruned}\n"
        f"promised {promise.total_bytes / _MB:,.3f} MB: weights {promise.weight_bytes / _MB:,.3f}, "
        f"scales{nested} {promise.scale_bytes / _MB:,.3f}, unquantized {promise.float_bytes / _MB:,.3f}, "
        f"names {promise.header_bytes / _MB:,.3f}"
    )


def _written(packing: Packing, folder: Path, relative_error: float, took_s: float) -> str:
    from laim_ros.models.source import SINGLE_FILE

    size, promise = (folder / SINGLE_FILE).stat().st_size, packing.promise
    return (
        f"written  {size / _MB:,.3f} MB ({100 * (size / promise.total_bytes - 1):+.2f} %), "
        f"{8 * size / promise.weights:.2f} bits per weight in all, to {folder} in {took_s:.1f} s\n"
        f"relative error of the weights {100 * relative_error:.2f} %"
    )


def _progress(layers: int) -> Callable[[int], None] | None:
    """Counts layers on a terminal, in one line that vanishes; says nothing elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(done: int) -> None:
        text = f"\rlayer {done} of {layers}" if done < layers else "\r\033[K"
        print(text, end="", file=sys.stderr, flush=True)

    return show
