"""The robot's half at b bits per weight: quantizers, pruning, packed storage, and engines that run it."""

from __future__ import annotations

from laim_ros.quantization.engines import ENGINES
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.heads import QUANTIZER_CHOICES, Heads
from laim_ros.quantization.quantize import quantize
from laim_ros.quantization.quantized_weight import QuantizedWeight

__all__ = ["ENGINES", "QUANTIZER_CHOICES", "Heads", "QuantizationError", "QuantizedWeight", "quantize"]
