"""Packed heads: a folder with `model.safetensors` of codes and scales, and `quantization.json` that describes it."""
