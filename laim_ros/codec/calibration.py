"""`SplitCalibration`: what the transform codec knows of the features at one split point, and the file that keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from laim_ros.codec.errors import CodecError
from laim_ros.codec.probabilities import SHAPES, tables_digest
from laim_ros.files import about_model, beside_model, user_folder, write_whole
from laim_ros.plan import MOST_DECIBELS

CODEC_FILE = "codec.safetensors"
"""Name of the file in a model's folder."""

WHOLE_ELEMENTS = 2048
"""Tensors of so many elements are transformed as a whole, larger ones by tokens and channels apart: the matrix of a
whole tensor grows with the square of its elements, and so does the number of pictures that it takes to estimate it."""

MOST_STEP = 1000
"""Bound of the quantizer's step, in eighths of octaves either way."""

_VERSION = 1
_MOST_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class SplitCalibration:
    """How features at one split point are decorrelated, how large their coefficients are, and how to quantize them.

    X, float32 (T, D), is the boundary tensor by rows, or in one row of all its elements where it is small. Its
    coefficients are Y = tokensᵀ · diag(token_weights) · (X - mean) · channels, float32 (T, D).

    Attributes:
        mean: float16 (T, D).
        token_weights: float32 (T,), positive; how much the output depends on each row.
        channels: float16 (D, D), invertible; to the principal components of a row, weighted by what the output
            depends on.
        tokens: float16 (T, T), invertible; to the principal components along the rows.
        scales: int8 (T, D); standard deviation of each coefficient, 2^(scale/4).
        shapes: uint8 (T, D); which of `probabilities.SHAPES` each coefficient has.
        steps: int16 (61,); the quantizer's step, 2^(step/8), for a signal-to-distortion ratio of 0 to 60 dB.
        frames: how many were looked at.

    Raises:
        CodecError: arrays that do not fit each other, or that cannot be inverted.
    """

    mean: np.ndarray
    token_weights: np.ndarray
    channels: np.ndarray
    tokens: np.ndarray
    scales: np.ndarray
    shapes: np.ndarray
    steps: np.ndarray
    frames: int

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or not self.mean.size:
            raise CodecError(f"codec calibration: mean must have rows and columns, not shape {self.mean.shape}")
        rows, columns = self.mean.shape
        expected = {
            "mean": (np.float16, (rows, columns)),
            "token_weights": (np.float32, (rows,)),
            "channels": (np.float16, (columns, columns)),
            "tokens": (np.float16, (rows, rows)),
            "scales": (np.int8, (rows, columns)),
            "shapes": (np.uint8, (rows, columns)),
            "steps": (np.int16, (MOST_DECIBELS + 1,)),
        }
        for name, (dtype, shape) in expected.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != shape:
                raise CodecError(
                    f"codec calibration: {name} must be {np.dtype(dtype)} {shape}, not {array.dtype} {array.shape}"
                )
            if not np.isfinite(array).all():
                raise CodecError(f"codec calibration: {name} holds a NaN or an infinity")
        if not (self.token_weights > 0).all():
            raise CodecError("codec calibration: token_weights must be positive")
        if self.steps.min() < -MOST_STEP or self.steps.max() > MOST_STEP:
            raise CodecError(f"codec calibration: steps must be within ±{MOST_STEP}")
        if self.shapes.max() >= len(SHAPES):
            raise CodecError(f"codec calibration: shapes must be below {len(SHAPES)}")

    @cached_property
    def digest(self) -> str:
        """Hex hash of the arrays and of the probability tables: equal where both sides code alike."""
        content = hashlib.blake2b(tables_digest().encode(), digest_size=8)
        for name in _ARRAYS:
            content.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return content.hexdigest()

    @cached_property
    def order(self) -> np.ndarray:
        """int64 (T·D,): the coefficients' places, those of the largest standard deviation first."""
        return np.argsort(-self.scales.reshape(-1).astype(np.int16), kind="stable")

    @cached_property
    def inverses(self) -> tuple[np.ndarray, np.ndarray]:
        """Of `tokens` and `channels`, float32.

        Raises:
            CodecError: one of them cannot be inverted.
        """
        try:
            tokens, channels = (np.linalg.inv(matrix.astype(np.float64)) for matrix in (self.tokens, self.channels))
        except np.linalg.LinAlgError as error:
            raise CodecError(f"codec calibration: the transform cannot be inverted ({error})") from error
        return tokens.astype(np.float32), channels.astype(np.float32)


_ARRAYS = ("mean", "token_weights", "channels", "tokens", "scales", "shapes", "steps")


class _Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    frames: int


class _About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in the file beside the arrays."""

    version: int
    model_id: str
    source: str
    splits: dict[str, _Split]


def write_calibrations(path: Path, model_id: str, calibrations: Mapping[str, SplitCalibration], source: str) -> None:
    """Writes the calibrations of a model's split points to one file, whole or not at all.

    Args:
        path: of the file.
        model_id: of the model that they were made with.
        calibrations: by split point.
        source: what was looked at, for people.

    Raises:
        OSError: the file cannot be written.
    """
    splits = {split_point: _Split(each.frames) for split_point, each in calibrations.items()}
    about = msgspec.json.encode(_About(_VERSION, model_id, source, splits)).decode()
    arrays = {
        f"{split_point}.{name}": np.ascontiguousarray(getattr(calibration, name))
        for split_point, calibration in calibrations.items()
        for name in _ARRAYS
    }
    write_whole(path, save(arrays, metadata={"about": about}))


def read_calibrations(path: Path, model_id: str) -> dict[str, SplitCalibration]:
    """The calibrations in a file, by split point.

    Args:
        path: of the file.
        model_id: of the model that they must have been made with.

    Raises:
        CodecError: no such file, none of ours, damaged, or of another model; the message says what would help.
    """
    again = "make it again with `laim calibrate`"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CodecError(f"larger than {_MOST_BYTES} bytes")
        content = path.read_bytes()
        arrays = load(content)
        about = _about(content, again)
    except OSError as error:
        raise CodecError(f"codec calibration {path}: {error.strerror}") from None
    except CodecError as error:
        raise CodecError(f"codec calibration {path}: {error}") from None
    except (SafetensorError, msgspec.MsgspecError, ValueError, KeyError) as error:
        raise CodecError(f"codec calibration {path} cannot be read ({error}); {again}") from None
    if about.model_id != model_id:
        raise CodecError(
            f"codec calibration {path} was made with another model ({about.model_id}, not {model_id}); {again}"
        )
    try:
        return {
            split_point: SplitCalibration(*(arrays[f"{split_point}.{name}"] for name in _ARRAYS), frames=split.frames)
            for split_point, split in about.splits.items()
        }
    except KeyError as error:
        raise CodecError(f"codec calibration {path} lacks {error}; {again}") from None
    except CodecError as error:
        raise CodecError(f"{path}: {error}; {again}") from None


def own_calibration_path(model_id: str) -> Path:
    """Where the calibration of a model stands that has no folder of its own to write to, such as one from the hub."""
    return user_folder("XDG_DATA_HOME", ".local/share") / "codec" / f"{model_id}.safetensors"


def calibration_path(folder: Path | None, model_id: str) -> Path:
    """Where a new calibration of a model goes: into its folder, or where that cannot be written to the user's own.

    Args:
        folder: of the model; None for one from the hub.
        model_id: its identity.
    """
    return beside_model(folder, CODEC_FILE, own_calibration_path(model_id))


def find_calibrations(model: str, model_id: str) -> tuple[dict[str, SplitCalibration], str]:
    """The calibrations of a model, looked for in its folder, in the user's own, and among the shipped ones.

    Args:
        model: shipped name, local folder or hub id.
        model_id: what they must have been made with.

    Returns:
        By split point, empty where there is none; and a sentence: which file it is, or why there is none.
    """
    reasons = []
    for path in about_model(model, CODEC_FILE, own_calibration_path(model_id)):
        try:
            calibrations = read_calibrations(path, model_id)
        except CodecError as error:
            reasons.append(str(error))
            continue
        passed = "".join(f"; passed over: {reason}" for reason in reasons)
        return calibrations, f"codec klt as calibrated in {path} for {', '.join(calibrations)}{passed}"
    found = "; ".join(reasons) or f"no codec calibration for {model}"
    return {}, f"{found}: features are coded by codec plain; make one with `laim calibrate --model {model}`"


def _about(content: bytes, again: str) -> _About:
    """What a safetensors file says beside its arrays: its header is JSON behind eight bytes that tell its length."""
    length = int.from_bytes(content[:8], "little")
    fields = msgspec.json.decode(msgspec.json.decode(content[8 : 8 + length]).get("__metadata__", {}).get("about", ""))
    # Before all else: a newer file may have fields that are not known here, and the version is the reason to name.
    version = fields.get("version") if isinstance(fields, dict) else None
    if version != _VERSION:
        raise CodecError(f"version {version}, here is {_VERSION}; {again}")
    return msgspec.convert(fields, _About)
