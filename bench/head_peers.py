"""What a user would run instead of this package: transformers, OpenVINO, ONNX Runtime and torchao, each at its best.

Each class is a `Runner` (see head_worker): made with the files, it imports, prepares, loads and infers. They are called
bare, with the tensor of pixel values that they expect. What takes long is prepared once into the files' folder.
"""

from __future__ import annotations

import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bench.head_model import HeadFiles, transformers_head, whole

THREADS = 2


class Transformers:
    """transformers' own modules."""

    def __init__(self, files: HeadFiles, dtype: str = "float32") -> None:
        self._files, self._dtype = files, dtype

    def prepare(self) -> None:
        """Nothing to prepare."""

    def imports(self) -> None:
        """Everything that loading needs."""
        import torch
        from transformers import Blip2ForConditionalGeneration  # noqa: F401

        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)

    def load(self) -> None:
        """From the checkpoint."""
        import torch

        self._head = transformers_head(self._files.checkpoint, self._dtype)
        self._input = torch.from_numpy(np.load(self._files.input))

    def infer(self) -> np.ndarray:
        """The Q-Former's output, float32 (1, 32, 768)."""
        import torch

        with torch.inference_mode():
            return self._head(self._input).float().numpy()


class Torchao(Transformers):
    """torchao: int8 weights per channel, int8 activations per token, compiled with the weights frozen.

    Freezing and compiling the whole was the fastest way that we found: without freezing, or block by block, it took
    1.2 to 1.5 times as long.

    Args:
        files: of the head.
        compiled: False runs it eagerly.
        dequantized: True runs the same weights in float32, to tell the error of execution from that of the weights.
    """

    def __init__(self, files: HeadFiles, compiled: bool = True, dequantized: bool = False) -> None:
        super().__init__(files)
        self._compiled, self._dequantized = compiled, dequantized
        self._cache = files.folder / f"torchao-{version('torchao')}"

    def prepare(self) -> None:
        """Compiles once, so that the compiler's cache is warm."""
        done = self._cache / "done"
        if self._compiled and not done.is_file():
            self.imports()
            self.load()
            self.infer()
            done.touch()

    def imports(self) -> None:
        """Everything that loading needs."""
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(self._cache)
        super().imports()
        import torch._inductor.config
        from torchao.quantization import quantize_  # noqa: F401

        torch._inductor.config.freezing = True

    def load(self) -> None:
        """From the checkpoint, quantized on the way."""
        import torch
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        super().load()
        quantize_(self._head, Int8DynamicActivationInt8WeightConfig())
        if self._dequantized:
            for module in self._head.modules():
                if isinstance(module, torch.nn.Linear) and hasattr(module.weight, "dequantize"):
                    module.weight = torch.nn.Parameter(module.weight.dequantize().float(), requires_grad=False)
        elif self._compiled:
            self._head = torch.compile(self._head)

    def reference(self) -> Torchao:
        """The same weights in float32."""
        return Torchao(self._files, compiled=False, dequantized=True)


class OpenVino:
    """OpenVINO, with weights and activations quantized by NNCF.

    Args:
        files: of the head.
        way: `nncf` is post-training quantization, calibrated on pictures; `int8` and `int4` compress the weights, with
            activations quantized on the fly in groups of 128. (The symmetric modes of these make models that OpenVINO
            2026.4.1 cannot compile, so they are the asymmetric ones.)
        precision: of what is not int8, as INFERENCE_PRECISION_HINT; empty for OpenVINO's own choice.
    """

    def __init__(self, files: HeadFiles, way: str, precision: str = "") -> None:
        self._files, self._way, self._precision = files, way, precision
        self._folder = files.folder / f"openvino-{way}-{version('openvino')}-{version('nncf')}"

    def prepare(self) -> None:
        """Converts, quantizes and saves the model."""
        if self._folder.is_dir():
            return
        import nncf
        import openvino
        import torch

        nncf.set_log_level(logging.ERROR)
        head = transformers_head(self._files.checkpoint)
        sample = torch.from_numpy(np.load(self._files.input))
        with torch.inference_mode():
            model = openvino.convert_model(head, example_input=sample)
        model.reshape(list(sample.shape))
        if self._way == "nncf":
            pictures = [picture[None] for picture in np.load(self._files.calibration_inputs, mmap_mode="r")]
            dataset = nncf.Dataset(pictures, np.ascontiguousarray)
            model = nncf.quantize(model, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(pictures))
        elif self._way == "int8":
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
        else:
            mode = nncf.CompressWeightsMode.INT4_ASYM
            model = nncf.compress_weights(model, mode=mode, group_size=128, ratio=1.0, all_layers=True)
        with whole(self._folder) as part:
            openvino.save_model(model, part / "model.xml", compress_to_fp16=False)

    def imports(self) -> None:
        """Everything that loading needs."""
        import openvino

        self._core = openvino.Core()

    def load(self) -> None:
        """Compiles the saved model for this processor."""
        settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY"}
        if self._precision:
            settings["INFERENCE_PRECISION_HINT"] = self._precision
        if self._way != "nncf":
            settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 128
        self._request = self._core.compile_model(
            str(self._folder / "model.xml"), "CPU", settings
        ).create_infer_request()
        self._input = np.load(self._files.input)

    def infer(self) -> np.ndarray:
        """The Q-Former's output, float32 (1, 32, 768)."""
        self._request.infer({0: self._input})
        return self._request.get_output_tensor().data.copy()


class OnnxRuntime:
    """ONNX Runtime with dynamic quantization, QInt8 weights.

    Args:
        files: of the head.
        per_channel: one scale per output of a layer, not one for all.
    """

    def __init__(self, files: HeadFiles, per_channel: bool = False) -> None:
        self._files, self._per_channel = files, per_channel
        kind = "channel" if per_channel else "tensor"
        self._folder = files.folder / f"onnx-{kind}-{version('onnxruntime')}"

    def prepare(self) -> None:
        """Exports, quantizes and saves the model."""
        if self._folder.is_dir():
            return
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with whole(self._folder) as part:
            quantize_dynamic(
                str(self._exported() / "model.onnx"),
                str(part / "model.onnx"),
                weight_type=QuantType.QInt8,
                per_channel=self._per_channel,
                use_external_data_format=True,
            )

    def _exported(self) -> Path:
        """Folder of the model in float32; kept, for both kinds come from it."""
        import torch

        folder = self._files.folder / f"onnx-float-{version('onnx')}"
        if not folder.is_dir():
            # Exported from transformers' plain attention: "sdpa" leaves tests for NaN in the graph.
            head = transformers_head(self._files.checkpoint, attention="eager")
            sample = torch.from_numpy(np.load(self._files.input))
            with whole(folder) as part:
                torch.onnx.export(
                    head, (sample,), str(part / "model.onnx"), dynamo=True, opset_version=18, external_data=True
                )
        return folder

    def imports(self) -> None:
        """Everything that loading needs."""
        import onnxruntime  # noqa: F401

    def load(self) -> None:
        """Opens the saved model."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        path = str(self._folder / "model.onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._feed = {self._session.get_inputs()[0].name: np.load(self._files.input)}

    def infer(self) -> np.ndarray:
        """The Q-Former's output, float32 (1, 32, 768)."""
        return self._session.run(None, self._feed)[0]
