"""Files of the user's: where they belong, and how they are written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from laim_ros.paths import PACKAGE, PathsError, checkpoints_directory


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


def beside_model(folder: Path | None, name: str, own: Path) -> Path:
    """Where a new file about a model goes: into its folder, or where that cannot be written to the user's own.

    Args:
        folder: of the model; None for one from the hub.
        name: of the file in that folder.
        own: the user's own file about this model.
    """
    return folder / name if folder is not None and os.access(folder, os.W_OK) else own


def about_model(model: str, name: str, own: Path) -> list[Path]:
    """The files of one kind about a model that exist: in its folder, the user's own, among the shipped ones.

    What somebody made for a shipped model that lies where only root may write comes before what shipped with it.

    Args:
        model: shipped name, local folder or hub id.
        name: of the file in the model's folder.
        own: the user's own file about this model.
    """
    places = [Path(model).expanduser() / name, own]
    with contextlib.suppress(PathsError):
        places.append(checkpoints_directory() / model / name)
    return [place for place in dict.fromkeys(places) if place.is_file()]


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is whole or not there, whoever reads or writes it meanwhile: beside it first.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
        beside.replace(path)
    finally:  # also after an interrupt: nobody would ever remove what is left
        beside.unlink(missing_ok=True)
