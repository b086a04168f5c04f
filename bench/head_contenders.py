"""Who runs in `bench/head.py`, and the bars that the issue sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.head_model import HeadFiles
from bench.head_ours import Ours
from bench.head_peers import OnnxRuntime, OpenVino, Torchao, Transformers
from bench.head_worker import Runner


@dataclass(frozen=True, slots=True)
class Contender:
    """One row.

    Attributes:
        name: of the row.
        engine: what runs it; `transformers` is the float32 reference, ours have the names of our engines.
        bits: of the weights.
        make: makes its runner, in the process that runs it.
        ours: whether it is this package.
        room_in_heads: memory that it may need while it loads, as a multiple of the head in float32.
    """

    name: str
    engine: str
    bits: int
    make: Callable[[], Runner]
    ours: bool = False
    room_in_heads: float = 1.8


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: a column of one contender's row, at most or at least `limit`."""

    text: str
    contender: str
    column: str
    limit: float
    at_least: bool = False


REFERENCE = "transformers"
OURS_8 = "laim auto 8 bits"
OURS_4 = "laim torch 4 bits"

PEERS_OF_THE_BAR = ("openvino-nncf", "openvino-nncf f32", "onnxruntime", "onnxruntime per channel", "torchao")
"""The fastest of these, called bare, is what ours is held against."""

EVERY_ROUND = (REFERENCE, OURS_8)
"""These are measured again with whoever else memory holds, so that everyone is compared within the same turns."""

BARS = (
    Bar("speed at 8 bits against float32 (≥ 7)", OURS_8, "ratio_vs_fp32", 7.0, at_least=True),
    Bar("latency at 8 bits over the fastest peer's (≤ 1.05, aim at 0.8)", OURS_8, "latency_to_fastest_peer", 1.05),
    Bar("bytes at 8 bits (≤ 1.3 GB)", OURS_8, "memory_bytes", 1.3e9),
    Bar("bytes at 4 bits (≤ 0.8 GB)", OURS_4, "memory_bytes", 0.8e9),
    Bar("error of execution at 8 bits (≤ 0.06)", OURS_8, "error_of_execution", 0.06),
)


def contenders(files: HeadFiles) -> list[Contender]:
    """All of them, the reference first; those that must be compared with each other are close together."""

    def ours(engine: str, bits: int) -> Contender:
        return Contender(f"laim {engine} {bits} bits", engine, bits, partial(Ours, files, bits, engine), ours=True)

    return [
        Contender(REFERENCE, "transformers", 32, partial(Transformers, files)),
        ours("auto", 8),
        Contender("openvino-nncf", "openvino-nncf", 8, partial(OpenVino, files, "nncf")),
        Contender("openvino-nncf f32", "openvino-nncf", 8, partial(OpenVino, files, "nncf", "f32")),
        Contender("onnxruntime", "onnxruntime", 8, partial(OnnxRuntime, files)),
        Contender("onnxruntime per channel", "onnxruntime", 8, partial(OnnxRuntime, files, True)),
        # While it is compiled there are the floats, the integers and the integers as the kernels want them.
        Contender("torchao", "torchao", 8, partial(Torchao, files), room_in_heads=2.5),
        ours("onednn", 8),
        ours("torch", 8),
        Contender("openvino-int8", "openvino-int8", 8, partial(OpenVino, files, "int8")),
        ours("torch", 4),
        Contender("openvino-int4", "openvino-int4", 4, partial(OpenVino, files, "int4")),
        ours("auto", 4),
        ours("torch", 2),
        ours("auto", 16),
        Contender("transformers bf16", "transformers-bf16", 16, partial(Transformers, files, "bfloat16")),
        ours("auto", 32),
    ]
