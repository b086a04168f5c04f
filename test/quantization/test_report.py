"""The report: figures that the theory knows, and a picture that is drawn for every kind of head."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import cv2
import pytest
import torch

from laim_ros.models.source import find_source
from laim_ros.quantization import report
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.quantize import quantize
from laim_ros.quantization.storage.manifest import Manifest
from laim_ros.quantization.storage.write import Packing
from laim_ros.quantization.survey import LayerSample, Survey


@pytest.fixture(scope="module")
def exponential() -> list[LayerSample]:
    """Magnitudes that are exponential, with another mean in every row."""
    generator = torch.Generator().manual_seed(3)
    size = torch.rand(48, 1, generator=generator) + 0.1
    rows = torch.empty(48, 4096).exponential_(generator=generator) * size
    rows *= torch.randint(0, 2, rows.shape, generator=generator) * 2 - 1
    return [LayerSample(half, float(half.abs().mean())) for half in rows.split(24)]


def manifest(bits: int, quantizer: str, granularity: str = "channel") -> Manifest:
    return Packing(find_source("laim-mini-blip2"), bits, quantizer, granularity).manifest


@pytest.mark.parametrize("bits", range(1, 9))
def test_exponential_weights_cost_what_the_theory_says(exponential: list[LayerSample], bits: int) -> None:
    expected = math.log(1 + 1 / (1 << (bits - 1)))
    assert report.measured_distortion(exponential, "exponential", "channel", bits) == pytest.approx(expected, rel=0.02)


def test_magnitudes_are_in_units_of_their_own_mean(exponential: list[LayerSample]) -> None:
    for granularity in ("channel", "group:512", "tensor"):
        magnitudes = report.normalised_magnitudes(exponential, granularity)
        assert float(magnitudes.mean()) == pytest.approx(1, rel=1e-3)
    assert float(report.normalised_magnitudes(exponential, "channel").std()) == pytest.approx(1, rel=0.03)
    assert float(report.normalised_magnitudes(exponential, "tensor").std()) > 1.1


@pytest.mark.parametrize("bits", [1, 3])
def test_levels_are_those_of_the_closed_form(exponential: list[LayerSample], bits: int) -> None:
    count = 1 << (bits - 1)
    expected = [math.log(count * (count + 1) / (count - k) ** 2) for k in range(count)]
    assert report.typical_levels(exponential, manifest(bits, "exponential")) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("bits", [1, 4])
def test_uniform_levels_have_equal_steps(exponential: list[LayerSample], bits: int) -> None:
    levels = report.typical_levels(exponential, manifest(bits, "uniform"))
    steps = {round(above - below, 5) for below, above in itertools.pairwise(levels)}
    assert len(levels) == {1: 1, 4: 8}[bits]
    assert len(steps) == {1: 0, 4: 1}[bits]


@pytest.mark.parametrize("bits", range(1, 9))
def test_uniform_levels_are_those_that_codes_reach(bits: int) -> None:
    """Weights of every magnitude, quantized, end at each of the report's levels and at no other."""
    rows = torch.linspace(0.0, 4.0, 20_000)[None]
    reached = quantize(rows, bits, "uniform").dequantize().unique()
    levels = report.typical_levels([LayerSample(rows, float(rows.mean()))], manifest(bits, "uniform"))
    assert torch.tensor(levels) * rows.mean() == pytest.approx(reached, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("bits", "quantizer", "granularity"),
    [(1, "uniform", "channel"), (4, "power_of_two", "tensor"), (8, "uniform_l1", "group:128")],
)
def test_a_picture_is_drawn(
    exponential: list[LayerSample], tmp_path: Path, bits: int, quantizer: str, granularity: str
) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "report.png"
    report.draw_report(exponential, manifest(bits, quantizer, granularity), path)
    assert cv2.imread(str(path)).std() > 20


def test_a_head_of_zeros_has_nothing_to_report() -> None:
    with pytest.raises(QuantizationError, match="all weights of the head are zero"):
        report.normalised_magnitudes([LayerSample(torch.zeros(4, 8), 0.0)], "channel")


def test_without_matplotlib_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(QuantizationError, match="pip install matplotlib"):
        report.require_matplotlib()


def test_the_survey_sums_all_layers_and_keeps_whole_rows() -> None:
    survey, error, magnitude = Survey(sampled=True), 0.0, 0.0
    for seed in range(3):
        weight = torch.randn(100 + seed, 64, generator=torch.Generator().manual_seed(seed))
        quantized = quantize(weight, 3, "uniform")
        survey(f"layer{seed}", weight, quantized)
        error += float((quantized.dequantize() - weight).double().abs().sum())
        magnitude += float(weight.double().abs().sum())
    assert survey.relative_error == pytest.approx(error / magnitude, rel=1e-5)
    assert len(survey.samples) == 3
    assert survey.samples[2].rows.shape[1] == 64
    assert torch.equal(survey.samples[2].rows[0], weight[0])


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group:16"])
def test_the_survey_of_a_large_layer_is_close_to_the_whole(granularity: str) -> None:
    weight = torch.randn(5000, 64, generator=torch.Generator().manual_seed(1))
    quantized = quantize(weight, 4, "exponential", granularity)
    survey = Survey()
    survey("layer", weight, quantized)
    expected = float((quantized.dequantize() - weight).abs().sum() / weight.abs().sum())
    assert survey.relative_error == pytest.approx(expected, rel=0.02)
