"""What a verb raises: one line for people, and the exit status."""

from __future__ import annotations


class CommandError(Exception):
    """The work failed; the message is one line that names the thing and the fix.

    Attributes:
        status: exit status.
        command: the command to blame, such as `laim demo`; empty where it is the one that runs.
    """

    status = 1
    command = ""


class UsageError(CommandError):
    """The command line does not make sense."""

    status = 2
