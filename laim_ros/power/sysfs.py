"""Numbers in the files of /sys."""

from __future__ import annotations

import os
from pathlib import Path


def read_int(path: Path) -> int:
    """The integer that a file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else.
    """
    return int(path.read_text(encoding="ascii"))


def write_int(path: Path, value: int) -> None:
    """Writes an integer into a file that is there; never creates one.

    Raises:
        OSError: it cannot be written, or the kernel refuses the value.
    """
    file = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(file, b"%d" % value)
    finally:
        os.close(file)


def reason(error: OSError | ValueError) -> str:
    """Why a file could not be read or written, in words and without its name."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
