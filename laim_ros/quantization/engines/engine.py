"""`Engine`: what turns weights into layers that run."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from laim_ros.quantization.engines.layers import EngineLayer, VisionBlock
from laim_ros.quantization.weights import BlockWeights, LinearWeights


class Engine(ABC):
    """Makes layers for one device. The layers of one engine are used by one thread at a time.

    Attributes:
        name: as users call it.
        device: where its layers run.
        attention_dtype: in which queries, keys and values are multiplied.
    """

    name: str
    device: torch.device
    attention_dtype: torch.dtype

    @staticmethod
    @abstractmethod
    def missing(device: torch.device) -> str:
        """Why this engine cannot run on `device` of this machine; empty if it can."""

    @abstractmethod
    def linear(self, weights: LinearWeights, activation: str = "", dtype: torch.dtype = torch.float32) -> EngineLayer:
        """A linear layer, followed by `gelu` if asked: float (…, K) to (…, N) of `dtype`."""

    def block(self, weights: BlockWeights) -> EngineLayer:
        """A vision block of such linears: float32 (B, tokens, width) to the same."""
        return VisionBlock(
            weights,
            qkv=self.linear(weights.qkv, dtype=self.attention_dtype),
            projection=self.linear(weights.projection),
            fc1=self.linear(weights.fc1, "gelu"),
            fc2=self.linear(weights.fc2),
            attention_dtype=self.attention_dtype,
            device=self.device,
        )
