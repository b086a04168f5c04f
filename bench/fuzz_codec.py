"""Fuzzing guided by coverage of everything that decodes bytes from another machine: `make fuzz`.

`decode_anything` takes any bytes: the first chooses what they are taken for (a packet, a stream description, a payload
of one of several streams), the rest is that. Nothing but CodecError may come out. `test/codec/corpus/` holds one input
for each way through the decoders that fuzzing has found; the tests decode them all.

    python -m bench.fuzz_codec [--seconds 60] [--keep]     needs atheris, for x86-64 and Python up to 3.13
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from laim_ros.codec import (
    WIRE_VERSION,
    CodecError,
    Codecs,
    Packet,
    SplitCalibration,
    StreamDescription,
    pack,
    unpack,
)
from laim_ros.codec.picture import picture_formats_here
from laim_ros.codec.probabilities import SHAPES
from laim_ros.plan import MOST_DECIBELS, Plan

CORPUS = Path(__file__).parents[1] / "test" / "codec" / "corpus"
LARGEST_INPUT_BYTES = 4096
"""Beyond, nothing new happens: a picture of 32 × 32 and all features here take less."""

_SMALL, _LARGE, _PICTURE = (4, 32), (40, 64), (32, 32, 3)


def made_calibration(rows: int, columns: int, seed: int = 0) -> SplitCalibration:
    """A calibration with random rotations, and standard deviations that fall from coefficient to coefficient."""
    random = np.random.default_rng(seed)

    def rotation(size: int) -> np.ndarray:
        return np.linalg.qr(random.standard_normal((size, size)))[0].astype(np.float16)

    scales = np.linspace(12, -40, rows * columns).reshape(rows, columns)
    return SplitCalibration(
        mean=random.standard_normal((rows, columns)).astype(np.float16),
        token_weights=np.linspace(1, 2, rows, dtype=np.float32),
        channels=rotation(columns),
        tokens=rotation(rows),
        scales=np.round(scales).astype(np.int8),
        shapes=(np.arange(rows * columns).reshape(rows, columns) % len(SHAPES)).astype(np.uint8),
        steps=np.round(8 * (2 - np.arange(MOST_DECIBELS + 1) / 6.02)).astype(np.int16),
        frames=100,
    )


@dataclass(frozen=True)
class Subject:
    """One thing that bytes may be taken for.

    Attributes:
        decode: takes bytes; raises CodecError alone.
        good: makes a few inputs that decode, from a random generator.
    """

    decode: Callable[[bytes], object]
    good: Callable[[np.random.Generator], Sequence[bytes]]


@cache
def subjects() -> tuple[Subject, ...]:
    """What bytes may be taken for."""
    codecs = Codecs({"qformer": made_calibration(1, 128), "vit.2": made_calibration(*_LARGE)})
    klt = [
        _payloads(codecs, split_point, "klt", bits, shape, predictive)
        for split_point, shape in (("qformer", _SMALL), ("vit.2", _LARGE))
        for bits, predictive in ((2, False), (8, False), (4, True))
    ]
    plain = [_payloads(codecs, "vision", "plain", bits, _SMALL) for bits in (1, 3, 8, 16, 32)]
    pictures = [_payloads(codecs, "input", f"{kind}50", 8, _PICTURE) for kind in picture_formats_here()]
    packet = Subject(unpack, lambda random: [pack(Packet(5, 6, random.bytes(20)))])
    stream = StreamDescription(WIRE_VERSION, "robot", "00", Plan(), (8, 128))
    description = Subject(StreamDescription.from_json, lambda random: [stream.to_json().encode()])
    return packet, description, *klt, *plain, *pictures


def _payloads(
    codecs: Codecs, split_point: str, codec: str, bits: int, shape: tuple[int, ...], predictive: bool = False
) -> Subject:
    """Payloads of one stream; a predictive one has decoded frame 6, and the next is frame 7."""
    plan = Plan(split_point, 32, bits, codec)
    calibration = codecs.calibration(plan)
    digest = calibration.digest if calibration else ""
    stream = StreamDescription(WIRE_VERSION, "robot", "00", plan, shape, calibration=digest, predictive=predictive)

    def decode(payload: bytes) -> None:
        if predictive:
            codecs.decode(stream, first, 6)
        array = codecs.decode(stream, payload, 7)
        assert array.shape == shape
        assert np.isfinite(array).all()

    def frame(random: np.random.Generator) -> np.ndarray:
        if plan.sends_picture:
            return random.integers(0, 256, shape, np.uint8)
        return random.standard_normal(shape, np.float32)

    def good(random: np.random.Generator) -> list[bytes]:
        usual, strange = frame(random), frame(random)
        if not plan.sends_picture:
            strange *= 1000
        return [codecs.encode(stream, each, 7, 6) for each in (usual, strange)]

    first = codecs.encode(stream, frame(np.random.default_rng(1)), 6) if predictive else b""
    return Subject(decode, good)


def decode_anything(data: bytes) -> bool:
    """Takes bytes for what their first says; True where they decode.

    Raises:
        Exception: a fault of the decoders, which raise nothing but CodecError.
    """
    subject = subjects()[data[0] % len(subjects()) if data else 0]
    with contextlib.suppress(CodecError):
        subject.decode(data[1:])
        return True
    return False


def seeds() -> list[bytes]:
    """Inputs that decode, one for every subject, to begin with."""
    random = np.random.default_rng(0)
    found = []
    for number, subject in enumerate(subjects()):
        found += [bytes([number]) + payload for payload in subject.good(random)]
    return found


_FUZZ = f"""#!{sys.executable}
import sys, atheris
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
with atheris.instrument_imports(include=["laim_ros.codec"]):
    from bench.fuzz_codec import decode_anything
def once(data):
    decode_anything(data)
atheris.Setup(sys.argv, once)
atheris.Fuzz()
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the fuzzer; exit status 0 where it found nothing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: 60)")
    parser.add_argument(
        "--keep", action="store_true", help=f"replace {CORPUS.name}/ by the smallest set that covers it"
    )
    options = parser.parse_args(arguments)
    if find_spec("atheris") is None:
        sys.exit("atheris is not installed; `make fuzz` sets it up (x86-64, Python 3.11 to 3.13)")
    with tempfile.TemporaryDirectory() as folder:
        work, begun = Path(folder, "work"), Path(folder, "begun")
        for path in (work, begun):
            path.mkdir()
        for number, data in enumerate(seeds()):
            (begun / f"seed{number:02d}").write_bytes(data)
        limits = [f"-max_len={LARGEST_INPUT_BYTES}", "-rss_limit_mb=2000", "-timeout=10", f"-artifact_prefix={folder}/"]
        script = Path(folder, "fuzz.py")  # merging starts it again, by its name alone
        script.write_text(_FUZZ)
        script.chmod(0o755)
        fuzz = [sys.executable, str(script), *limits]
        CORPUS.mkdir(exist_ok=True)
        status = subprocess.call([*fuzz, f"-max_total_time={options.seconds}", str(work), str(begun), str(CORPUS)])
        for found in Path(folder).glob("*-*"):
            print(f"{found.name}: {found.read_bytes().hex()}")
        if options.keep and status == 0:
            smallest = Path(folder, "smallest")
            smallest.mkdir()
            subprocess.check_call([*fuzz, "-merge=1", str(smallest), str(begun), str(CORPUS), str(work)])
            shutil.rmtree(CORPUS)
            shutil.copytree(smallest, CORPUS)
            print(f"{len(list(CORPUS.iterdir()))} inputs in {CORPUS}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
