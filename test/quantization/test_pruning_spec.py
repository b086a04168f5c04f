"""How pruning is asked for: grammar, refusals, and which quantizers keep a zero."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning import Pruning, prune_magnitude
from laim_ros.quantization.quantize import QUANTIZER_NAMES, quantize

shares = st.floats(0, 1, exclude_max=True)


@given(st.builds(Pruning, shares, shares, shares, st.integers(0, 100)))
def test_text_and_back(pruning):
    assert Pruning.parse(str(pruning)) == pruning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Pruning()),
        (" ", Pruning()),
        ("magnitude:0.5", Pruning(magnitude=0.5)),
        ("heads:0.25, neurons:.3,", Pruning(heads=0.25, neurons=0.3)),
        ("blocks:2,magnitude : 0", Pruning(blocks=2)),
    ],
)
def test_reads(text, expected):
    assert Pruning.parse(text) == expected
    assert bool(expected) == (text.strip() != "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth:2", "the kinds are magnitude, heads, neurons, blocks"),
        ("0.5", "the kinds are"),
        ("heads", "is no number"),
        ("heads:half", "'half' is no number; write for instance"),
        ("heads:1", "at least 0 and below 1"),
        ("neurons:-0.1", "at least 0 and below 1"),
        ("magnitude:nan", "at least 0 and below 1"),
        ("magnitude:25", "at least 0 and below 1"),
        ("blocks:1.5", "how many whole blocks"),
        ("blocks:inf", "how many whole blocks"),
        ("blocks:-1", "0 or more"),
        ("heads:0.1,heads:0.2", "names heads twice"),
        ("__init__:1", "the kinds are"),
    ],
)
def test_refuses(text, message):
    with pytest.raises(QuantizationError, match=message):
        Pruning.parse(text)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("quantizer", QUANTIZER_NAMES)
def test_zeros_survive_exactly_where_they_are_allowed(quantizer, bits):
    weight = torch.randn((8, 64), generator=torch.Generator().manual_seed(bits))
    pruned = prune_magnitude(weight, 0.5)
    back = quantize(pruned, bits, quantizer).dequantize()
    survive = bool((back[pruned == 0] == 0).all())
    pruning = Pruning(magnitude=0.5)
    if survive:
        pruning.require_kept_by(quantizer, bits)
    else:
        with pytest.raises(QuantizationError, match="no level at zero"):
            pruning.require_kept_by(quantizer, bits)
    Pruning(heads=0.5, neurons=0.5, blocks=1).require_kept_by(quantizer, bits)


@pytest.mark.parametrize("bits", [16, 32])
def test_floats_hold_every_zero(bits):
    Pruning(magnitude=0.5).require_kept_by("exponential", bits)
