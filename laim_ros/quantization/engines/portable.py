"""Engine `torch`: weights stay packed at b bits and are unpacked layer by layer; runs wherever PyTorch does."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from laim_ros.quantization import planes
from laim_ros.quantization.engines.activations import to_int8_rows
from laim_ros.quantization.engines.engine import Engine
from laim_ros.quantization.engines.int8_grid import to_int8
from laim_ros.quantization.engines.layers import EngineLayer, FloatLinear
from laim_ros.quantization.engines.processor import fast_float, has_int8
from laim_ros.quantization.quantized_weight import QuantizedWeight
from laim_ros.quantization.weights import LinearWeights

_SMALLEST_CUDA_ROWS = 17
_CUDA_MULTIPLE = 8
"""What PyTorch's int8 product asks of the sizes on a GPU."""


class TorchEngine(Engine):
    """The smallest in memory. Products are int8 by int8 where the device has fast ones, else in floating point.

    Uniform weights take b bits each. Weights on other levels take a byte, or two where an int8 grid would harm them.

    Args:
        device: where it runs.
    """

    name = "torch"

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._scratch = _Scratch(device)
        self.attention_dtype = fast_float(device)

    @staticmethod
    def missing(_: torch.device) -> str:
        """Why this engine cannot run here: it always can."""
        return ""

    def linear(self, weights: LinearWeights, activation: str = "", dtype: torch.dtype = torch.float32) -> EngineLayer:
        """See `Engine`."""
        weight = weights.weight
        bias = None if weights.bias is None else weights.bias.to(self.device)
        if isinstance(weight, torch.Tensor):
            return FloatLinear(weight.to(self.device), bias, activation, dtype)
        if weight.quantizer == "uniform" and weight.scale.shape[1] == 1:
            return _PackedLinear(weight, bias, activation, dtype, self._scratch)
        gridded = to_int8(weight)
        if gridded is None:
            return FloatLinear(weight.dequantize().to(self.device, self.attention_dtype), bias, activation, dtype)
        on_grid = QuantizedWeight.from_codes(gridded[0], gridded[1][:, None], 8, "uniform")
        return _PackedLinear(on_grid, bias, activation, dtype, self._scratch)


class _Scratch:
    """Memory for one unpacked matrix at a time, used by one layer after the other."""

    def __init__(self, device: torch.device) -> None:
        self._memory = torch.empty(0, dtype=torch.int8, device=device)

    def matrix(self, shape: tuple[int, int]) -> torch.Tensor:
        """int8 of this shape with undefined content; valid until the next call."""
        count = shape[0] * shape[1]
        if self._memory.numel() < count:
            self._memory = torch.empty(count, dtype=torch.int8, device=self._memory.device)
        return self._memory[:count].view(shape)


class _PackedLinear(EngineLayer):
    """y = activation(x Wᵀ + b), W in planes of b bits with a scale per output; y is of `dtype`."""

    def __init__(
        self,
        weight: QuantizedWeight,
        bias: torch.Tensor | None,
        activation: str,
        dtype: torch.dtype,
        scratch: _Scratch,
    ) -> None:
        super().__init__()
        device = scratch.matrix((0, 0)).device
        self._shape, self._bits, self._activation, self._dtype = weight.shape, weight.bits, activation, dtype
        self._planes = tuple(plane.to(device) for plane in weight.planes)
        # Unpacked codes lie at the upper end of their bytes; one bit becomes ±64.
        places = 8 - weight.bits if weight.bits > 1 else 6
        self._scale = (weight.scale[:, 0].to(device) / (1 << places)).expand(weight.shape[0]).contiguous()
        self._bias = torch.zeros(weight.shape[0], dtype=torch.float32, device=device) if bias is None else bias
        self._scratch = scratch
        self._int8, self._float = has_int8(device), fast_float(device)
        self.nbytes = sum(plane.nbytes for plane in self._planes) + self._scale.nbytes + self._bias.nbytes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, K) to (…, N)."""
        rows = x.reshape(-1, x.shape[-1]).to(torch.float32)
        weight = self._unpacked()
        if self._int8 and _sizes_fit(rows, weight):
            quantized, row_scale = to_int8_rows(rows)
            y = torch._int_mm(quantized, weight.t()).to(torch.float32).mul_(row_scale)
        else:
            # Codes of up to 8 bits are exact in bfloat16, too.
            y = F.linear(rows.to(self._float), weight.to(self._float)).to(torch.float32)
        # In place: fresh memory for each step costs more than the arithmetic.
        torch.addcmul(self._bias, y, self._scale, out=y)
        if self._activation:
            torch.ops.aten.gelu_(y)
        return y.to(self._dtype).view(*x.shape[:-1], self._shape[0])

    def _unpacked(self) -> torch.Tensor:
        if self._bits == 8:
            return self._planes[0].view(torch.int8)
        matrix = planes.unpack(self._planes, self._bits, self._shape[0], self._scratch.matrix(self._shape))
        return matrix.bitwise_or_(64) if self._bits == 1 else matrix


def _sizes_fit(x: torch.Tensor, weight: torch.Tensor) -> bool:
    if x.device.type != "cuda":
        return True
    fits = all(size % _CUDA_MULTIPLE == 0 for size in weight.shape)
    return fits and x.shape[0] >= _SMALLEST_CUDA_ROWS
