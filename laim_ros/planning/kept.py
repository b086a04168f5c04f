"""Profiles that the nodes of this machine have measured and kept; `laim_ros.profiling` writes them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from laim_ros.files import user_folder
from laim_ros.planning.errors import PlanningError
from laim_ros.planning.profiles import MachineProfile


def profile_cache() -> Path:
    """Where profiles are kept: `laim_ros/profiles` in $XDG_CACHE_HOME, or else in ~/.cache."""
    return user_folder("XDG_CACHE_HOME", ".cache") / "profiles"


def newest_kept(role: str, *, model: str = "", model_id: str = "", cache: Path | None = None) -> MachineProfile | None:
    """The profile that was written last, of a model by name or identity; None if there is none that can be read.

    Args:
        role: `robot` or `edge`.
        model: name that it was loaded by; "" for any.
        model_id: identity; "" for any.
        cache: folder; None for `profile_cache()`.
    """
    found: list[tuple[float, MachineProfile]] = []
    for path in (cache or profile_cache()).glob(f"{role}-*.json"):
        with contextlib.suppress(PlanningError, OSError):  # another version's, or gone meanwhile
            profile = MachineProfile.read(path)
            if model in ("", profile.model) and model_id in ("", profile.model_id):
                found.append((path.stat().st_mtime, profile))
    return max(found, key=lambda each: each[0])[1] if found else None
