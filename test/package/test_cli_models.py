"""`laim models`: what each split point sends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from laim_ros.cli import main


def test_split_points_come_with_shapes_and_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from laim_ros.models import load
    from laim_ros.models.random_checkpoint import make_random_blip2

    folder = str(make_random_blip2(tmp_path / "random"))
    assert main(["models", folder]) == 0
    shown = capsys.readouterr().out
    model = load(folder)
    assert model.model_id in shown
    assert f"up to qformer takes {model.head_bytes / 1e6:.1f} MB" in shown
    for point in model.split_points[:-1]:
        shape = model.boundary_shape(point)
        (line,) = [line for line in shown.splitlines() if line.startswith(f"  {point} ")]
        assert " x ".join(map(str, shape)) in line
    queries, width = model.boundary_shape("qformer")
    assert f"{queries * width:,}" in shown
    assert "no codec calibration" in shown
    assert "klt, " not in shown


def test_what_codec_klt_makes_of_features_is_told_where_it_is_calibrated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "laim-mini-blip2"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"codec klt as calibrated in \S+codec.safetensors for .*qformer", shown)
    (line,) = [line for line in shown.splitlines() if line.startswith("  qformer ")]
    one, two, four, eight = (float(figure.replace(",", "")) for figure in line.split()[-4:])
    assert 0 < one < two < 24 < four < eight < 300


def test_a_packed_head_says_what_it_is_made_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from laim_ros.models import load
    from laim_ros.models.random_checkpoint import make_random_blip2

    folder, head = str(make_random_blip2(tmp_path / "random")), str(tmp_path / "head")
    assert (
        main(["quantize", folder, "--bits", "4", "--quantizer", "exponential", "--prune", "heads:0.5", "--out", head])
        == 0
    )
    capsys.readouterr()
    assert main(["models", head]) == 0
    shown = capsys.readouterr().out
    model = load(folder)
    for expected in (folder, model.model_id, "4 bits per weight, exponential per channel", "heads:0.5", "MB of file"):
        assert expected in shown
    for point in model.split_points:
        assert f"\n  {point} " in shown


@pytest.mark.parametrize(
    ("bits", "quantizer", "lower"),
    [(4, "uniform", ""), (8, "uniform", " and every lower width"), (8, "exponential", "")],
)
def test_lower_widths_are_told_where_a_packed_head_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bits: int, quantizer: str, lower: str
) -> None:
    from laim_ros.models.random_checkpoint import make_random_blip2

    folder, head = str(make_random_blip2(tmp_path / "random")), str(tmp_path / "head")
    assert main(["quantize", folder, "--bits", str(bits), "--quantizer", quantizer, "--out", head]) == 0
    capsys.readouterr()
    assert main(["models", head]) == 0
    assert f"  {bits} bits per weight{lower}, {quantizer} per channel\n" in capsys.readouterr().out


def test_a_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "no/such/folder/here"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("laim models: ")
    assert shown.count("\n") == 1
