"""Static models of quantized coefficients."""

import numpy as np
import pytest
from scipy import integrate
from scipy.stats import gennorm

from laim_ros.codec import probabilities
from laim_ros.codec.probabilities import (
    BUCKETS,
    CLASSES,
    ESCAPE_BITS,
    HIGHEST_RATIO,
    LOWEST_RATIO,
    MAX_MAGNITUDE,
    RATIOS,
    SHAPES,
    TOTAL,
    bucket_edges,
    class_indices,
    cost_bits,
    quantize,
    rebuild,
    tables,
    tables_digest,
)


def distribution(model):
    """|y|/Δ of a class, by scipy."""
    shape, ratio = SHAPES[model // RATIOS], 2.0 ** ((model % RATIOS + LOWEST_RATIO) / 4)
    return gennorm(shape, scale=ratio / gennorm(shape).std())


def test_the_tables_are_those_that_calibrations_name():
    # Another digest makes every calibration and every packet in flight unreadable: then raise the wire's version too.
    assert tables_digest() == "2486f3bb2626a23b"


def test_the_digest_names_every_table(monkeypatch):
    before = tables_digest()
    tables_digest.cache_clear()
    changed = tables().frequencies.copy()
    changed[7, :2] += (-1, 1)
    fields = {name: getattr(tables(), name) for name in probabilities.Tables.__slots__}
    monkeypatch.setattr(probabilities, "tables", lambda: probabilities.Tables(**{**fields, "frequencies": changed}))
    after = tables_digest()
    tables_digest.cache_clear()
    assert after != before


@pytest.mark.parametrize("model", range(0, CLASSES, 7))
def test_frequencies_are_the_distributions(model):
    edges = np.concatenate(([0], bucket_edges()[1:] - 1 / 3))
    tail = 2 * distribution(model).sf(edges)
    masses = tail[:-1] - tail[1:]
    frequencies = tables().frequencies[model]
    assert frequencies.sum() == TOTAL
    assert frequencies[-1] >= 1
    listed = frequencies[:BUCKETS] > 0
    assert listed[:2].all()
    assert not listed[masses < 2.0**-15.01][2:].any()
    assert listed[masses > 2.0**-14.99].all()
    away = np.abs(frequencies[:BUCKETS] - masses * TOTAL)[listed]
    # All but the most frequent, which takes what rounding leaves, are within a half, or 1 where that is more.
    assert np.sort(away)[:-1].max() <= 1
    assert away.max() <= 24
    # What the tables lose against the distribution itself, in bits per level.
    coded = np.where(listed, frequencies[:BUCKETS], frequencies[-1]) / TOTAL
    shares = np.where(listed, masses, 0)
    escapes = masses[~listed].sum()
    loss = (shares * np.log2(np.maximum(shares, 1e-300) / coded)).sum()
    loss += escapes * np.log2(max(escapes, 1e-300) / coded[~listed].max(initial=1e-300))
    assert loss < 3e-4


_REBUILT = [
    (24, 1),
    (RATIOS + 38, 1),
    (RATIOS + 38, 3),
    (RATIOS + 40, 10),
    (2 * RATIOS + 32, -5),
    (5 * RATIOS - 1, 300),
]


@pytest.mark.parametrize(("model", "level"), _REBUILT)
def test_levels_are_rebuilt_at_their_intervals_mean(model, level):
    rebuilt = float(rebuild(np.array([level], np.int32), np.array([model], np.uint16))[0])
    low = abs(level) - 1 / 3
    pdf = distribution(model).pdf
    mass = integrate.quad(pdf, low, low + 1)[0]
    assert abs(rebuilt) == pytest.approx(integrate.quad(lambda x: x * pdf(x), low, low + 1)[0] / mass, abs=2e-3)
    assert np.sign(rebuilt) == np.sign(level)


def test_rebuilt_coefficients_lie_in_their_own_interval():
    classes = np.repeat(np.arange(CLASSES, dtype=np.uint16), 7)
    levels = np.tile(np.array([0, 1, -1, 15, 16, -1000, MAX_MAGNITUDE], np.int32), CLASSES)
    rebuilt = rebuild(levels, classes)
    assert rebuilt.dtype == np.float32
    assert np.array_equal(quantize(rebuilt), levels)
    assert not rebuilt[levels == 0].any()


def test_the_quantizer_has_a_dead_zone_of_two_thirds():
    scaled = np.array([0.66, -0.66, 0.67, -0.67, 1.66, 1.67, -2.5, 1e30], np.float32)
    assert quantize(scaled).tolist() == [0, 0, 1, -1, 1, 2, -2, MAX_MAGNITUDE]


def test_classes_are_sigma_over_step_in_quarter_octaves():
    scales, step = np.arange(-128, 128, dtype=np.int8), 13
    classes = class_indices(scales, np.full(256, 3, np.uint8), step)
    quarters = np.floor(4 * (scales / 4 - step / 8) + 0.5)
    assert classes.dtype == np.uint16
    assert np.array_equal(classes, 3 * RATIOS + np.clip(quarters, LOWEST_RATIO, HIGHEST_RATIO) - LOWEST_RATIO)
    with pytest.raises(IndexError, match="0 … 4"):
        class_indices(scales[:2], np.array([0, 5], np.uint8), step)


def test_costs_count_every_bit():
    model = RATIOS + 24  # Laplace, σ = Δ
    frequencies = tables().frequencies[model]
    highest = int(np.flatnonzero(frequencies[:BUCKETS])[-1])
    escape = 14 - np.log2(frequencies[-1]) + ESCAPE_BITS + 1
    wide = RATIOS + 52
    wanted = {
        (model, 0): 14 - np.log2(frequencies[0]),
        (model, -1): 14 - np.log2(frequencies[1]) + 1,
        (model, highest + 1): escape,
        (model, 1000): escape + 7,  # 896 … 1023
        (wide, 100): 14 - np.log2(tables().frequencies[wide, 16 + 2 * 4 + 2]) + 1 + 4,  # 96 … 111
    }
    classes, levels = (np.array(column) for column in zip(*wanted, strict=True))
    costs = cost_bits(levels.astype(np.int32), classes.astype(np.uint16))
    assert costs == pytest.approx(list(wanted.values()), rel=1e-6)
