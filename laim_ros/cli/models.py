"""`laim models`: what ships, and what each split point sends."""

from __future__ import annotations

import argparse
import math

from laim_ros.cli.errors import CommandError

NAME = "models"
HELP = "list the models that ship, their split points and what each sends"
DESCRIPTION = """\
Lists models with their split points: the shape of the tensor that a robot sends there, and its bytes at 8 bits per
element before compression.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help="shipped name, folder or hub id (default: shipped)")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit status."""
    from laim_ros.models import ModelError, load, shipped_models

    names = options.models or shipped_models()
    if not names:
        raise CommandError("no model ships with this installation; install the package again")
    for name in names:
        try:
            model = load(name)
        except ModelError as error:
            raise CommandError(f"{error}") from None
        print(f"{name}: {model.weight_bytes / 1e6:.1f} MB of weights, model id {model.model_id}")
        print(f"  {'split point':<12} {'tensor':<16} bytes at 8 bits")
        for point in model.split_points:
            if point == "output":
                print(f"  {point:<12} {'text':<16} none, all runs on the robot")
                continue
            shape = model.boundary_shape(point)
            size = math.prod(shape)
            note = " (as pixels; jpeg90 takes far less)" if point == "input" else ""
            print(f"  {point:<12} {' x '.join(map(str, shape)):<16} {size:,}{note}")
    return 0
