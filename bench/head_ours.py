"""This package's head as a `Runner` (see head_worker): through `RobotHalf`, from a camera's picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from bench.head_model import HeadFiles, whole
from bench.head_peers import THREADS, Transformers

ROOT = Path(__file__).resolve().parent.parent
LAST = "qformer"


class Ours:
    """`RobotHalf` at some bit-width on some engine; what is timed includes resizing the picture.

    Args:
        files: of the head.
        bits: of the weights.
        engine: as `engine` of the robot node.
        packed: bits of the packed folder to load from; 0 loads the checkpoint and quantizes on the way.
    """

    def __init__(self, files: HeadFiles, bits: int, engine: str = "auto", packed: int = 0) -> None:
        self.files, self.bits, self.engine, self.packed = files, bits, engine, packed

    @property
    def model(self) -> Path:
        """What `RobotHalf` is given."""
        return packed_folder(self.files, self.packed) if self.packed else self.files.checkpoint

    def prepare(self) -> None:
        """Packs the weights."""
        if self.packed:
            pack(self.files, self.packed)

    def imports(self) -> None:
        """Everything that loading needs."""
        import torch

        import laim_ros.coinference
        import laim_ros.models.blip2  # noqa: F401

        torch.set_num_threads(THREADS)

    def load(self) -> None:
        """As the robot node does it."""
        from laim_ros.coinference import RobotHalf

        self.half = RobotHalf.open(
            str(self.model), "/bench", weight_bits=self.bits, last=LAST, device="cpu", engine=self.engine
        )
        self._picture = np.load(self.files.picture)

    def infer(self) -> np.ndarray:
        """The boundary tensor at the Q-Former, float32 (32, 768)."""
        return self.half.features(self._picture, LAST)[0]

    def facts(self) -> dict:
        """What the head says of itself."""
        model = self.half.model
        return {"ran_on": getattr(model, "engine", ""), "weight_bytes": model.weight_bytes}

    def reference(self) -> Dequantized | None:
        """The same weights in float32; None where they are not quantized."""
        return Dequantized(self.files, self.bits, self.model) if self.bits <= 8 else None


class Dequantized(Transformers):
    """transformers' float32 modules with our quantized weights, to tell the error of execution from that of weights."""

    def __init__(self, files: HeadFiles, bits: int, model: Path) -> None:
        super().__init__(files)
        self._bits, self._model = bits, model

    @property
    def key(self) -> tuple:
        """Equal for those that give the same output."""
        return self._bits, self._model

    def load(self) -> None:
        """The checkpoint, then every linear layer replaced."""
        import torch

        from laim_ros.models.source import find_source
        from laim_ros.quantization.stores import open_store

        super().load()
        store = open_store(find_source(str(self._model)), self._bits)

        def put(linear: torch.nn.Linear, weight: object) -> None:
            linear.weight = torch.nn.Parameter(weight.dequantize(), requires_grad=False)

        for index, block in enumerate(self._head.vision_model.encoder.layers):
            weights = store.block(f"vision_model.encoder.layers.{index}.")
            put(block.self_attn.qkv, weights.qkv.weight)
            put(block.self_attn.projection, weights.projection.weight)
            put(block.mlp.fc1, weights.fc1.weight)
            put(block.mlp.fc2, weights.fc2.weight)
        for name, module in self._head.qformer.named_modules():
            if isinstance(module, torch.nn.Linear):
                put(module, store.linear(f"qformer.{name}").weight)


def packed_folder(files: HeadFiles, bits: int) -> Path:
    """Where `pack` writes; 8 bits are nested and hold every lower width."""
    return files.folder / f"packed-{bits}"


def pack(files: HeadFiles, bits: int) -> Path:
    """What `laim quantize` makes of the checkpoint, kept for later runs."""
    folder = packed_folder(files, bits)
    if not folder.is_dir():
        with whole(folder) as part:
            inner = part / "model"
            command = [sys.executable, "-m", "laim_ros.cli", "quantize", str(files.checkpoint), "--bits", str(bits)]
            done = subprocess.run(
                [*command, "--out", str(inner)], cwd=ROOT, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"laim quantize --bits {bits} failed: {(done.stderr or done.stdout).strip()[-500:]}")
            for file in inner.iterdir():
                file.rename(part / file.name)
            inner.rmdir()
    return folder
