"""`laim quantize`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from laim_ros.cli import main
from laim_ros.models.random_checkpoint import make_random_blip2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_blip2(tmp_path_factory.mktemp("checkpoint") / "random")


def test_it_says_what_it_promises_and_what_it_wrote(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "head"
    assert main(["quantize", str(model), "--bits", "3", "--quantizer", "exponential", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r".*random: [\d.]+ M weights in 28 linear layers at 3 bits, exponential per channel", lines[0])
    promised = re.fullmatch(
        r"promised ([\d.]+) MB: weights [\d.]+, scales [\d.]+, unquantized [\d.]+, names [\d.]+", lines[1]
    )
    written = re.match(r"written  ([\d.]+) MB \(\+?-?\d\.\d\d %\), \d+\.\d\d bits per weight in all, to ", lines[2])
    assert float(written[1]) == pytest.approx((out / "model.safetensors").stat().st_size / 1e6, abs=1e-3)
    assert float(written[1]) == pytest.approx(float(promised[1]), rel=0.03)
    assert re.fullmatch(r"relative error of the weights 1\d\.\d\d %", lines[3])
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "quantization.json",
    }


def test_eight_bits_by_default_with_all_fewer_ones(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", str(model), "--out", str(tmp_path / "head")]) == 0
    assert "scales with those of 1 to 7 bits" in capsys.readouterr().out


def test_the_report_is_a_picture(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    report = tmp_path / "new" / "report.png"
    words = ["--bits", "4", "--quantizer", "exponential", "--out", str(tmp_path / "head"), "--report", str(report)]
    assert main(["quantize", str(model), *words]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report in {report}"
    picture = cv2.imread(str(report))
    assert picture.shape[1] > 1000
    assert picture.std() > 20


def test_pictures_for_pruning_are_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "head"
    pictures.mkdir()
    for number in range(3):
        assert cv2.imwrite(str(pictures / f"{number}.png"), np.full((8, 8, 3), 80 * number, np.uint8))
    (pictures / "torn.png").write_bytes(b"")
    words = ["--prune", "heads:0.25,neurons:0.25,blocks:1", "--pictures", str(pictures), "--out", str(out)]
    assert main(["quantize", str(model), *words]) == 0
    shown = capsys.readouterr()
    assert ", pruned by heads:0.25,neurons:0.25,blocks:1 with 3 pictures of pictures\n" in shown.out
    assert shown.err == f"laim quantize: picture '{pictures / 'torn.png'}' is skipped: it cannot be read\n"
    assert json.loads((out / "quantization.json").read_text())["calibration"] == "3 pictures of pictures"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--quantizer", "cubic"], "quantizer 'cubic' must be one of uniform"),
        (["--granularity", "row"], "granularity 'row'"),
        (["--granularity", "group:7"], "groups of 7 do not divide"),
        (["--prune", "heads:0.5,magnitude:0.5", "--bits", "1"], "no level at zero"),
        (["--prune", "blocks:3"], "the vision tower has 3 blocks"),
    ],
)
def test_wrong_choices_are_told_before_any_picture_is_looked_at(
    words: list[str], told: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a picture that cannot be read: looking at it would be told."""
    (tmp_path / "torn.png").write_bytes(b"")
    words = ["--prune", "heads:0.5", "--pictures", str(tmp_path), "--out", str(tmp_path / "head"), *words]
    assert main(["quantize", str(model), *words]) == 1
    shown = capsys.readouterr().err
    assert told in shown
    assert "torn.png" not in shown


def test_a_packed_head_is_refused_before_any_picture_is_looked_at(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = tmp_path / "head"
    assert main(["quantize", str(model), "--bits", "2", "--out", str(head)]) == 0
    words = ["--prune", "heads:0.5", "--pictures", "no/such", "--out", str(tmp_path / "again")]
    assert main(["quantize", str(head), *words]) == 1
    assert "is packed already" in capsys.readouterr().err


def test_a_report_that_fails_leaves_the_head_and_says_so(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    report, head = tmp_path / "taken.png", tmp_path / "head"
    report.mkdir()
    assert main(["quantize", str(model), "--bits", "4", "--out", str(head), "--report", str(report)]) == 1
    told = f"laim quantize: {head} is complete, but its report failed: {report} cannot be written"
    assert capsys.readouterr().err.startswith(told)
    assert main(["models", str(head)]) == 0


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--bits", "9"], 2, "--bits"),
        (["--bits", "0"], 2, "--bits"),
        (["--quantizer", "cubic"], 1, "quantizer 'cubic' must be one of uniform"),
        (["--granularity", "row"], 1, "granularity 'row'"),
        (["--granularity", "group:7"], 1, "groups of 7 do not divide"),
        (["--prune", "half"], 1, "prune 'half'"),
        (["--prune", "magnitude:0.5", "--quantizer", "exponential"], 1, "no level at zero"),
        (["--report", "report.jpg"], 2, "give a name that ends in .png"),
        (["--pictures", "scenes:4"], 2, "pictures serve to prune heads, neurons or blocks; add for instance --prune"),
        (["--pictures", "scenes:4", "--prune", "magnitude:0.5"], 2, "pictures serve to prune heads, neurons or blocks"),
        (["--pictures", "scenes:none", "--prune", "blocks:1"], 1, "'none' is no number of scenes"),
        (["--pictures", "no/such", "--prune", "heads:0.5"], 1, "pictures 'no/such': there is no such folder"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    words: list[str], status: int, told: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", str(model), "--out", str(tmp_path / "head"), *words]) == status
    shown = capsys.readouterr().err
    assert shown.startswith("laim quantize: ")
    assert told in shown
    assert shown.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_there_and_a_folder_that_is(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", "no/such/folder/here", "--out", str(tmp_path / "head")]) == 1
    assert "no/such/folder/here" in capsys.readouterr().err
    taken = shutil.copytree(model, tmp_path / "taken")
    assert main(["quantize", str(model), "--out", str(taken)]) == 1
    assert "exists already and is not empty" in capsys.readouterr().err
    assert main(["quantize", str(model)]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_folder_is_remembered_by_its_whole_path(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert main(["quantize", "random", "--bits", "2", "--out", str(tmp_path / "head")]) == 0
    assert json.loads((tmp_path / "head" / "quantization.json").read_text())["model"] == str(model)


def test_a_packed_head_is_not_packed_again(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = tmp_path / "head"
    assert main(["quantize", str(model), "--bits", "2", "--out", str(head)]) == 0
    assert main(["quantize", str(head), "--out", str(tmp_path / "again")]) == 1
    assert f"is packed already; give the model that it was made of: '{model}'" in capsys.readouterr().err
