"""Which table is found for a model, and what the one that ships says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laim_ros.models.identity import model_id
from laim_ros.models.source import find_source
from laim_ros.parameters import DEFAULT_MODEL
from laim_ros.paths import checkpoints_directory
from laim_ros.plan import Plan
from laim_ros.planning.errors import PlanningError
from laim_ros.planning.quality import QualityRow, QualityTable, find_quality, own_quality_path, plan_key, quality_path

ROW = QualityRow("qformer", 32, 8, "plain", 100.0, 120.0, 0.1, 0.9)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def shipped() -> QualityTable:
    table, told = find_quality(DEFAULT_MODEL, model_id(find_source(DEFAULT_MODEL)))
    assert told == "quality as measured on 1000 frames (held-out scenes)"
    return table


def written(path: Path, identity: str, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(QualityTable("model", identity, 10, source, "uniform", (ROW,)).to_json())


def test_the_nearest_table_of_the_same_model_is_found(tmp_path: Path) -> None:
    folder, identity = tmp_path / "model", model_id(find_source(DEFAULT_MODEL))
    written(folder / "quality.json", identity, "the folder's")
    assert find_quality(str(folder), identity)[1] == "quality as measured on 10 frames (the folder's)"
    written(own_quality_path(identity), identity, "one's own")
    assert find_quality(str(folder), identity)[0].source == "the folder's"
    # Who may not write beside a shipped model measures for himself all the same.
    assert find_quality(DEFAULT_MODEL, identity)[0].source == "one's own"
    written(folder / "quality.json", "0" * 32, "another model's")
    assert find_quality(str(folder), identity)[0].source == "one's own"
    table, told = find_quality(str(folder), "1" * 32)
    assert table is None
    assert "measured with another model (00000000" in told
    assert f"laim calibrate --model {folder}" in told


def test_a_new_table_goes_where_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quality_path(tmp_path, "ab") == tmp_path / "quality.json"
    assert quality_path(None, "ab") == tmp_path / "home" / "laim_ros" / "quality" / "ab.json"
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    assert quality_path(tmp_path, "ab") == own_quality_path("ab")


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "quality.json"
    written(path, "ab", "noise")
    path.write_text(path.read_text().replace('"same_share":0.9', '"same_share":1.9'))
    with pytest.raises(PlanningError, match=r"quality.json: .*same_share.*laim calibrate"):
        QualityTable.read(path)


def test_the_shipped_table_agrees_with_the_models_scores(shipped: QualityTable) -> None:
    """Those come from transformers alone (training/evaluate_mini_blip2.py)."""
    scores = json.loads((checkpoints_directory() / DEFAULT_MODEL / "scores.json").read_text())["captions"]
    assert shipped.frames == scores["scenes"]
    assert shipped.float_true_share == pytest.approx(scores["true_and_complete"], abs=0.002)
    assert shipped.float_cider_d == pytest.approx(scores["cider_d"], abs=0.01)
    assert (shipped.quantizer, shipped.prune) == ("uniform", "")


def test_the_shipped_table_knows_the_plans_that_robots_begin_with(shipped: QualityTable) -> None:
    rows = shipped.index()
    assert len(rows) == len(shipped.rows)
    for plan in (Plan(codec="klt"), Plan("qformer", 4, 4, "klt"), Plan("input", codec="jpeg90"), Plan("output", 8)):
        assert rows[plan_key(plan)].loss < 0.05, plan
    assert rows[plan_key(Plan("output", 32))].distortion == 0
    assert rows[plan_key(Plan("output", 2))].loss > 0.1
    sizes = [rows[plan_key(Plan("qformer", 8, bits, "klt"))].packet_bytes for bits in (1, 2, 3, 4, 6, 8)]
    assert sizes == sorted(sizes)
