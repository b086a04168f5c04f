"""`laim caption` on rendered scenes, with the model that ships, and without."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import pytest

from laim_ros.cli import main
from laim_ros.parameters import DEFAULT_MODEL
from laim_ros.scenes import render, sample_scene


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    from laim_ros.models.random_checkpoint import make_random_blip2

    return str(make_random_blip2(tmp_path_factory.mktemp("checkpoint") / "random"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    image = render(sample_scene(3, "held_out"), 120, 160).image
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def test_every_picture_has_a_line_and_every_question_an_answer(
    model: str, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["caption", str(picture), str(picture), "--model", model, "--max-new-tokens", "4"]
    assert main([*words, "--question", "what is it?", "--question", "how many?"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    form = rf"{re.escape(str(picture))}: .*  \[[\d,]+ bytes, robot \d+ ms, edge \d+ ms\]"
    assert re.fullmatch(form, lines[0])
    assert re.fullmatch(form, lines[3])
    assert lines[1].startswith("  what is it? ")
    assert lines[2].startswith("  how many? ")


def test_fewer_bits_are_fewer_bytes(model: str, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = []
    for plan in (["--feature-bits", "8"], ["--feature-bits", "2"], ["--split-point", "vit.1"]):
        assert main(["caption", str(picture), "--model", model, "--max-new-tokens", "2", *plan]) == 0
        sizes.append(int(re.search(r"\[([\d,]+) bytes", capsys.readouterr().out)[1].replace(",", "")))
    assert sizes[1] < sizes[0] < sizes[2]


def test_the_shipped_model_codes_a_frame_in_a_few_bytes_and_other_codecs_are_said(
    picture: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = []
    for codec in ([], ["--codec", "plain"]):
        assert main(["caption", str(picture), "--feature-bits", "2", *codec]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        sizes.append(int(re.search(r"\[([\d,]+) bytes", shown.out)[1].replace(",", "")))
    assert sizes[0] < 60 < sizes[1]
    assert main(["caption", str(picture), "--model", model, "--max-new-tokens", "2"]) == 0
    why = "codec auto: plain, because the model has no calibration of klt at 'qformer'"
    assert f"laim caption: {why}\n" in capsys.readouterr().err
    assert main(["caption", str(picture), "--model", model, "--codec", "klt"]) == 1
    assert "codec klt is not calibrated at 'qformer'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--weight-bits", "4"],
        ["--weight-bits", "16", "--split-point", "vit.1"],
        ["--weight-bits", "3", "--quantizer", "exponential", "--engine", "torch", "--prune", "heads:0.5"],
        ["--weight-bits", "8", "--split-point", "input"],
    ],
)
def test_the_head_may_have_other_weights(
    words: list[str], model: str, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", str(picture), "--model", model, "--max-new-tokens", "2", *words]) == 0
    assert "bytes, robot" in capsys.readouterr().out


def test_a_packed_head_needs_the_model_that_it_was_made_of(
    model: str, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    shutil.copytree(model, source)
    head = str(tmp_path / "head")
    assert main(["quantize", str(source), "--bits", "4", "--quantizer", "exponential", "--out", head]) == 0
    words = ["caption", str(picture), "--model", head, "--max-new-tokens", "2"]
    capsys.readouterr()
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert main([*words, "--weight-bits", "4", "--edge-model", model]) == 0
    assert _without_times(capsys.readouterr().out) == _without_times(shown)
    assert main([*words, "--weight-bits", "8"]) == 1
    assert "weights of 4 bits, not 8" in capsys.readouterr().err
    source.rename(tmp_path / "elsewhere")
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "quantized head" in error
    assert str(source) in error
    assert "--edge-model" in error
    assert error.count("\n") == 1
    assert main([*words, "--edge-model", str(tmp_path / "elsewhere")]) == 0
    assert main([*words, "--edge-model", DEFAULT_MODEL]) == 1
    assert "give both the same model" in capsys.readouterr().err


def _without_times(shown: str) -> str:
    return shown.partition(" bytes, robot")[0]


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--split-point", "output"], 2, "--split-point output sends nothing"),
        (["--split-point", "input", "--codec", "plain"], 2, "codec 'plain'"),
        (["--split-point", "vit.99"], 1, "vit.99"),
        (["--weight-bits", "9"], 2, "weight_bits 9"),
        (["--weight-bits", "4", "--prune", "limbs:1"], 1, "limbs"),
        (["--engine", "warp"], 2, "--engine"),
        (["--model", "no/such/folder/here"], 1, "no/such/folder/here"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], status: int, told: str, model: str, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", str(picture), "--model", model, *words]) == status
    shown = capsys.readouterr().err
    assert shown.startswith("laim caption: ")
    assert told in shown
    assert shown.count("\n") == 1


def test_a_file_that_is_missing_or_no_picture_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(tmp_path / "none.png")]) == 1
    assert "none.png: No such file" in capsys.readouterr().err
    for name, content in (("empty.png", b""), ("text.png", b"no picture")):
        (tmp_path / name).write_bytes(content)
        assert main(["caption", str(tmp_path / name)]) == 1
        assert f"{name}: no picture" in capsys.readouterr().err
