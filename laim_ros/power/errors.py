"""The one error of this folder."""

from __future__ import annotations


class PowerError(ValueError):
    """A meter or a clock that cannot be had or set; the message names the file and the fix."""
