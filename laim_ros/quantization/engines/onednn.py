"""Engine `onednn`: int8 by int8 products with oneDNN's kernels, which come with PyTorch on x86; one byte per weight."""

from __future__ import annotations

import torch

from laim_ros.quantization.engines.activations import to_uint8
from laim_ros.quantization.engines.engine import Engine
from laim_ros.quantization.engines.int8_grid import to_int8
from laim_ros.quantization.engines.layers import EngineLayer, FloatLinear
from laim_ros.quantization.engines.processor import fast_float, has_int8, is_x86
from laim_ros.quantization.weights import LinearWeights


class OnednnEngine(Engine):
    """Weights as int8 with a scale per output, packed once into the kernels' own order; activations as uint8.

    Weights that an int8 grid would harm are computed in bfloat16, or float32 where the processor has none.
    """

    name = "onednn"
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.attention_dtype = fast_float(self.device)

    @staticmethod
    def missing(device: torch.device) -> str:
        """Why this engine cannot run here; empty if it can."""
        if device.type != "cpu":
            return f"it runs on the CPU, not on {device.type}"
        if not is_x86():
            return "its kernels are made for x86-64 processors, and this is another"
        if not has_int8(device):
            return "this processor has no int8 instructions (AVX512-VNNI)"
        try:
            torch.ops.onednn.qlinear_pointwise  # noqa: B018  an operator exists if its name resolves
        except AttributeError:
            return "this build of PyTorch comes without oneDNN's int8 kernels"
        return ""

    def linear(self, weights: LinearWeights, activation: str = "", dtype: torch.dtype = torch.float32) -> EngineLayer:
        """See `Engine`."""
        if isinstance(weights.weight, torch.Tensor):
            return FloatLinear(weights.weight, weights.bias, activation, dtype)
        gridded = to_int8(weights.weight)
        if gridded is None:
            weight = weights.weight.dequantize().to(self.attention_dtype)
            return FloatLinear(weight, weights.bias, activation, dtype)
        return _Int8Linear(*gridded, weights.bias, activation, dtype)


class _Int8Linear(EngineLayer):
    """y = activation(x Wᵀ + b), W as int8 (N, K) with a scale per output; y is of `dtype`."""

    def __init__(
        self,
        codes: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        activation: str,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self._weight = torch.ops.onednn.qlinear_prepack(codes, None)
        self._scale, self._bias, self._activation, self._dtype = scale, bias, activation or "none", dtype
        self._zero_points = torch.zeros(len(scale), dtype=torch.int32)
        # PyTorch cannot tell the size of an opaque tensor: it is that of the codes, up to a few rows of padding.
        self.nbytes = codes.nbytes + scale.nbytes + self._zero_points.nbytes + (0 if bias is None else bias.nbytes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, K) to (…, N)."""
        if x.ndim == 3 and len(x) > 1:
            # One activation scale per frame: no frame's features depend on the others of its batch.
            return torch.cat([self(frame[None]) for frame in x])
        quantized, x_scale, x_zero_point = to_uint8(x.to(torch.float32).contiguous())
        return torch.ops.onednn.qlinear_pointwise(
            quantized,
            x_scale,
            x_zero_point,
            self._weight,
            self._scale,
            self._zero_points,
            self._bias,
            1.0,  # of an output in integers, which this is not
            0,
            self._dtype,
            self._activation,
            [],
            "none",  # GELU as the error function has it, not its tanh approximation
        )
