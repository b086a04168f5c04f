"""`Meter`: runs frames through both halves in every way that is asked for, and says what each does to the output."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from laim_ros.codec import unpack
from laim_ros.coinference import CAPTION, EdgeHalf, RobotHalf
from laim_ros.evaluation.errors import EvaluationError
from laim_ros.evaluation.frames import Frames
from laim_ros.evaluation.metrics import cider_d, has_cider
from laim_ros.models import Generation
from laim_ros.models.base import split_index
from laim_ros.plan import Plan
from laim_ros.planning.quality import QualityRow
from laim_ros.quantization import Heads
from laim_ros.scenes import caption_truth

_BATCH = 32
"""Frames run together. The same for the reference and all rows, so that nothing but the plan makes a difference."""

_ROBOT = "calibrate"


class Meter:
    """Measures plans of one model on the same frames, through the same halves and packets that robots use.

    The reference is the unsplit float32 model: what the edge runs. It is run here, once. Held in memory are one head
    at a time beside the edge's model, and the frames' tensors at one split point.

    Args:
        edge: with the whole model, and the calibrations of the feature codec that the robot's half uses, too.
        heads: where the robot's half comes from.
        frames: what to look at.
        tick: told of work done; all of it is `work`.

    Attributes:
        true_share: of the reference's captions, how many are true and complete; None where the frames have no truth.
        cider_d: the reference's CIDEr-D; None without references or without pycocoevalcap.

    Raises:
        EvaluationError: an edge that has not the whole model.
    """

    def __init__(
        self, edge: EdgeHalf, heads: Heads, frames: Frames, tick: Callable[[int], object] = lambda work: None
    ) -> None:
        if edge.model.first != "input":
            raise EvaluationError(f"the edge's model begins after '{edge.model.first}'; measuring takes all of it")
        self._edge, self._heads, self._frames, self._tick = edge, heads, frames, tick
        self._points = edge.model.split_points
        self._whole = RobotHalf(edge.model, _ROBOT, codecs=edge.codecs)
        self._finishing = self._whole.describe(Plan("qformer", 32, 32))
        self._said: dict[bytes, list[str]] = {}
        self._reference: list[torch.Tensor] = []
        self._texts: list[str] = []
        for pictures in self._pictures():
            self._reference.append(_to_cpu(edge.model.run(pictures, "input", "qformer")))
            self._texts += self._captions(self._reference[-1])
            tick(len(self._points) - 1)
        self._magnitude = sum(_sum_of_magnitudes(features) for features in self._reference)
        self.true_share, self.cider_d = self._scores(self._texts)

    @staticmethod
    def work(plans: Sequence[Plan], points: Sequence[str], frames: int) -> int:
        """All that `tick` will be told while these are measured, the reference included.

        Args:
            plans: as given to `rows`.
            points: all split points of the model.
            frames: how many.
        """
        stages = len(points) - 1 + sum(_stages_after(points, plan.split_point) for plan in plans)
        for bits in {plan.weight_bits for plan in plans}:
            stages += max(split_index(points, _stop(plan)) for plan in plans if plan.weight_bits == bits)
        return stages * -(-frames // _BATCH)

    def rows(self, plans: Sequence[Plan]) -> Iterator[QualityRow]:
        """Measures plans, width by width and from the first split point to the last.

        A head is loaded once and run once, from split point to split point.

        Args:
            plans: as `Grid` makes them, each once.

        Raises:
            QuantizationError, ModelError: a head that cannot be had so.
            CodecError: features that cannot be coded.
        """
        for weight_bits in dict.fromkeys(plan.weight_bits for plan in plans):
            yield from self._rows_of_head([plan for plan in plans if plan.weight_bits == weight_bits])

    def _rows_of_head(self, plans: Sequence[Plan]) -> Iterator[QualityRow]:
        robot, at, batches = self._robot(plans), "input", list(self._pictures())
        for split_point in sorted({plan.split_point for plan in plans}, key=self._points.index):
            here = [plan for plan in plans if plan.split_point == split_point]
            stop = _stop(here[0])
            stages = split_index(self._points, stop) - split_index(self._points, at)
            # One by one in their places: a whole set of the tokens of a vision tower takes a gigabyte.
            for number, batch in enumerate(batches if stages else ()):
                batches[number] = _to_cpu(robot.model.run(batch, at, stop))
                self._tick(stages)
            at = stop
            for plan in here:
                yield self._row(robot, plan, batches)

    def _robot(self, plans: Sequence[Plan]) -> RobotHalf:
        """The half that runs plans of one width."""
        last = max((_stop(plan) for plan in plans), key=self._points.index)
        if last == "input":  # a picture is all that it makes
            return self._whole
        return RobotHalf(self._heads.load(plans[0].weight_bits, last=last), _ROBOT, codecs=self._edge.codecs)

    def _row(self, robot: RobotHalf, plan: Plan, batches: Sequence[torch.Tensor]) -> QualityRow:
        sizes: list[int] = []
        texts: list[str] = []
        difference = 0.0
        for batch, reference in zip(batches, self._reference, strict=True):
            features = batch
            if plan.split_point != "output":
                features = self._received(robot, plan, batch, sizes)
            if _stop(plan) != "qformer":
                features = _to_cpu(self._edge.model.run(features, plan.split_point, "qformer"))
            difference += _sum_of_magnitudes(features - reference)
            texts += self._captions(features)
            self._tick(_stages_after(self._points, plan.split_point))
        true_share, cider = self._scores(texts)
        return QualityRow(
            split_point=plan.split_point,
            weight_bits=plan.weight_bits,
            feature_bits=plan.feature_bits,
            codec=plan.codec,
            packet_bytes=round(float(np.mean(sizes)), 1) if sizes else 0.0,
            packet_bytes_p95=round(float(np.quantile(sizes, 0.95)), 1) if sizes else 0.0,
            distortion=round(difference / self._magnitude, 6),
            same_share=_rounded_share(text == same for text, same in zip(texts, self._texts, strict=True)),
            true_share=true_share,
            cider_d=cider,
        )

    def _received(self, robot: RobotHalf, plan: Plan, batch: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        """What the edge decodes of the packets that the robot makes of these frames; notes the packets' sizes."""
        stream = robot.describe(plan)
        self._edge.check(stream)
        decoded = []
        for sequence, frame in enumerate(batch.numpy()):
            packet = robot.pack(stream, sequence, frame, time.perf_counter())
            sizes.append(len(packet))
            decoded.append(self._edge.decode(stream, unpack(packet).payload))
        return torch.from_numpy(np.stack(decoded))

    def _captions(self, features: torch.Tensor) -> list[str]:
        """A caption per frame of the Q-Former's features; equal ones are not captioned twice."""
        array = features.numpy()
        key = hashlib.blake2b(array.tobytes(), digest_size=16).digest()
        if key not in self._said:
            finished = self._edge.finish([(self._finishing, frame) for frame in array], Generation())
            self._said[key] = [texts[self._finishing.prompts.index(CAPTION)] for texts in finished]
        return self._said[key]

    def _scores(self, texts: Sequence[str]) -> tuple[float | None, float | None]:
        """Share of true and complete captions, and CIDEr-D."""
        scenes = self._frames.scenes
        if not scenes:
            return None, None
        truths = (caption_truth(text, scene) for text, scene in zip(texts, scenes, strict=True))
        true_share = _rounded_share(truth.true and truth.complete for truth in truths)
        return true_share, cider_d(scenes, texts) if has_cider() else None

    def _pictures(self) -> Iterator[torch.Tensor]:
        yield from torch.from_numpy(self._frames.pixels).split(_BATCH)


def _stop(plan: Plan) -> str:
    """Where the head's features end: with `output` too they are the Q-Former's."""
    return "qformer" if plan.split_point == "output" else plan.split_point


def _stages_after(points: Sequence[str], split_point: str) -> int:
    """Roughly what a row costs per batch: a vision block, the Q-Former and a text each count one."""
    return max(1, len(points) - 1 - split_index(points, split_point))


def _to_cpu(features: torch.Tensor) -> torch.Tensor:
    return features.to("cpu", torch.float32)


def _sum_of_magnitudes(features: torch.Tensor) -> float:
    return float(features.abs().sum(dtype=torch.float64))


def _rounded_share(truths: Iterator[bool]) -> float:
    truths = list(truths)
    return round(sum(truths) / len(truths), 6)
