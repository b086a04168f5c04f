"""Where a model comes from: a shipped name, a local folder or a hub id, seen as JSON files and shards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from laim_ros.models.errors import ModelError
from laim_ros.models.hub import HubRepository
from laim_ros.paths import PathsError, checkpoints_directory

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as a shard's header describes it.

    Attributes:
        dtype: as safetensors spells it, such as `F32`.
        shape: of the tensor.
        shard: file name.
        begin, end: its bytes within the file.
    """

    dtype: str
    shape: tuple[int, ...]
    shard: str
    begin: int
    end: int


class ModelSource:
    """Read access to one checkpoint. Nothing but headers is read before it is asked for.

    Attributes:
        name: what the user called it.
        folder: the configuration and tokenizer files; the shards too, unless `hub` still has to fetch them.
        hub: where missing shards come from; None for a local folder.
    """

    def __init__(self, name: str, folder: Path, hub: HubRepository | None = None) -> None:
        self.name = name
        self.folder = folder
        self.hub = hub

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return self.json("config.json")

    @cached_property
    def image_processor(self) -> tuple[str, Mapping[str, Any]]:
        """File name and image processor configuration; a processor's own file comes first, as in transformers."""
        if (self.folder / "processor_config.json").is_file():
            nested = self.json("processor_config.json").get("image_processor")
            if nested is not None:
                return "processor_config.json", nested
        return "preprocessor_config.json", self.json("preprocessor_config.json")

    @cached_property
    def shards(self) -> dict[str, str]:
        """Which shard holds a key. For a single file, as its header says; else as the index says."""
        if (self.folder / INDEX_FILE).is_file():
            weight_map = self.json(INDEX_FILE).get("weight_map")
            if not isinstance(weight_map, dict) or not all(_is_file_name(shard) for shard in weight_map.values()):
                raise ModelError(f"model '{self.name}': {INDEX_FILE} has no usable weight_map; fetch it again")
            return weight_map
        return dict.fromkeys(self._header(SINGLE_FILE), SINGLE_FILE)

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        """Every tensor of the checkpoint, from the headers of all shards."""
        return {key: info for shard in sorted(set(self.shards.values())) for key, info in self._header(shard).items()}

    def json(self, filename: str) -> dict[str, Any]:
        """The content of a JSON file.

        Raises:
            ModelError: missing, or not a JSON object.
        """
        try:
            content = json.loads((self.folder / filename).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ModelError(f"model '{self.name}': {filename} is missing in {self.folder}") from None
        except (OSError, ValueError) as error:
            raise ModelError(f"model '{self.name}': {filename} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise ModelError(f"model '{self.name}': {filename} holds no JSON object")
        return content

    def shard_paths(self, keys: Iterable[str]) -> dict[Path, list[str]]:
        """The files that hold these keys, fetched where they are not here yet, and the keys in each.

        Keys that the checkpoint does not have are left out.
        """
        by_shard: dict[str, list[str]] = {}
        for key in keys:
            if key in self.shards:
                by_shard.setdefault(self.shards[key], []).append(key)
        return {self._shard_path(shard): found for shard, found in by_shard.items()}

    def tensor_bytes(self, key: str) -> bytes:
        """The stored bytes of one tensor; of a shard that is not here only these are fetched."""
        info = self.tensors[key]
        return self._read(info.shard, info.begin, info.end)

    def _header(self, shard: str) -> dict[str, TensorInfo]:
        try:
            length = int.from_bytes(self._read(shard, 0, 8), "little")
            if not 0 < length <= _MAX_HEADER_BYTES:
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(self._read(shard, 8, 8 + length))
            header.pop("__metadata__", None)
            return {
                key: TensorInfo(
                    dtype=str(entry["dtype"]),
                    shape=tuple(int(size) for size in entry["shape"]),
                    shard=shard,
                    begin=8 + length + int(entry["data_offsets"][0]),
                    end=8 + length + int(entry["data_offsets"][1]),
                )
                for key, entry in header.items()
            }
        except ModelError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise ModelError(
                f"model '{self.name}': {shard} is not a safetensors file ({error}); fetch it again"
            ) from error

    def _read(self, shard: str, begin: int, end: int) -> bytes:
        """Bytes of a shard; over the network where it has not been fetched.

        Raises:
            ModelError: missing, or shorter than that.
        """
        path = self.folder / shard
        if path.is_file():
            with path.open("rb") as file:
                file.seek(begin)
                content = file.read(end - begin)
        elif self.hub is not None:
            content = self.hub.read(shard, begin, end)
        else:
            raise ModelError(_missing_shard(self.name, shard, self.folder))
        if len(content) != end - begin:
            raise ModelError(f"model '{self.name}': {shard} ends early; fetch it again")
        return content

    def _shard_path(self, shard: str) -> Path:
        path = self.folder / shard
        if not path.is_file():
            if self.hub is None:
                raise ModelError(_missing_shard(self.name, shard, self.folder))
            path = self.hub.fetch(shard)
        return path


def find_source(model: str) -> ModelSource:
    """The checkpoint that a shipped name, a local folder or a hub id (`owner/name`) stands for, in this order.

    Raises:
        ModelError: there is none, or the hub does not answer.
    """
    if model in shipped_models():
        return ModelSource(model, checkpoints_directory() / model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return ModelSource(model, folder)
    if _HUB_ID.fullmatch(model) and not folder.exists():
        hub = HubRepository(model)
        return ModelSource(model, hub.fetch_small_files(), hub)
    raise ModelError(
        f"model '{model}' is neither a folder here nor a hub id (owner/name) nor a shipped model; "
        f"shipped are: {shipped_listing()}"
    )


def shipped_models() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    try:
        folder = checkpoints_directory()
    except PathsError:
        return ()
    return tuple(sorted(path.parent.name for path in folder.glob("*/config.json")))


def shipped_listing() -> str:
    """The shipped models, for an error message."""
    return ", ".join(shipped_models()) or "none in this installation"


def _missing_shard(name: str, shard: str, folder: Path) -> str:
    return (
        f"model '{name}': {shard} is missing in {folder} (weights must be safetensors); fetch or convert the checkpoint"
    )


def _is_file_name(value: Any) -> bool:
    """Guards against an index that points out of its folder."""
    return isinstance(value, str) and Path(value).name == value
