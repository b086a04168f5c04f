"""What goes wrong in this folder."""

from __future__ import annotations


class QuantizationError(ValueError):
    """Weights that cannot be quantized, or a choice that cannot be carried out; the message names it and the fix."""


class GivenUpError(QuantizationError):
    """Loading was ended halfway, because whoever asked for it no longer wants it."""
