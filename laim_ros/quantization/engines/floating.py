"""Engine `float`: the numbers that codes stand for, in floating point; what other engines are measured against."""

from __future__ import annotations

import torch

from laim_ros.quantization.engines.engine import Engine
from laim_ros.quantization.engines.layers import EngineLayer, FloatLinear
from laim_ros.quantization.weights import LinearWeights


class FloatEngine(Engine):
    """No error but that of the codes themselves, and neither memory nor time saved.

    Args:
        device: where it runs.
        dtype: to compute in.
    """

    name = "float"

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.device, self.attention_dtype = device, dtype

    @staticmethod
    def missing(_: torch.device) -> str:
        """Why this engine cannot run here: it always can."""
        return ""

    def linear(self, weights: LinearWeights, activation: str = "", dtype: torch.dtype = torch.float32) -> EngineLayer:
        """See `Engine`."""
        weight = weights.weight if isinstance(weights.weight, torch.Tensor) else weights.weight.dequantize()
        bias = None if weights.bias is None else weights.bias.to(self.device)
        return FloatLinear(weight.to(self.device, self.attention_dtype), bias, activation, dtype)
