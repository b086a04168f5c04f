"""The command line as argparse sees it, with errors of one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

import laim_ros
from laim_ros.cli import calibrate, caption, demo, models, params, plan, quantize, up
from laim_ros.cli.errors import UsageError

_VERBS = (demo, up, caption, models, quantize, calibrate, plan, params)
"""Modules with NAME, HELP, DESCRIPTION, `add_arguments(parser)` and `run(options) -> exit status`."""


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and where to read more."""

    def error(self, message: str) -> NoReturn:
        error = UsageError(f"{message}; see `{self.prog} --help`")
        error.command = self.prog
        raise error


def make_parser() -> Parser:
    """The parser of the whole command; `options.verb` is None or the verb's name, `options.run` its function."""
    parser = Parser(
        prog="laim",
        description="Split vision-language models between a robot and an edge computer, over ROS 2.",
        epilog="`laim VERB --help` tells more about a verb.",
    )
    parser.add_argument("--version", action="version", version=f"laim_ros {laim_ros.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", parser_class=Parser)
    for verb in _VERBS:
        added = verbs.add_parser(
            verb.NAME,
            help=verb.HELP,
            description=verb.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_arguments(added)
        added.set_defaults(run=verb.run)
    return parser
