"""Unstructured pruning: which weights go, how many, and what it does to everything else."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.pruning import Pruning, prune_linear, prune_magnitude
from laim_ros.quantization.quantized_weight import QuantizedWeight
from laim_ros.quantization.weights import LinearWeights

matrices = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-4, 4, width=16)
)
shares = st.floats(0, 0.99)


@given(matrices, shares)
def test_the_smallest_go(array, share):
    weight = torch.from_numpy(array)
    before = weight.clone()
    pruned = prune_magnitude(weight, share)
    assert torch.equal(weight, before)
    kept = pruned != 0
    assert torch.equal(pruned[kept], weight[kept])
    gone = weight[~kept].abs()
    wanted = round(share * weight.numel())
    assert len(gone) == max(wanted, int((weight == 0).sum()))
    if len(gone) and kept.any():
        assert gone.max() <= weight[kept].abs().min()


def test_a_constant_tensor_does_not_vanish():
    assert int((prune_magnitude(torch.full((4, 6), -2.0), 0.25) == 0).sum()) == 6


def test_a_transposed_tensor():
    weight = torch.randn((5, 7), generator=torch.Generator().manual_seed(0))
    assert torch.equal(prune_magnitude(weight.t(), 0.4), prune_magnitude(weight, 0.4).t())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_refuses_what_is_not_finite(bad):
    weight = torch.ones(2, 3)
    weight[1, 2] = bad
    with pytest.raises(QuantizationError, match="NaN or infinite"):
        prune_magnitude(weight, 0.5)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_refuses_shares_out_of_range(share):
    with pytest.raises(QuantizationError, match="below 1"):
        prune_magnitude(torch.ones(2, 3), share)


def test_a_linear_layer_keeps_its_bias():
    linear = LinearWeights(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.1, 0.2]))
    pruned = prune_linear(linear, Pruning(magnitude=0.5, heads=0.5))
    assert pruned.weight.tolist() == [[0, 0], [3, 4]]
    assert pruned.bias is linear.bias
    assert prune_linear(linear, Pruning(heads=0.5)) is linear


def test_a_quantized_layer_is_refused():
    codes = torch.ones((2, 2), dtype=torch.int8)
    weight = QuantizedWeight.from_codes(codes, torch.ones(1, 1), 8, "uniform")
    with pytest.raises(QuantizationError, match="prune first, then quantize"):
        prune_linear(LinearWeights(weight, None), Pruning(magnitude=0.5))
