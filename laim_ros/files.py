"""Files of the user's: where they belong, and how they are written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from laim_ros.paths import PACKAGE


def user_folder(variable: str, usual: str) -> Path:
    """This package's folder among the user's files of one kind; it need not exist yet.

    Args:
        variable: of the XDG base directory specification, such as `XDG_CACHE_HOME`.
        usual: where that points in the home folder if it is not set, such as `.cache`.
    """
    base = Path(os.environ.get(variable, ""))
    if not base.is_absolute():  # not set, or to be ignored by the standard that defines it
        base = Path(os.path.expanduser("~")) / usual
    if not base.is_absolute():  # a user without a home
        base = Path(tempfile.gettempdir())
    return base / PACKAGE


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is whole or not there, whoever reads or writes it meanwhile: beside it first.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:  # also after an interrupt: nobody would ever remove what is left
        beside.unlink(missing_ok=True)
