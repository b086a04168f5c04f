"""`laim models`: what ships, and what each split point sends."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from laim_ros.cli.errors import CommandError

if TYPE_CHECKING:
    from laim_ros.models import SplitModel

NAME = "models"
HELP = "list the models that ship, their split points and what each sends"
DESCRIPTION = """\
Lists models, or folders that `laim quantize` wrote, with the memory of the robot's half and the split points: the shape
of the tensor that a robot sends there, its bytes at 8 bits per element before compression, and where codec klt is
calibrated, what that makes of a usual one at 1, 2, 4 and 8 bits. A packet's header takes 24 bytes more.
"""

_MB = 1e6
_KLT_BITS = (1, 2, 4, 8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help="shipped name, folder or hub id (default: shipped)")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit status."""
    from laim_ros.models import ModelError, shipped_models
    from laim_ros.quantization import QuantizationError

    names = options.models or shipped_models()
    if not names:
        raise CommandError("no model ships with this installation; install the package again")
    for name in names:
        try:
            model = _described(name)
        except (ModelError, QuantizationError) as error:
            raise CommandError(f"{error}") from None
        _print_split_points(model)
    return 0


def _print_split_points(model: SplitModel) -> None:
    from laim_ros.codec import find_calibrations
    from laim_ros.profiling.coding import payload_bytes

    calibrations, source = find_calibrations(model.name, model.model_id)
    print(f"  {source}")
    by_klt = "".join(f"{f'klt, {bits}':>9}" for bits in _KLT_BITS) if calibrations else ""
    print(f"  {'split point':<12} {'tensor':<16} {'bytes at 8 bits':>15}{by_klt}")
    for point in model.split_points:
        if point == "output":
            print(f"  {point:<12} {'text':<16} {'none':>15} (all runs on the robot)")
            continue
        shape = model.boundary_shape(point)
        more = " (as pixels; jpeg90 takes far less)" if point == "input" else ""
        if point in calibrations:
            expected = payload_bytes(calibrations[point])  # at 0, 6, 12, ... dB: one more for each bit
            more = "".join(f"{expected[bits]:>9,.0f}" for bits in _KLT_BITS)
        print(f"  {point:<12} {' x '.join(map(str, shape)):<16} {math.prod(shape):>15,}{more}")


def _described(name: str) -> SplitModel:
    """Loads a model or a packed head, and says what it is.

    Raises:
        ModelError, QuantizationError: there is none, or it cannot be loaded.
    """
    from laim_ros.models import load
    from laim_ros.models.identity import packed_head
    from laim_ros.models.source import find_source
    from laim_ros.quantization import Heads
    from laim_ros.quantization.storage.manifest import read_manifest

    source = find_source(name)
    if packed_head(source) is None:
        model = load(source)
        print(f"{name}: {model.weight_bytes / _MB:.1f} MB of weights, model id {model.model_id}")
        print(f"  the robot's half up to qformer takes {model.head_bytes / _MB:.1f} MB of them")
        return model
    made, heads = read_manifest(source), Heads(name, device="cpu")
    model = heads.load(heads.own_bits)
    lower = " and every lower width" if made.has_lower_bits else ""
    print(f"{name}: a robot's half made of '{made.model}', model id {model.model_id}")
    print(f"  {made.bits} bits per weight{lower}, {made.quantizer} per {made.granularity}{made.pruned}")
    print(
        f"  {made.file_bytes / _MB:.1f} MB of file, {model.head_bytes / _MB:.1f} MB of weights in memory with engine "
        f"{model.engine}"
    )
    return model
