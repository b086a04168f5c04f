"""The `laim` command: one verb per file, nothing heavy imported before a verb runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from laim_ros.cli.errors import CommandError, UsageError
from laim_ros.cli.parser import make_parser

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `laim`; returns the exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    command = "laim"
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that has no ✓ shows a ?
    try:
        parser = make_parser()
        options = parser.parse_args(arguments)
        if options.verb is None:
            parser.print_help()
            return UsageError.status
        command = f"laim {options.verb}"
        return options.run(options)
    except CommandError as error:
        print(f"{error.command or command}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, as in `laim demo | head`; Python must not complain when it flushes.
        sys.stdout = None
        return CommandError.status


__all__ = ["main"]
