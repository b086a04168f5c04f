"""Where the package's data lies: checkpoints, launch files and configuration.

The same three folders, `checkpoints/`, `launch/` and `config/`, exist in every way to install the package:

- a source tree (also `pip install -e .`): next to the folder `laim_ros/`;
- pip: `PREFIX/share/laim_ros`, where PREFIX is the virtual environment;
- colcon: `install/laim_ros/share/laim_ros`, or `install/share/laim_ros` with `--merge-install`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PACKAGE = "laim_ros"
_MARKER = "package.xml"
"""Lies at the root of the source tree and, as ROS demands, in every installed share folder."""


class PathsError(FileNotFoundError):
    """The package's data is not where any way to install it puts it; the message lists the places."""


def share_directory() -> Path:
    """The folder that holds `checkpoints/`, `launch/` and `config/`.

    The place is derived from where this file lies: two installations never mix, and neither ROS nor a sourced workspace
    is needed.

    Raises:
        PathsError: no data beside this installation of the package.
    """
    candidates = list(_candidates(Path(__file__).resolve().parent))
    for folder in candidates:
        if (folder / _MARKER).is_file():
            return folder
    looked = ", ".join(str(folder) for folder in candidates)
    raise PathsError(f"the data of {PACKAGE} is missing (looked in {looked}); install the package again")


def checkpoints_directory() -> Path:
    """The folder of the models that ship, one folder per name."""
    return share_directory() / "checkpoints"


def _candidates(package: Path) -> Iterator[Path]:
    """Possible share folders for a package folder, the most specific first."""
    yield package.parent
    # Installed, the package lies in PREFIX/lib/python3.X/site-packages/laim_ros, in PREFIX/local/lib/... by Debian's
    # older setuptools, or right under the folder given to `pip install --target`.
    for prefix in package.parents[:5]:
        yield prefix / "share" / PACKAGE
