"""What the levels that codec `klt` writes would take at best, and how constriction codes the same."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

import laim_ros.codec.klt
from laim_ros.codec import Codecs, StreamDescription
from laim_ros.codec.ans import LevelReader, LevelWriter
from laim_ros.codec.probabilities import cost_bits

CONSTRICTION = "constriction"
_SMALLEST_PROBABILITY = 2.0**-24


@dataclass(frozen=True, slots=True, eq=False)
class CodedLevels:
    """The levels in the payloads of one stream.

    Attributes:
        levels: int32 (frames, K).
        classes: uint16 (frames, K), the models that they were coded with.
    """

    levels: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, codecs: Codecs, stream: StreamDescription, payloads: Sequence[bytes]) -> CodedLevels:
        """Decodes payloads and keeps what their levels were."""
        with _recorded() as found:
            for number, payload in enumerate(payloads):
                codecs.decode(stream, payload, number)
        return cls(*(np.stack(arrays) for arrays in zip(*found, strict=True)))

    def entropy_bytes(self, corrected: bool = True) -> float:
        """Bytes per frame of an ideal code that knows how often each coefficient had each level in these very frames.

        Sum over the coefficients of the empirical entropy. That is below the entropy of the source, as it is measured
        on what it was estimated from; with `corrected`, by Miller and Madow's term, (levels seen - 1) / (2 frames ln 2)
        bits for each coefficient, it still is where most levels were seen once.
        """
        frames = len(self.levels)
        bits = 0.0
        for column in self.levels.T[self.levels.any(axis=0)]:
            counts = np.unique(column, return_counts=True)[1]
            shares = counts / frames
            bits -= float(shares @ np.log2(shares))
            if corrected:
                bits += (len(counts) - 1) / (2 * frames * np.log(2))
        return float(bits) / 8

    def model_bytes(self) -> float:
        """Bytes per frame that an ideal coder would need with the codec's own models."""
        bits = (cost_bits(levels, classes).sum() for levels, classes in zip(self.levels, self.classes, strict=True))
        return float(np.mean(list(bits))) / 8


@contextmanager
def _recorded() -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Within, collects the levels that codec `klt` reads: those that were really in the payload."""
    found: list[tuple[np.ndarray, np.ndarray]] = []

    class Recorder(LevelReader):
        def levels(self, classes: np.ndarray) -> np.ndarray:
            levels = super().levels(classes)
            found.append((levels.copy(), classes))
            return levels

    laim_ros.codec.klt.LevelReader = Recorder
    try:
        yield found
    finally:
        laim_ros.codec.klt.LevelReader = LevelReader


def has_constriction() -> bool:
    """Whether the peer can be had here."""
    return find_spec(CONSTRICTION) is not None


def compared(coded: CodedLevels, frames: int = 200) -> list[dict]:
    """Sizes and times of entropy coders on the same levels with the same models.

    constriction's coders get the probabilities of our classes, level by level up to the largest that occurs (they
    need to know it, ours does not), and the levels sorted by class, so that each class is one call.

    Args:
        coded: levels of one stream.
        frames: how many of them are timed.

    Returns:
        a row for each coder: `coder`, `bytes` (mean), `encode_s`, `decode_s` (medians of processor time).
    """
    levels, classes = coded.levels[:frames], coded.classes[:frames]
    if not (classes == classes[0]).all():
        raise ValueError("frames of one step only: constriction's models are made once")
    coders = [_Ours(classes[0])]
    if has_constriction():
        largest = int(np.abs(levels).max()) + 1
        coders += [_Constriction(classes[0], largest, kind) for kind in ("range", "ans")]
    return [_measured(coder, levels) for coder in coders]


def _measured(coder: _Ours | _Constriction, levels: np.ndarray) -> dict:
    sizes, encode_s, decode_s = [], [], []
    for each in levels:
        began_s = time.process_time()
        data = coder.encode(each)
        encoded_s = time.process_time()
        decoded = coder.decode(data)
        decode_s.append(time.process_time() - encoded_s)
        encode_s.append(encoded_s - began_s)
        sizes.append(len(data))
        if not np.array_equal(decoded, each):
            raise ValueError(f"{coder.name} decodes other levels than it was given")
    return {
        "coder": coder.name,
        "bytes": round(float(np.mean(sizes)), 2),
        "encode_s": float(np.median(encode_s)),
        "decode_s": float(np.median(decode_s)),
    }


class _Ours:
    """What codec `klt` writes its levels with."""

    name = "ours"

    def __init__(self, classes: np.ndarray) -> None:
        self._classes = classes

    def encode(self, levels: np.ndarray) -> bytes:
        writer = LevelWriter()
        writer.levels(levels, self._classes)
        return writer.to_bytes()

    def decode(self, data: bytes) -> np.ndarray:
        reader = LevelReader(data)
        levels = reader.levels(self._classes)
        reader.end()
        return levels


class _Constriction:
    """constriction's range coder or its asymmetric numeral systems."""

    def __init__(self, classes: np.ndarray, largest: int, kind: str) -> None:
        from constriction import stream

        self.name = f"{CONSTRICTION} {kind}"
        self._stream, self._kind, self._largest, self._size = stream, kind, largest, classes.size
        self._models = []
        values = np.arange(-largest, largest + 1, dtype=np.int32)
        for number in np.unique(classes):
            probabilities = np.exp2(-cost_bits(values, np.full(values.size, number, np.uint16)).astype(np.float64))
            probabilities = np.maximum(probabilities, _SMALLEST_PROBABILITY)
            model = stream.model.Categorical(probabilities / probabilities.sum(), perfect=False)
            self._models.append((np.flatnonzero(classes == number), model))

    def encode(self, levels: np.ndarray) -> bytes:
        symbols = levels + np.int32(self._largest)
        if self._kind == "range":
            coder = self._stream.queue.RangeEncoder()
            for places, model in self._models:
                coder.encode(symbols[places], model)
        else:
            coder = self._stream.stack.AnsCoder()
            for places, model in reversed(self._models):
                coder.encode_reverse(symbols[places], model)
        return coder.get_compressed().tobytes()

    def decode(self, data: bytes) -> np.ndarray:
        words = np.frombuffer(data, np.uint32)
        coder = self._stream.queue.RangeDecoder(words) if self._kind == "range" else self._stream.stack.AnsCoder(words)
        levels = np.empty(self._size, np.int32)
        for places, model in self._models:
            levels[places] = coder.decode(model, places.size)
        return levels - np.int32(self._largest)
