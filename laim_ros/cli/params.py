"""`laim params`: every parameter of every node, from the one table."""

from __future__ import annotations

import argparse
import json

from laim_ros.cli.errors import UsageError
from laim_ros.parameters import TABLES

NAME = "params"
HELP = "list the parameters of the nodes"
DESCRIPTION = "Lists the parameters of the nodes with their defaults, what they take, and whether they may change live."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("nodes", nargs="*", metavar="NODE", help=f"{', '.join(TABLES)} (default: all)")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit status."""
    for node in options.nodes:
        if node not in TABLES:
            raise UsageError(f"there is no node '{node}'; nodes are {', '.join(TABLES)}")
    for index, node in enumerate(options.nodes or TABLES):
        print(f"{chr(10) if index else ''}{node}")
        for parameter in TABLES[node]:
            when = "live" if parameter.live else "at configure"
            bounds = f", {parameter.bounds()}" if parameter.bounds() else ""
            print(f"  {parameter.name}: {json.dumps(parameter.default)}  ({when}{bounds})")
            print(f"      {parameter.description}")
    return 0
