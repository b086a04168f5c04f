"""`PartFile`: rows of a table that is being measured, kept one by one, so that an interrupted run can go on."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from laim_ros.evaluation.errors import EvaluationError
from laim_ros.plan import Plan
from laim_ros.planning.quality import QualityRow, plan_key

_MOST_BYTES = 10_000_000
_Line = TypeVar("_Line", bound=msgspec.Struct)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What rows depend on besides their plans: rows measured under others do not belong into one table.

    Attributes:
        model_id: of the model.
        engine, quantizer, prune: with which its heads are made.
        frames: how many are looked at.
        source: what they are, for people.
        pixels: hash of what is looked at.
        calibrations: hashes of the feature codec's calibrations that are used, by split point.
        has_cider: whether CIDEr-D could be computed.
        release: of laim_ros.
    """

    model_id: str
    engine: str
    quantizer: str
    prune: str
    frames: int
    source: str
    pixels: str
    calibrations: dict[str, str]
    has_cider: bool
    release: str


def kept_calibrations(path: Path) -> dict[str, str]:
    """Hashes of the codec's calibrations that an interrupted run's rows were measured with; empty without rows."""
    try:
        with path.open("rb") as file:
            first, second = file.readline(_MOST_BYTES), file.readline(_MOST_BYTES)
        return msgspec.json.decode(first, type=Settings).calibrations if second.endswith(b"\n") else {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


class PartFile:
    """A line with the settings, then a line of JSON per row. It may be cut off anywhere: whole lines count.

    Use as a context manager; what has been added stays, until `remove`.

    Args:
        path: of the file; made, or gone on with.
        settings: of this run.

    Attributes:
        path: of the file.

    Raises:
        EvaluationError: the file was begun with other settings or is none of ours, or another run is writing it.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        self._file: BinaryIO = path.open("a+b")
        try:
            self._by_key = {row.key: row for row in self._begun(settings)}
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.rows:
            self.remove()
        self._file.close()

    def row(self, plan: Plan) -> QualityRow | None:
        """What was measured of this plan."""
        return self._by_key.get(plan_key(plan))

    @property
    def rows(self) -> list[QualityRow]:
        """All of them, those of earlier runs first."""
        return list(self._by_key.values())

    def add(self, row: QualityRow) -> None:
        """Keeps a row; when this returns it is on the disk."""
        self._write(msgspec.json.encode(row))
        self._by_key[row.key] = row

    def remove(self) -> None:
        """The file is no longer needed."""
        self.path.unlink(missing_ok=True)

    def _begun(self, settings: Settings) -> list[QualityRow]:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EvaluationError(
                f"{self.path}: another run is writing this file; wait for it, or name another --out"
            ) from None
        if self.path.stat().st_size > _MOST_BYTES:
            raise self._foreign(f"larger than {_MOST_BYTES} bytes")
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        first, *lines = whole.splitlines() or (b"",)
        before = self._decoded(first, Settings) if first else settings
        rows = [self._decoded(line, QualityRow) for line in lines]
        if not rows:
            self._file.truncate(0)
            self._write(msgspec.json.encode(settings))
            return []
        for name in Settings.__struct_fields__:
            old, new = getattr(before, name), getattr(settings, name)
            if old != new:
                raise EvaluationError(
                    f"{self.path} holds {len(rows)} rows of a run with {name} {old!r}, this one has {new!r}: repeat "
                    "that run to go on with it, or remove the file"
                )
        self._file.truncate(len(whole))  # without the line that was being written when the run was killed
        return rows

    def _decoded(self, line: bytes, kind: type[_Line]) -> _Line:
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._foreign(str(error)) from None

    def _write(self, line: bytes) -> None:
        self._file.write(line + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _foreign(self, why: str) -> EvaluationError:
        return EvaluationError(f"{self.path} is no unfinished table of `laim calibrate` ({why}); remove it")
