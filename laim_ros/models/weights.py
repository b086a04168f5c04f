"""Selected weights out of safetensors shards, straight into modules that were built without memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from laim_ros.models.errors import ModelError
from laim_ros.models.source import ModelSource

_log = logging.getLogger(__name__)
_SHOWN_KEYS = 5


def read_tensors(
    source: ModelSource, keys: Iterable[str], dtype_of: Callable[[str], torch.dtype], device: torch.device
) -> dict[str, torch.Tensor]:
    """Those of the keys that the checkpoint has, converted one by one; no other tensor's data is touched.

    Args:
        source: the checkpoint.
        keys: names of tensors.
        dtype_of: the dtype that a key shall have; tensors of integers stay as they are.
        device: where they go.

    Raises:
        ModelError: a shard that cannot be read, or that lacks what its index promises.
    """
    tensors = {}
    for path, found in source.shard_paths(keys).items():
        try:
            with safe_open(path, framework="pt") as shard:
                for key in found:
                    stored = shard.get_tensor(key)
                    dtype = dtype_of(key) if stored.dtype.is_floating_point else stored.dtype
                    # A copy even where nothing changes: the stored tensor may be a window on the file.
                    tensors[key] = stored.to(device=device, dtype=dtype, copy=True)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"model '{source.name}': {path.name} cannot be read: {error}; fetch it again") from error
    return tensors


def fill(module: nn.Module, tensors: Mapping[str, torch.Tensor], source: ModelSource) -> None:
    """Puts tensors in the place of a meta module's parameters.

    Raises:
        ModelError: a tensor of another shape than the configuration says, or a buffer that no checkpoint fills.
    """
    expected = module.state_dict()
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape:
            raise ModelError(
                f"model '{source.name}': {key} has shape {tuple(tensor.shape)}, but config.json asks for "
                f"{tuple(expected[key].shape)}"
            )
    module.load_state_dict(tensors, strict=False, assign=True)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    uninitialised = sorted(name for name, buffer in module.named_buffers() if buffer.is_meta and name not in expected)
    if uninitialised:
        raise ModelError(
            f"this version of transformers computes {_shown(uninitialised)} outside the checkpoint; use the version "
            "that requirements.txt names"
        )


def require_complete(source: ModelSource, missing: Iterable[str]) -> None:
    """Raises ModelError that names the keys, if there are any."""
    names = sorted(missing)
    if names:
        raise ModelError(
            f"model '{source.name}' lacks {len(names)} weights that its config.json asks for: {_shown(names)}; "
            "fetch the checkpoint again, or correct config.json"
        )


def warn_unused(source: ModelSource, known: Iterable[str]) -> None:
    """Logs the checkpoint's keys that no stage knows."""
    unused = sorted(set(source.shards) - set(known))
    if unused:
        _log.warning("model '%s' holds %d weights that are not used: %s", source.name, len(unused), _shown(unused))


def weight_bytes(modules: Iterable[nn.Module | torch.Tensor]) -> int:
    """Bytes of all parameters and buffers, each storage once."""
    sizes = {}
    for module in modules:
        tensors = [module] if isinstance(module, torch.Tensor) else [*module.parameters(), *module.buffers()]
        sizes.update({tensor.data_ptr(): tensor.nbytes for tensor in tensors})
    return sum(sizes.values())


def _shown(names: list[str]) -> str:
    rest = f" and {len(names) - _SHOWN_KEYS} more" if len(names) > _SHOWN_KEYS else ""
    return ", ".join(names[:_SHOWN_KEYS]) + rest
