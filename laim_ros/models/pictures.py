"""Pictures the way the checkpoint's own image processor prepares them: resize with Pillow, then scale and normalise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from laim_ros.models.errors import ModelError

_DEFAULTS: Mapping[str, Any] = {
    "do_convert_rgb": True,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_center_crop": False,
    "do_pad": False,
    "size": {"height": 384, "width": 384},
    "resample": Image.Resampling.BICUBIC,
    "rescale_factor": 1 / 255,
    "image_mean": OPENAI_CLIP_MEAN,
    "image_std": OPENAI_CLIP_STD,
}
"""What transformers' BLIP image processor does where the configuration says nothing."""

_PROCESSORS = ("BlipImageProcessor", "BlipImageProcessorFast", "BlipImageProcessorPil")


@dataclass(frozen=True, slots=True)
class PicturePreparation:
    """From a camera's picture to the numbers that the vision tower takes.

    Attributes:
        size: (H, W) in pixels.
        resample: Pillow's filter.
        scale: factor that brings 0–255 to the range that mean and std are given in.
        mean, std: per channel, RGB.
    """

    size: tuple[int, int]
    resample: Image.Resampling
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str) -> PicturePreparation:
        """Reads an image processor's configuration.

        Args:
            config: the content of `preprocessor_config.json`, or of `image_processor` in `processor_config.json`.
            where: what to call it in errors.

        Raises:
            ModelError: a kind of preparation that is not carried out here, or values that make no sense.
        """
        kind = config.get("image_processor_type", "BlipImageProcessor")
        if kind not in _PROCESSORS:
            raise ModelError(f"{where}: image_processor_type '{kind}' is not supported; use BlipImageProcessor")
        settings = {name: config[name] if config.get(name) is not None else value for name, value in _DEFAULTS.items()}
        for name in ("do_resize", "do_rescale", "do_normalize"):
            if not settings[name]:
                raise ModelError(f"{where}: {name} false is not supported; set it to true")
        for name in ("do_center_crop", "do_pad"):
            if settings[name]:
                raise ModelError(f"{where}: {name} true is not supported; set it to false")
        try:
            return cls(
                size=_size(settings["size"]),
                resample=Image.Resampling(settings["resample"]),
                scale=_positive(settings["rescale_factor"]),
                mean=_per_channel(settings["image_mean"]),
                std=tuple(_positive(value) for value in _per_channel(settings["image_std"])),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"{where}: {error}") from error

    def resize(self, image: np.ndarray) -> np.ndarray:
        """uint8 RGB (h, w, 3) to uint8 RGB (H, W, 3), to the bit what transformers' Pillow processor makes of it.

        Raises:
            ModelError: not a uint8 array of (h, w, 3), or without pixels.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            given = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ModelError(f"a picture is a uint8 array (height, width, 3) in RGB order, not {given}")
        if 0 in image.shape:
            raise ModelError(f"a picture of {image.shape[1]} × {image.shape[0]} pixels has nothing to show")
        height, width = self.size
        return np.array(Image.fromarray(image).resize((width, height), resample=self.resample))

    def pixel_values(self, pictures: torch.Tensor) -> torch.Tensor:
        """uint8 (B, H, W, 3) to float32 (B, 3, H, W), scaled and normalised, on the same device."""
        mean = torch.tensor(self.mean, dtype=torch.float32, device=pictures.device)
        std = torch.tensor(self.std, dtype=torch.float32, device=pictures.device)
        # Scaled in float64 and rounded, as transformers does: to the bit the same numbers.
        scaled = (pictures.double() * self.scale).float()
        return ((scaled - mean) / std).permute(0, 3, 1, 2).contiguous()


def _size(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        value = {"height": value, "width": value}
    if not isinstance(value, Mapping) or not {"height", "width"} <= set(value):
        raise ValueError(f"size {value} must give height and width (keeping the aspect ratio is not supported)")
    height, width = int(value["height"]), int(value["width"])
    if min(height, width) < 1:
        raise ValueError(f"size {value} must be positive")
    return height, width


def _per_channel(value: Any) -> tuple[float, float, float]:
    values = tuple(float(v) for v in value) if isinstance(value, (list, tuple)) else (float(value),) * 3
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise ValueError(f"{value} must be three finite numbers, one per channel")
    return values


def _positive(value: Any) -> float:
    if not (math.isfinite(float(value)) and float(value) > 0):
        raise ValueError(f"{value} must be positive and finite")
    return float(value)
