"""Numbers with units on a command line: `1.2Mbit`, `20ms`, `300 mJ`."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|inf)\s*([A-Za-z/]*)\s*")

SECONDS: Mapping[str, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0}
JOULES: Mapping[str, float] = {"J": 1.0, "mJ": 1e-3, "kJ": 1e3, "Wh": 3600.0}
_BITS = {"bit": 1.0, "kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}
BITS_PER_SECOND: Mapping[str, float] = {**_BITS, **{f"{unit}/s": factor for unit, factor in _BITS.items()}}


def quantity(units: Mapping[str, float], minimum: float = 0.0, maximum: float = math.inf) -> Callable[[str], float]:
    """A type for argparse: a number within bounds, with one of these units, or without for the first of them.

    Args:
        units: factor to the first unit, by name; case matters, as for `mJ` and `MJ`.
        minimum, maximum: bounds in the first unit, both included.
    """
    first = next(iter(units))

    def parse(text: str) -> float:
        found = _QUANTITY.fullmatch(text)
        if found is None:
            raise argparse.ArgumentTypeError(f"'{text}' is no number with a unit such as 1{first}")
        number, unit = found.groups()
        if unit and unit not in units:
            raise argparse.ArgumentTypeError(f"'{text}': unit '{unit}' is none of {', '.join(units)}")
        value = float(number) * units.get(unit, 1.0)
        if not minimum <= value <= maximum:
            upper = f" and at most {maximum:g} {first}" if math.isfinite(maximum) else ""
            raise argparse.ArgumentTypeError(f"'{text}' must be at least {minimum:g} {first}{upper}")
        return value

    return parse
