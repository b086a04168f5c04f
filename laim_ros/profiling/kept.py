"""Profiles that are kept from one start to the next: one file per machine and way to run a half of a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import cv2
import torch

from laim_ros import __version__
from laim_ros.coinference import EdgeHalf, RobotHalf
from laim_ros.files import write_whole
from laim_ros.models.identity import PACKED_FILE
from laim_ros.planning.errors import PlanningError
from laim_ros.planning.profiles import MachineProfile
from laim_ros.profiling.machine import machine_name


def file_of(half: RobotHalf | EdgeHalf, cache: Path) -> Path:
    """The file of this machine, its threads, the device, the versions, and how the half of the model was made."""
    model = half.model
    role = "robot" if isinstance(half, RobotHalf) else "edge"
    key = [machine_name(model.device), str(model.device), model.model_id, model.first, model.last, *_making(half)]
    versions = torch.__version__, cv2.__version__, __version__
    digest = hashlib.sha256(json.dumps([*key, *versions]).encode()).hexdigest()
    return cache / f"{role}-{model.model_id[:8]}-{digest[:16]}.json"


def read(path: Path, half: RobotHalf | EdgeHalf, stages: Iterable[str]) -> MachineProfile | None:
    """The profile in a file; None where there is none, or none of this model with just these stages."""
    try:
        profile = MachineProfile.read(path)
    except PlanningError:
        return None
    fits = (profile.model_id, profile.split_points) == (half.model.model_id, half.model.split_points)
    names = set(stages)
    return profile if fits and all(times.stage_s.keys() == names for times in profile.times) else None


def write(path: Path, profile: MachineProfile) -> None:
    """Writes a file at once: whoever reads it meanwhile, or starts at the same time, sees a whole one.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, profile.to_json())


def _making(half: RobotHalf | EdgeHalf) -> list[object]:
    """What makes halves of one checkpoint differ in time, beside stages and bit-width."""
    model = half.model
    choices = half.choices if isinstance(half, RobotHalf) else None
    if choices is None:
        return [str(model.dtype), model.engine, model.weight_bits, model.head_bytes]
    engine = choices.get("engine", "auto")
    with suppress(OSError):  # the same folder may be packed anew, from the same checkpoint
        packed = (Path(model.name).expanduser() / PACKED_FILE).read_bytes()
        return [engine, hashlib.sha256(packed).hexdigest()]
    return [engine, choices.get("quantizer", "auto"), choices.get("prune", "")]
