"""Execution of quantized layers: what a product of 8-bit activations with b-bit weights runs on."""

from __future__ import annotations

from laim_ros.quantization.engines.choose import ENGINES, make_engine
from laim_ros.quantization.engines.engine import Engine
from laim_ros.quantization.engines.floating import FloatEngine

__all__ = ["ENGINES", "Engine", "FloatEngine", "make_engine"]
