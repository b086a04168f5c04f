"""Which engine runs the head on this machine."""

from __future__ import annotations

from collections.abc import Callable

import torch

from laim_ros.quantization.engines.engine import Engine
from laim_ros.quantization.engines.floating import FloatEngine
from laim_ros.quantization.engines.onednn import OnednnEngine
from laim_ros.quantization.engines.portable import TorchEngine
from laim_ros.quantization.errors import QuantizationError

ENGINES = ("auto", "onednn", "torch", "float")


def make_engine(name: str, device: torch.device) -> Engine:
    """The engine of that name; `auto` is the fastest that this machine can run.

    Raises:
        QuantizationError: no such engine, or it cannot run here; the message says why and what can.
    """
    if name not in ENGINES:
        raise QuantizationError(f"engine '{name}' is none of {', '.join(ENGINES)}")
    makers: dict[str, tuple[Callable[[torch.device], str], Callable[[], Engine]]] = {
        "onednn": (OnednnEngine.missing, OnednnEngine),
        "torch": (TorchEngine.missing, lambda: TorchEngine(device)),
        "float": (FloatEngine.missing, lambda: FloatEngine(device)),
    }
    if name == "auto":
        name = next(each for each, (missing, _) in makers.items() if not missing(device))
    missing, make = makers[name]
    reason = missing(device)
    if reason:
        raise QuantizationError(f"engine '{name}' cannot run here: {reason}; use engine auto or torch")
    return make()
