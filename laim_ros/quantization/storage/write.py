"""`Packing`: a checkpoint's head into a packed folder, one block at a time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from laim_ros.codec import CodecError
from laim_ros.codec.calibration import CODEC_FILE, own_calibration_path, read_calibrations
from laim_ros.files import about_model
from laim_ros.models.identity import PACKED_FILE, model_id, packed_head
from laim_ros.models.source import SINGLE_FILE, ModelSource, shipped_models
from laim_ros.quantization.errors import QuantizationError
from laim_ros.quantization.nested import quantize_nested
from laim_ros.quantization.parts import BLOCK_LINEARS, HeadParts, block_index, block_prefix
from laim_ros.quantization.pruning import Pruning, choose_blocks
from laim_ros.quantization.pruning.structured import kept_heads, kept_neurons
from laim_ros.quantization.quantized_weight import BITS
from laim_ros.quantization.storage.head_file import HeadFile, file_bytes, header_bytes
from laim_ros.quantization.storage.layout import (
    FLOAT_DTYPES,
    Promise,
    head_layout,
    linear_shapes,
    other_keys,
)
from laim_ros.quantization.storage.manifest import FORMAT_VERSION, BlockShape, Manifest
from laim_ros.quantization.stores import CheckpointStore, Observer

if TYPE_CHECKING:
    from laim_ros.quantization.calibration import Calibration

_COPIED = ("config.json", "processor_config.json", "preprocessor_config.json")


class Packing:
    """How a checkpoint's head will be packed: everything but the weights themselves.

    Args:
        source: of the checkpoint.
        bits: 1–8. 8 bits with the quantizer `uniform` take the nested form, which has every lower bit-width in it.
        quantizer, granularity: as `quantize` takes them.
        pruning: done first.
        observe: is told of every layer.
        calibration: pictures that show what structured pruning loses.

    Attributes:
        manifest: the content of `quantization.json`.
        promise: the size that the bits promise.

    Raises:
        QuantizationError: choices that do not go together, or a model that is packed already or cannot be quantized.
        ModelError: files missing.
    """

    def __init__(
        self,
        source: ModelSource,
        bits: int,
        quantizer: str,
        granularity: str = "channel",
        pruning: Pruning | None = None,
        observe: Observer | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        require_packable(source, bits, quantizer, granularity, pruning)
        nested = bits == 8 and quantizer == "uniform"
        self._store = CheckpointStore(
            source,
            bits,
            quantizer,
            granularity,
            pruning,
            observe=observe,
            make=partial(quantize_nested, granularity=granularity) if nested else None,
            calibration=calibration,
        )
        parts, dropped = self._store.parts, self._store.dropped
        blocks = tuple(
            None if index in dropped else block for index, block in enumerate(_blocks(parts, self._store.pruning))
        )
        self._keys = tuple(other_keys(parts, blocks))
        self._shapes = linear_shapes(parts, blocks)
        self._layout = head_layout(parts, blocks, bits, granularity, nested, partial(_stored_dtype, source))
        self.promise = Promise.of(self._layout, self._shapes, bits, header_bytes(self._layout))
        self.manifest = Manifest(
            version=FORMAT_VERSION,
            model=_lasting_name(source),
            model_id=model_id(source),
            bits=bits,
            quantizer=quantizer,
            granularity=granularity,
            prune=str(self._store.pruning),
            calibration="" if calibration is None else calibration.pictures,
            nested=nested,
            last="qformer",
            blocks=blocks,
            file_bytes=file_bytes(self._layout),
        )

    @property
    def layers(self) -> int:
        """Linear layers to quantize."""
        return len(self._shapes)

    def write(self, folder: Path, progress: Callable[[int], None] | None = None) -> None:
        """Writes the packed folder; it appears when it is whole, and not at all if anything goes wrong.

        Args:
            folder: not there yet, or empty.
            progress: told how many linear layers have been written.

        Raises:
            QuantizationError: a folder that is not empty or cannot be written, or weights that cannot be quantized.
            ModelError: files of the checkpoint that are missing or damaged.
        """
        require_empty(folder)
        try:
            with _replacing(folder) as place:
                free = shutil.disk_usage(place).free
                if free < self.manifest.file_bytes:
                    raise QuantizationError(
                        f"{folder} needs {self.manifest.file_bytes / 1e6:,.0f} MB, but only {free / 1e6:,.0f} MB are "
                        "free there; make room, or choose another place"
                    )
                with (place / SINGLE_FILE).open("wb") as file:
                    self._write_tensors(file, progress or (lambda _: None))
                    file.flush()
                    os.fsync(file.fileno())
                for name in _COPIED:
                    if (self._store.source.folder / name).is_file():
                        shutil.copyfile(self._store.source.folder / name, place / name)
                self._copy_calibrations(place)
                (place / PACKED_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(self.manifest), indent=2))
        except OSError as error:
            raise QuantizationError(
                f"{folder} cannot be written: {error.strerror or error}; choose another place"
            ) from error

    def _copy_calibrations(self, place: Path) -> None:
        """The feature codec's, so that the robot has what an edge with the model itself has; none where none fits."""
        identity = self.manifest.model_id
        for path in about_model(self._store.source.name, CODEC_FILE, own_calibration_path(identity)):
            with suppress(CodecError):
                read_calibrations(path, identity)
                shutil.copyfile(path, place / CODEC_FILE)
                return

    def _write_tensors(self, file: BinaryIO, progress: Callable[[int], None]) -> None:
        head = HeadFile(file, self._layout, self.manifest.digest())
        done = 0
        for index in range(self._store.parts.blocks):
            prefix = block_prefix(index)
            block = self._store.block(prefix)
            if block is not None:
                head.block(prefix, block)
                done += len(BLOCK_LINEARS)
                progress(done)
        for prefix in self._shapes:
            if block_index(prefix) is None:
                head.linear(prefix, self._store.linear(prefix))
                done += 1
                progress(done)
        for key in self._keys:
            if key not in head.written:
                head.tensor(key, self._store.tensor(key))
        head.require_all()


def require_packable(
    source: ModelSource, bits: int, quantizer: str, granularity: str, pruning: Pruning | None = None
) -> None:
    """Whether a model can be packed so, as far as `config.json` tells: reads no weights, and takes no pictures.

    Raises:
        QuantizationError, ModelError: as `Packing`.
    """
    packed = packed_head(source)
    if packed is not None:
        raise QuantizationError(
            f"model '{source.name}' is packed already; give the model that it was made of: '{packed['model']}'"
        )
    if bits not in BITS:
        raise QuantizationError(f"{bits} bits per weight: a packed head has 1 to 8; floats stay in the checkpoint")
    store = CheckpointStore(source, bits, quantizer, granularity, pruning)
    # Which blocks are dropped takes long to find out; how many must fit, and those that stay are all alike.
    choose_blocks([0.0] * store.parts.blocks, store.pruning.blocks)
    head_layout(store.parts, _blocks(store.parts, store.pruning), bits, granularity, False, lambda _: "F32")


def require_empty(folder: Path) -> None:
    """Raises QuantizationError unless a packed head may be written there: nothing is ever overwritten."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise QuantizationError(f"{folder} exists already and is not empty; remove it, or choose another place")


def _blocks(parts: HeadParts, pruning: Pruning) -> tuple[BlockShape, ...]:
    """The blocks with the heads and neurons that pruning leaves, those too that it drops."""
    shape = BlockShape(
        heads=kept_heads(parts.heads, pruning.heads),
        head_width=parts.head_width,
        neurons=kept_neurons(parts.neurons, pruning.neurons),
    )
    return (shape,) * parts.blocks


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A new folder beside this one, which takes its name in the end; gone if anything goes wrong."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield place
        place.chmod(0o777 & ~_umask())
        place.rename(folder)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _lasting_name(source: ModelSource) -> str:
    """The model's name, from wherever it is read: the whole path of a folder, other names as they are."""
    folder = Path(source.name).expanduser()
    local = source.hub is None and source.name not in shipped_models() and folder.is_dir()
    return str(folder.resolve()) if local else source.name


def _stored_dtype(source: ModelSource, key: str) -> str:
    """What is not quantized keeps its dtype where a packed head knows it."""
    info = source.tensors.get(key)
    return info.dtype if info is not None and info.dtype in FLOAT_DTYPES else "F32"
