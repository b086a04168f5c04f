"""Rows of a table that is being measured survive whatever ends the run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from laim_ros.evaluation.errors import EvaluationError
from laim_ros.evaluation.part_file import PartFile, Settings, kept_calibrations
from laim_ros.files import write_whole
from laim_ros.plan import Plan
from laim_ros.planning.quality import QualityRow

SETTINGS = Settings("ab12", "torch", "uniform", "", 10, "noise", "cd34", {"qformer": "ef56"}, True, "1.0")
ROWS = [QualityRow("qformer", bits, 8, "plain", 100.0 + bits, 120.0, 0.1, 0.9, 0.8, 4.0) for bits in (2, 4, 8)]


def filled(path: Path) -> Path:
    with PartFile(path, SETTINGS) as part:
        for row in ROWS:
            part.add(row)
    return path


def test_rows_are_kept_from_run_to_run(tmp_path: Path) -> None:
    path = filled(tmp_path / "table.part")
    with PartFile(path, SETTINGS) as part:
        assert part.rows == ROWS
        assert part.row(Plan("qformer", 4, 8)) == ROWS[1]
        assert part.row(Plan("qformer", 4, 6)) is None
        part.remove()
    assert not path.exists()


def test_a_file_cut_off_anywhere_keeps_its_whole_rows(tmp_path: Path) -> None:
    content = filled(tmp_path / "table.part").read_bytes()
    ends = [position for position, byte in enumerate(content) if byte == ord("\n")]
    for cut in (0, 5, ends[0], ends[0] + 1, ends[1] + 1, ends[2] - 1, ends[2], ends[3], ends[3] + 1):
        path = tmp_path / f"cut{cut}.part"
        path.write_bytes(content[:cut])
        whole = max(0, content[:cut].count(b"\n") - 1)
        with PartFile(path, SETTINGS) as part:
            assert part.rows == ROWS[:whole], cut
            part.add(ROWS[2])
        with PartFile(path, SETTINGS) as part:
            assert part.rows == [*ROWS[: min(whole, 2)], ROWS[2]]


@pytest.mark.parametrize(
    "change",
    [{"frames": 11}, {"pixels": "ee"}, {"quantizer": "exponential"}, {"model_id": "0"}, {"calibrations": {}}],
    ids=lambda change: next(iter(change)),
)
def test_rows_of_other_settings_are_neither_mixed_in_nor_lost(tmp_path: Path, change: dict) -> None:
    path = filled(tmp_path / "table.part")
    (name,) = change
    with pytest.raises(EvaluationError, match=rf"holds 3 rows of a run with {name} .*repeat that run.*or remove"):
        PartFile(path, msgspec.structs.replace(SETTINGS, **change))
    with PartFile(path, SETTINGS) as part:
        assert part.rows == ROWS


def test_what_rows_were_coded_by_is_told_without_opening_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.part"
    assert kept_calibrations(path) == {}
    with PartFile(path, SETTINGS) as part:
        assert kept_calibrations(path) == {}
        part.add(ROWS[0])
        assert kept_calibrations(path) == {"qformer": "ef56"}
    path.write_bytes(b"hello\nworld\n")
    assert kept_calibrations(path) == {}


def test_a_run_that_measured_nothing_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.part"
    with PartFile(path, SETTINGS):
        assert path.exists()
    assert not path.exists()
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(SETTINGS, frames=7)) + b"\n")
    with PartFile(path, SETTINGS) as part:  # that one was killed, but has no row that could be lost
        assert part.rows == []


@pytest.mark.parametrize("content", [b"hello\n", b'{"model_id":"ab12"}\n', b'{"a":1}\n{"b":2}\n', b"\xff\xfe\n\n"])
def test_other_files_are_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.part"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"no unfinished table of `laim calibrate`.*remove it"):
        PartFile(path, SETTINGS)
    assert path.read_bytes() == content


def test_two_runs_do_not_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "table.part"
    with PartFile(path, SETTINGS) as part:
        part.add(ROWS[0])
        with pytest.raises(EvaluationError, match="another run is writing this file"):
            PartFile(path, SETTINGS)
        part.add(ROWS[1])
    with PartFile(path, SETTINGS) as part:
        assert part.rows == ROWS[:2]


def test_a_table_is_whole_or_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.json"
    write_whole(path, "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
