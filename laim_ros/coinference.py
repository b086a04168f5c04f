"""One frame through the system, without ROS: `RobotHalf` makes packets, `EdgeHalf` makes text of them.

The nodes, the benchmarks and the evaluation drive these same two classes, so what is measured is what runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from laim_ros.codec import HEADER_BYTES, WIRE_VERSION, CodecError, Codecs, Packet, StreamDescription, pack
from laim_ros.models import Generation, ModelError, SplitModel
from laim_ros.models.base import split_index
from laim_ros.plan import Plan
from laim_ros.quantization import Heads, QuantizationError

CAPTION = ""
"""The prompt that asks for a free caption."""

_STREAMS_CACHED = 16
"""Streams whose codecs are kept from frame to frame; each half is used by one thread at a time."""


@dataclass(frozen=True, slots=True)
class Timings:
    """What making the features of one frame took, in seconds of this machine's steady clock, and at how many bits.

    Attributes:
        weight_bits: of the head that ran; it may be replaced between two frames.
    """

    resize_s: float = 0.0
    model_s: float = 0.0
    weight_bits: int = 32


class RobotHalf:
    """The robot's side: picture → boundary tensor → packet.

    Args:
        model: a split model loaded from `input` on.
        robot: name of the robot, carried in stream descriptions.
        heads: where the same model comes from at other bit-widths; None where it stays as it is.
        codecs: with the calibrations that frames are coded by; None finds the model's own.

    Attributes:
        model: in use; `set_weight_bits` replaces it.
        codecs: as given or found.
        choices: what `open` was told about how heads are made; None for a half that was not opened so.

    Raises:
        ModelError: the model is not loaded from `input` on.
    """

    def __init__(self, model: SplitModel, robot: str, heads: Heads | None = None, codecs: Codecs | None = None) -> None:
        if model.first != "input":
            raise ModelError(f"a robot needs the model's stages from 'input' on, these begin after '{model.first}'")
        self.model = model
        self.robot = robot
        self.choices: Mapping[str, str] | None = None
        self.codecs = codecs or Codecs.find(model.name, model.model_id)
        self._heads = heads

    @classmethod
    def open(cls, model: str, robot: str, *, weight_bits: int = 32, **choices: str) -> RobotHalf:
        """Loads a model, so that its bit-width can be changed later.

        Args:
            model: shipped name, local folder or hub id, or a folder that `laim quantize` wrote.
            robot: name of the robot.
            weight_bits: of the head: 1–8, 16, or 32 for the model as it is: float32, or what a packed folder has.
            choices: as `quantization.Heads` takes them: last, device, quantizer, prune, engine.

        Raises:
            ModelError: the model cannot be loaded.
            QuantizationError: or not at so many bits, or not with these choices.
        """
        heads = Heads(model, **choices)
        half = cls(heads.load(weight_bits), robot, heads)
        half.choices = choices
        return half

    @property
    def weight_bits(self) -> int:
        """Bits per weight of the head in use."""
        return self.model.weight_bits

    def bits_for(self, weight_bits: int) -> int:
        """What asking for so many bits comes to; see `Heads.bits_for`."""
        return weight_bits if self._heads is None else self._heads.bits_for(weight_bits)

    def set_weight_bits(self, weight_bits: int, wanted: Callable[[], bool] = lambda: True) -> None:
        """Loads the head at another bit-width and puts it in the place of the one in use.

        Until then, and where loading fails, frames go through the old one: call this from another thread. The tail, if
        this half has one, stays as it is.

        Args:
            weight_bits: 1–8, 16, or 32 for the model as it is.
            wanted: asked now and then whether to go on.

        Raises:
            GivenUpError: it was no longer wanted.
            ModelError: files missing or damaged.
            QuantizationError: the head cannot be had at so many bits; the message says what can.
        """
        before = self.model
        head = self.head_at(weight_bits, wanted)
        if head is not before:
            self.model = head.with_tail_of(before) if before.last == "output" else head

    def head_at(self, weight_bits: int, wanted: Callable[[], bool] = lambda: True) -> SplitModel:
        """The head at a bit-width, beside the one in use; the very model in use where that has so many bits.

        Args:
            weight_bits: 1–8, 16, or 32 for the model as it is.
            wanted: asked now and then whether to go on.

        Returns:
            The stages that this half has, without the tail where it is loaded anew.

        Raises:
            As `set_weight_bits`.
        """
        self.check_weight_bits(weight_bits)
        model = self.model
        if self.bits_for(weight_bits) == model.weight_bits:
            return model
        return self._heads.load(weight_bits, last="qformer" if model.last == "output" else model.last, wanted=wanted)

    def check_weight_bits(self, weight_bits: int) -> None:
        """Whether `set_weight_bits` can be asked for so many.

        Raises:
            QuantizationError: it cannot; the message says what can.
        """
        if self._heads is not None:
            self._heads.check(weight_bits)
        elif weight_bits != self.weight_bits:
            raise QuantizationError(
                f"weight_bits {weight_bits}: this half was given a model of {self.weight_bits} bits and nothing to "
                "load another from; use RobotHalf.open"
            )

    def check(self, plan: Plan) -> None:
        """Whether this half can carry out `plan`.

        Raises:
            ModelError: the split point is unknown to the model, or after the last stage loaded.
            QuantizationError: the head cannot be had at the plan's bit-width.
            CodecError: codec `klt` without a calibration.
        """
        self.check_weight_bits(plan.weight_bits)
        self._check_split_point(plan)
        self.codecs.calibration(plan)

    def _check_split_point(self, plan: Plan) -> None:
        points = self.model.split_points
        split_index(points, plan.split_point)
        if points.index(plan.split_point) > points.index(self.model.last):
            raise ModelError(
                f"split_point '{plan.split_point}' is after '{self.model.last}', the last stage that is loaded; "
                f"choose an earlier one, or load more with last_split: {plan.split_point}"
            )

    def describe(
        self,
        plan: Plan,
        prompts: Sequence[str] = (CAPTION,),
        deadline_s: float = 0.0,
        predictive: bool = False,
    ) -> StreamDescription:
        """The stream that packets of this plan and these prompts belong to.

        Args:
            plan: to be followed.
            prompts: to be answered for each frame.
            deadline_s: age after which a result is no longer wanted; 0 for none.
            predictive: whether frames may be coded as differences, where the plan's codec can.

        Raises:
            ModelError: the split point is unknown to the model, or after the last stage loaded.
            CodecError: a prompt is too long, there are too many, or codec `klt` has no calibration here.
        """
        self._check_split_point(plan)
        shape = self.model.boundary_shape(plan.split_point)
        calibration = self.codecs.calibration(plan)
        coding = ("", False) if calibration is None else (calibration.digest, predictive)
        return _stream(self.robot, self.model.model_id, plan, shape, tuple(prompts), deadline_s, *coding)

    def features(self, image: np.ndarray, split_point: str) -> tuple[np.ndarray, Timings]:
        """The tensor at the split for one picture.

        Args:
            image: uint8 (height, width, 3), RGB, any size.
            split_point: where to stop; at `input` the result is the picture at the model's size.

        Returns:
            float32 of the boundary's shape, or uint8 (H, W, 3) at `input`; and what it took.
        """
        began_s = time.perf_counter()
        model = self.model  # once, as it may be replaced meanwhile
        picture = model.resize(image)
        resized_s = time.perf_counter()
        if split_point == "input":
            return picture, Timings(resized_s - began_s, 0.0, model.weight_bits)
        boundary = model.run(torch.from_numpy(picture[None]), "input", split_point)
        features = boundary[0].to("cpu", torch.float32).numpy()
        return features, Timings(resized_s - began_s, time.perf_counter() - resized_s, model.weight_bits)

    def pack(
        self,
        stream: StreamDescription,
        sequence: int,
        features: np.ndarray,
        began_s: float,
        *,
        reference: int | None = None,
        most_bytes: int = 0,
    ) -> bytes:
        """The packet of one frame.

        Args:
            stream: the stream that the packet belongs to.
            sequence: number of the frame; modulo 2^32 on the wire.
            features: float32 of the stream's shape, or uint8 (H, W, 3) at `input`.
            began_s: when the frame arrived, by `time.perf_counter`; the packet tells the edge how long the robot took.
            reference: in a predictive stream, number of a frame that the edge has decoded; None codes this by itself.
            most_bytes: of the whole packet; the frame is coded coarser until it fits. 0 for no limit.

        Raises:
            CodecError: the features hold a NaN or an infinity, do not have the stream's shape, or do not fit.
        """
        room_bytes = max(1, most_bytes - HEADER_BYTES) if most_bytes else 0
        payload = self.codecs.encode(stream, features, sequence, reference, room_bytes)
        return pack(Packet(stream.stream_id, sequence, payload, robot_s=time.perf_counter() - began_s))

    def finish(self, features: np.ndarray, prompts: Sequence[str], generation: Generation) -> list[str]:
        """The texts, one per prompt, where the robot itself runs the tail (split point `output`).

        Args:
            features: float32 (Q, D), the boundary after `qformer`.
        """
        return _texts(self.model, torch.from_numpy(features[None]), [prompts], generation)[0]


class EdgeHalf:
    """The edge's side: packets of any streams → text.

    Args:
        model: a split model loaded up to `output`.
        codecs: with the calibrations that frames are coded by; None finds the model's own.

    Attributes:
        codecs: as given or found.

    Raises:
        ModelError: the model is not loaded up to `output`.
    """

    def __init__(self, model: SplitModel, codecs: Codecs | None = None) -> None:
        if model.last != "output":
            raise ModelError(f"an edge needs the model's stages up to 'output', these end at '{model.last}'")
        self.model = model
        self.codecs = codecs or Codecs.find(model.name, model.model_id)

    def check(self, stream: StreamDescription) -> None:
        """Whether this edge can finish packets of `stream`.

        Raises:
            CodecError: another model, a split point before the first stage loaded, a shape that is not the model's, or
                a calibration of the codec that this side does not have.
        """
        points = self.model.split_points
        if stream.model_id != self.model.model_id:
            raise CodecError(
                f"robot '{stream.robot}' runs model {stream.model_id}, this edge {self.model.model_id} "
                f"({self.model.name}); give both the same model"
            )
        split_point = stream.plan.split_point
        if split_point not in points or split_point == "output":
            raise CodecError(f"there is nothing to finish after split point '{split_point}' of {self.model.name}")
        if points.index(split_point) < points.index(self.model.first):
            raise CodecError(
                f"split point '{split_point}' is before '{self.model.first}', the first that this edge serves; "
                f"load more with first_split: {split_point}"
            )
        expected = tuple(self.model.boundary_shape(split_point))
        if tuple(stream.shape) != expected:
            raise CodecError(f"shape {tuple(stream.shape)} at '{split_point}' is not the model's {expected}")
        self.codecs.check(stream)

    def decode(
        self, stream: StreamDescription, payload: bytes, sequence: int = 0, codecs: Codecs | None = None
    ) -> np.ndarray:
        """The boundary tensor in a payload: float32 of the stream's shape, or uint8 (H, W, 3) at `input`.

        Args:
            stream: the stream that it came in (checked).
            payload: of the packet.
            sequence: of the packet, which predictive streams need.
            codecs: of the packet's sender, `codecs.for_sender()`; None where there is but one.

        Raises:
            CodecError: the payload is damaged, is not what the stream promises, or refers to a frame not decoded here.
        """
        return (codecs or self.codecs).decode(stream, payload, sequence)

    def finish(self, frames: Sequence[tuple[StreamDescription, np.ndarray]], generation: Generation) -> list[list[str]]:
        """The texts of several frames, in their order: those at the same split point run as one batch.

        Args:
            frames: pairs of a stream (checked) and its decoded tensor.

        Returns:
            one list per frame with a text per prompt of its stream.
        """
        texts: list[list[str]] = [[] for _ in frames]
        for split_point in {stream.plan.split_point for stream, _ in frames}:
            rows = [row for row, (stream, _) in enumerate(frames) if stream.plan.split_point == split_point]
            batch = torch.from_numpy(np.stack([frames[row][1] for row in rows]))
            features = batch if split_point == "qformer" else self.model.run(batch, split_point, "qformer")
            prompts = [frames[row][0].prompts for row in rows]
            for row, result in zip(rows, _texts(self.model, features, prompts, generation), strict=True):
                texts[row] = result
        return texts


@lru_cache(_STREAMS_CACHED)
def _stream(
    robot: str,
    model_id: str,
    plan: Plan,
    shape: tuple[int, ...],
    prompts: tuple[str, ...],
    deadline_s: float,
    calibration: str,
    predictive: bool,
) -> StreamDescription:
    # Not a method: a cache that holds `self` would keep the model's weights after the half is let go.
    return StreamDescription(
        wire=WIRE_VERSION,
        robot=robot,
        model_id=model_id,
        plan=plan,
        shape=shape,
        prompts=prompts,
        deadline_s=deadline_s,
        calibration=calibration,
        predictive=predictive,
    )


def _texts(
    model: SplitModel, features: torch.Tensor, prompts: Sequence[Sequence[str]], generation: Generation
) -> list[list[str]]:
    """One text per prompt and frame; a frame with several prompts is repeated along the batch."""
    counts = [len(row) for row in prompts]
    repeated = features.repeat_interleave(torch.tensor(counts, device=features.device), dim=0)
    texts = iter(model.generate(repeated, [prompt for row in prompts for prompt in row], generation))
    return [[next(texts) for _ in range(count)] for count in counts]
