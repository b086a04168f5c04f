"""Types of command line values; a ValueError's text becomes part of the one-line error."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def number(minimum: float, maximum: float, unit: str = "") -> Callable[[str], float]:
    """A type for argparse: a number within bounds, both included."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"'{text}' is no number from {minimum:g} to {maximum:g}{unit}")
        return value

    return parse


def integer(minimum: int, maximum: int) -> Callable[[str], int]:
    """A type for argparse: an integer within bounds, both included."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"'{text}' is no integer from {minimum} to {maximum}")
        return value

    return parse
