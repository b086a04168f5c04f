"""The plan on a command line: options shared by the verbs that run a model."""

from __future__ import annotations

import argparse

from laim_ros.cli.errors import UsageError
from laim_ros.parameters import plan_from
from laim_ros.plan import BIT_WIDTHS, Plan, PlanError

SPLIT_POINTS = "input, vit.K (after K blocks), vision, qformer or output"


def add_plan_arguments(parser: argparse.ArgumentParser, when_no_split_point: str) -> None:
    """Adds --split-point, --feature-bits and --codec; the first is None where it is not given."""
    parser.add_argument(
        "--split-point", metavar="STAGE", help=f"last stage run on the robot: {SPLIT_POINTS} ({when_no_split_point})"
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
        help="plain, or at split point input a picture format with quality such as jpeg75 (default: the right one)",
    )


def plan_of(options: argparse.Namespace, default_split_point: str) -> Plan:
    """The plan that these options ask for.

    Raises:
        UsageError: they do not fit each other.
    """
    values = {
        "split_point": options.split_point or default_split_point,
        "weight_bits": 32,
        "feature_bits": options.feature_bits,
        "codec": options.codec,
    }
    try:
        return plan_from(values)
    except PlanError as error:
        raise UsageError(str(error)) from None
