"""Every codec on the same held-out scenes, through `RobotHalf` and `EdgeHalf`: bytes, truth, CIDEr-D and times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bench.codec_coders import CodedLevels
from laim_ros.codec import HEADER_BYTES, CodecError, StreamDescription, unpack
from laim_ros.coinference import CAPTION, EdgeHalf, RobotHalf
from laim_ros.evaluation.frames import Frames, scene_frames
from laim_ros.evaluation.metrics import cider_d, has_cider
from laim_ros.models import Generation, load
from laim_ros.models.identity import find_whole
from laim_ros.plan import FEATURE_CODECS, Plan, codes_by_calibration, klt_decibels
from laim_ros.scenes import Scene, caption_truth

MODEL = "laim-mini-blip2"
SPLIT_POINTS = ("qformer", "vision", "vit.2")

_BATCH = 100
"""Frames run together: the same for all rows, so that nothing but the codec makes a difference."""

_KLT_BITS = range(1, 9)
_KLT_DECIBELS = (2, 3, 4, 5, 7, 8, 10, 11, 14, 16, 20, 22, 26)
"""Multiples of 6 are what whole `feature_bits` ask for."""
_PLAIN_BITS = (1, 2, 3, 4, 6, 8)
_LARGE_DECIBELS = (4, 5, 8, 10, 14, 16)
_LARGE_BITS = (1, 2, 3)
_LARGE_PLAIN_BITS = (2, 4)
_QUALITIES = {
    "jpeg": (5, 10, 15, 25, 40, 60, 75, 90),
    "webp": (1, 5, 10, 20, 40, 60, 75, 90),
    "avif": (5, 10, 20, 30, 40, 50, 65, 80),
}


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What one codec does at one split point.

    Attributes:
        codec: its name in a plan.
        split: split point.
        feature_bits: of the plan; 0 where the codec does not use it.
        decibels: signal-to-distortion ratio that codec `klt` is asked for; 0 for the others.
        payload_bytes, packet_bytes: means over the frames.
        payload_bytes_most: of any frame.
        truth: share of captions that are true and complete.
        below: how much that is below the captions of the uncompressed features of the same frames.
        below_error: standard error of `below`: of the mean of the frames' differences.
        cider_d: None without pycocoevalcap.
        entropy_bytes, plug_in_bytes: per frame, of an ideal code of the levels in the payloads, see
            `CodedLevels.entropy_bytes`, with and without its correction; None for other codecs than `klt`.
        model_bytes: per frame, of an ideal coder with the codec's own models; None for other codecs than `klt`.
        encode_s: median of `RobotHalf.pack`, processor time.
        decode_s: median of `unpack` and `EdgeHalf.decode`, processor time.
        true_frames: bool (frames,), which captions are true and complete.
    """

    codec: str
    split: str
    feature_bits: int
    decibels: int
    payload_bytes: float
    packet_bytes: float
    payload_bytes_most: int
    truth: float
    below: float
    below_error: float
    cider_d: float | None
    entropy_bytes: float | None
    plug_in_bytes: float | None
    model_bytes: float | None
    encode_s: float
    decode_s: float
    true_frames: np.ndarray = field(repr=False)

    @property
    def name(self) -> str:
        """For people, such as `klt 4 bits`."""
        return f"{self.codec} {self.feature_bits} bits" if self.feature_bits else self.codec

    @property
    def family(self) -> str:
        """`klt`, `plain`, `jpeg`, `webp` or `avif`."""
        return self.codec.rstrip("0123456789")

    def to_json(self) -> dict:
        """All but the frames."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "true_frames"}


def plans(points: Sequence[str], calibrated: Sequence[str]) -> list[Plan]:
    """What is measured.

    Args:
        points: split points with features.
        calibrated: those that codec `klt` is calibrated at.
    """
    found = []
    for point in points:
        small = point == "qformer"
        if point in calibrated:
            found += [Plan(point, 32, bits, "klt") for bits in (_KLT_BITS if small else _LARGE_BITS)]
            found += [Plan(point, 32, 8, f"klt{ratio}") for ratio in (_KLT_DECIBELS if small else _LARGE_DECIBELS)]
        found += [Plan(point, 32, bits, "plain") for bits in (_PLAIN_BITS if small else _LARGE_PLAIN_BITS)]
    found += [Plan("input", 32, 8, f"{kind}{quality}") for kind, each in _QUALITIES.items() for quality in each]
    return found


class Halves:
    """Robot and edge with the shipped model, and held-out scenes.

    Args:
        scenes: how many; 0 draws none.

    Attributes:
        robot, edge: the halves, of one float32 model.
        frames: the scenes' pictures at the model's size; None without.
        truth, cider_d, true_frames: of the captions of uncompressed features.
    """

    def __init__(self, scenes: int) -> None:
        model = load(find_whole(MODEL))
        self.robot, self.edge = RobotHalf(model, "bench"), EdgeHalf(model)
        self._features: dict[str, np.ndarray] = {}
        self._known: dict[tuple[int, str], bool] = {}
        self.frames: Frames | None = None
        if scenes:
            self.frames = scene_frames(scenes, model.resize)
            texts = self.captions(self.robot.describe(Plan("qformer", 32, 32)), self.features("qformer"))
            self.true_frames, self.cider_d = self.scores(texts)
            self.truth = float(self.true_frames.mean())

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """What is to be seen in each frame."""
        return self.frames.scenes

    def features(self, split_point: str) -> np.ndarray:
        """Of all frames: float32 (frames, *shape), or uint8 at `input`."""
        if split_point not in self._features:
            self._features[split_point] = self.features_of(self.frames.pixels, split_point)
        return self._features[split_point]

    def features_of(self, pixels: np.ndarray, split_point: str) -> np.ndarray:
        """Of pictures of the model's size: float32 (frames, *shape), or uint8 at `input`."""
        if split_point == "input":
            return pixels
        batches = torch.from_numpy(pixels).split(_BATCH)
        return np.concatenate([self.robot.model.run(batch, "input", split_point).numpy() for batch in batches])

    def captions(self, stream: StreamDescription, decoded: np.ndarray) -> list[str]:
        """What the edge says of frames of a stream."""
        texts = []
        for start in range(0, len(decoded), _BATCH):
            frames = [(stream, frame) for frame in decoded[start : start + _BATCH]]
            texts += [said[stream.prompts.index(CAPTION)] for said in self.edge.finish(frames, Generation())]
        return texts

    def scores(self, texts: Sequence[str]) -> tuple[np.ndarray, float | None]:
        """Which captions of the frames are true and complete, bool (frames,), and their CIDEr-D."""
        true = np.array([self._is_true(number, text) for number, text in enumerate(texts)])
        return true, cider_d(self.scenes, texts) if has_cider() else None

    def _is_true(self, number: int, text: str) -> bool:
        if (number, text) not in self._known:
            truth = caption_truth(text, self.scenes[number])
            self._known[number, text] = truth.true and truth.complete
        return self._known[number, text]

    def row(self, plan: Plan) -> Row:
        """Measures one plan on all frames."""
        stream = self.robot.describe(plan)
        self.edge.check(stream)
        features = self.features(plan.split_point)
        payloads, encode_s, decode_s = [], [], []
        decoded = np.empty_like(features)
        for number, frame in enumerate(features):
            # Processor time: unlike the clock's it hardly changes while the machine does other work.
            began_s = time.process_time()
            packet = self.robot.pack(stream, number, frame, time.perf_counter())
            packed_s = time.process_time()
            payloads.append(unpack(packet).payload)
            decoded[number] = self.edge.decode(stream, payloads[-1], number)
            decode_s.append(time.process_time() - packed_s)
            encode_s.append(packed_s - began_s)
        true, cider = self.scores(self.captions(stream, decoded))
        below = self.true_frames.astype(float) - true
        sizes = [len(payload) for payload in payloads]
        by_calibration = codes_by_calibration(plan)
        ideal = (None, None, None)
        if by_calibration:
            coded = CodedLevels.of(self.edge.codecs, stream, payloads)
            ideal = tuple(
                round(each, 3) for each in (coded.entropy_bytes(), coded.entropy_bytes(False), coded.model_bytes())
            )
        return Row(
            codec=plan.codec,
            split=plan.split_point,
            feature_bits=plan.feature_bits if plan.codec in FEATURE_CODECS else 0,
            decibels=klt_decibels(plan) if by_calibration else 0,
            payload_bytes=round(float(np.mean(sizes)), 3),
            packet_bytes=round(float(np.mean(sizes)) + HEADER_BYTES, 3),
            payload_bytes_most=max(sizes),
            truth=round(float(true.mean()), 4),
            below=round(float(below.mean()), 4),
            below_error=round(float(below.std() / np.sqrt(len(below))), 4),
            cider_d=cider,
            entropy_bytes=ideal[0],
            plug_in_bytes=ideal[1],
            model_bytes=ideal[2],
            encode_s=float(np.median(encode_s)),
            decode_s=float(np.median(decode_s)),
            true_frames=true,
        )


def measured_rows(halves: Halves, show: Callable[[str], object]) -> Iterator[Row]:
    """Rows of all plans that can be had here.

    Args:
        halves: with scenes.
        show: told of codecs that are left out, and why.
    """
    calibrated = halves.robot.codecs.calibrations
    missing = [point for point in SPLIT_POINTS if point not in calibrated]
    if missing:
        show(f"codec klt is not calibrated at {', '.join(missing)} ({halves.robot.codecs.source})")
    left_out: set[str] = set()
    for plan in plans(SPLIT_POINTS, calibrated):
        family = plan.codec.rstrip("0123456789")
        if family in left_out:
            continue
        try:
            yield halves.row(plan)
        except CodecError as error:
            if not plan.sends_picture:
                raise
            # Which formats OpenCV writes is up to its build.
            left_out.add(family)
            show(f"{family} left out: {error}")
