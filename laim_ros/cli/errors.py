"""What a verb raises: one line for people, and the exit status."""

from __future__ import annotations


class CommandError(Exception):
    """The work failed; the message is one line that names the thing and the fix."""

    status = 1


class UsageError(CommandError):
    """The command line does not make sense."""

    status = 2
