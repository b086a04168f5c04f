"""The plan and the head on a command line: options shared by the verbs that run a model."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from laim_ros.cli.errors import UsageError
from laim_ros.parameters import ENGINES, QUANTIZERS, ROBOT, ParameterValue, plan_from, why_plain
from laim_ros.plan import BIT_WIDTHS, Plan, PlanError

SPLIT_POINTS = "input, vit.K (after K blocks), vision, qformer or output"


def add_plan_arguments(parser: argparse.ArgumentParser, when_no_split_point: str) -> None:
    """Adds --split-point, --weight-bits, --feature-bits and --codec; the first two are None unless they are given."""
    parser.add_argument(
        "--split-point", metavar="STAGE", help=f"last stage run on the robot: {SPLIT_POINTS} ({when_no_split_point})"
    )
    parser.add_argument(
        "--weight-bits",
        type=int,
        metavar="BITS",
        help=f"bits per weight of the robot's half: {', '.join(map(str, BIT_WIDTHS))} (default: as the model is)",
    )
    parser.add_argument(
        "--feature-bits",
        type=int,
        default=8,
        metavar="BITS",
        help=f"bits per element of the tensor that is sent: {', '.join(map(str, BIT_WIDTHS))} (default: 8)",
    )
    parser.add_argument(
        "--codec",
        default="auto",
        help="klt, as fine as --feature-bits; klt1 to klt60 for so many decibels; plain; or at split point input a "
        "picture format with quality such as webp75 (default: klt where the model is calibrated, else plain; jpeg90)",
    )


def add_head_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --quantizer, --prune and --engine."""
    add = parser.add_argument
    for name, choices in (("quantizer", QUANTIZERS), ("engine", ENGINES)):
        about = next(entry.description for entry in ROBOT if entry.name == name)
        add(
            f"--{name}",
            choices=choices,
            default="auto",
            metavar="NAME",
            help=f"{about[0].lower()}{about[1:-1]}: {', '.join(choices)} (default: auto)",
        )
    add("--prune", default="", metavar="WHAT", help="what the head does without, such as heads:0.25,neurons:0.25")


def plan_of(options: argparse.Namespace, default_split_point: str, calibrated: Collection[str] = ()) -> Plan:
    """The plan that these options ask for; without --weight-bits, a packed head has its own in place of the plan's.

    Args:
        options: the words.
        default_split_point: without --split-point.
        calibrated: split points at which codec `klt` is calibrated; none while no model is loaded.

    Raises:
        UsageError: they do not fit each other.
    """
    try:
        return plan_from(_values(options, default_split_point), calibrated)
    except PlanError as error:
        raise UsageError(str(error)) from None


def why_not_klt(options: argparse.Namespace, default_split_point: str, calibrated: Collection[str]) -> str:
    """Why features are coded by `plain` although nobody named it, as one sentence; empty where they are not.

    Args:
        options, default_split_point, calibrated: as `plan_of` has taken them.
    """
    return why_plain(_values(options, default_split_point), calibrated)


def _values(options: argparse.Namespace, default_split_point: str) -> dict[str, ParameterValue]:
    return {
        "split_point": options.split_point or default_split_point,
        "weight_bits": Plan().weight_bits if options.weight_bits is None else options.weight_bits,
        "feature_bits": options.feature_bits,
        "codec": options.codec,
    }
