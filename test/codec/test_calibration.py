"""Calibrations of codec `klt`: their file, what is refused, and where they are looked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from made_calibration import bell_shaped_calibration

from laim_ros.codec import CodecError, SplitCalibration, find_calibrations
from laim_ros.codec.calibration import CODEC_FILE, own_calibration_path, read_calibrations, write_calibrations

MODEL_ID = "0123abcd"
BOTH = {"vit.1": bell_shaped_calibration((40, 64)), "qformer": bell_shaped_calibration((4, 8), seed=1)}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / CODEC_FILE
    write_calibrations(path, MODEL_ID, BOTH, "100 pictures")
    return path


def with_about(content: bytes, **changes: object) -> bytes:
    """The file with other words in its header."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["about"])
    header["__metadata__"]["about"] = json.dumps(about | changes)
    changed = json.dumps(header).encode()
    return len(changed).to_bytes(8, "little") + changed + content[8 + length :]


def test_what_is_written_is_what_is_read(written: Path) -> None:
    read = read_calibrations(written, MODEL_ID)
    assert list(read) == ["vit.1", "qformer"]
    for split_point, calibration in read.items():
        assert calibration.digest == BOTH[split_point].digest
        assert calibration.frames == 100
        for field in dataclasses.fields(SplitCalibration):
            assert np.array_equal(getattr(calibration, field.name), getattr(BOTH[split_point], field.name))


def test_the_digest_tells_any_two_apart_that_code_otherwise() -> None:
    calibration = BOTH["qformer"]
    digests = {calibration.digest, dataclasses.replace(calibration, frames=7).digest}
    assert len(digests) == 1  # how many frames were looked at changes no byte
    for field in dataclasses.fields(calibration):
        if field.name != "frames":
            array = getattr(calibration, field.name).copy()
            array.reshape(-1)[-1] += 1
            digests.add(dataclasses.replace(calibration, **{field.name: array}).digest)
    assert len(digests) == 8


def test_a_file_of_another_model_or_version_is_refused(written: Path) -> None:
    with pytest.raises(CodecError, match=rf"made with another model \({MODEL_ID}, not ffff\); make it again with"):
        read_calibrations(written, "ffff")
    content = written.read_bytes()
    written.write_bytes(with_about(content, version=2, novelty=1))
    with pytest.raises(CodecError, match="version 2, here is 1"):
        read_calibrations(written, MODEL_ID)
    written.write_bytes(with_about(content, splits={"vit.7": {"frames": 3}}))
    with pytest.raises(CodecError, match=r"lacks 'vit.7.mean'"):
        read_calibrations(written, MODEL_ID)
    written.write_bytes(with_about(content, more=1))
    with pytest.raises(CodecError, match="cannot be read"):
        read_calibrations(written, MODEL_ID)


def test_a_damaged_file_is_refused_and_nothing_else_happens(written: Path) -> None:
    content = written.read_bytes()
    for cut in (0, 7, 8, 100, len(content) - 1):
        written.write_bytes(content[:cut])
        with pytest.raises(CodecError, match="cannot be read"):
            read_calibrations(written, MODEL_ID)
    random = np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    for _ in range(200):
        torn = bytearray(content)
        torn[random.integers(header)] ^= 1 << random.integers(8)
        written.write_bytes(torn)
        try:
            read_calibrations(written, MODEL_ID)
        except CodecError:
            refused += 1
    assert refused > 150  # the rest are letters of the source
    written.unlink()
    with pytest.raises(CodecError, match="No such file"):
        read_calibrations(written, MODEL_ID)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mean": np.zeros(8, np.float16)}, "mean must have rows and columns"),
        ({"mean": np.zeros((0, 0), np.float16)}, "mean must have rows and columns"),
        ({"channels": np.eye(31, dtype=np.float16)}, r"channels must be float16 \(32, 32\)"),
        ({"scales": np.zeros((1, 32), np.int16)}, "scales must be int8"),
        ({"tokens": np.full((1, 1), np.nan, np.float16)}, "tokens holds a NaN"),
        ({"token_weights": np.zeros(1, np.float32)}, "token_weights must be positive"),
        ({"steps": np.full(61, 1001, np.int16)}, "steps must be within"),
        ({"steps": np.full(61, -32768, np.int16)}, "steps must be within"),
        ({"shapes": np.full((1, 32), 200, np.uint8)}, "shapes must be below"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict, told: str) -> None:
    with pytest.raises(CodecError, match=told):
        dataclasses.replace(BOTH["qformer"], **changes)


def test_a_transform_without_inverse_is_refused() -> None:
    flat = dataclasses.replace(BOTH["qformer"], channels=np.ones((32, 32), np.float16))
    with pytest.raises(CodecError, match="cannot be inverted"):
        _ = flat.inverses


def test_they_are_looked_for_beside_the_model_then_in_the_users_own_folder(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    model = str(tmp_path)
    found, told = find_calibrations(model, MODEL_ID)
    assert {name: each.digest for name, each in found.items()} == {name: each.digest for name, each in BOTH.items()}
    assert told == f"codec klt as calibrated in {written} for vit.1, qformer"
    own = own_calibration_path(MODEL_ID)
    assert own.is_relative_to(tmp_path / "data")
    own.parent.mkdir(parents=True)
    write_calibrations(own, MODEL_ID, {"qformer": BOTH["qformer"]}, "other pictures")
    assert list(find_calibrations(model, MODEL_ID)[0]) == ["vit.1", "qformer"]
    written.write_bytes(b"torn")
    found, told = find_calibrations(model, MODEL_ID)
    assert list(found) == ["qformer"]
    assert told.startswith(f"codec klt as calibrated in {own} for qformer; passed over: codec calibration {written}")
    own.unlink()
    found, told = find_calibrations(model, MODEL_ID)
    assert not found
    assert str(written) in told
    assert told.endswith(f"codec plain; make one with `laim calibrate --model {model}`")
