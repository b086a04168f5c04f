"""What every split model shares: an ordered list of named stages, the checks around it, and its errors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from laim_ros.models.errors import ModelError
from laim_ros.models.pictures import PicturePreparation


@dataclass(frozen=True, slots=True)
class Generation:
    """How text is generated.

    Attributes:
        num_beams: width of the beam search; 1 is greedy decoding.
        max_new_tokens: the longest text, in tokens.

    Raises:
        ModelError: one of them is below 1.
    """

    num_beams: int = 1
    max_new_tokens: int = 30

    def __post_init__(self) -> None:
        for name in ("num_beams", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} {getattr(self, name)} must be at least 1")


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a split model.

    Attributes:
        name: the split point right after this stage, such as `vit.3`.
        function: takes the batch at the split point before (B, ...) and returns the batch at this one.
    """

    name: str
    function: Callable[[torch.Tensor], torch.Tensor]


class Tail(Protocol):
    """What follows the last stage: from features to text."""

    def generate_ids(
        self, features: torch.Tensor, prompts: Sequence[str], generation: Generation
    ) -> list[list[int]]: ...

    def logits(self, features: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class HeadBuilder(Protocol):
    """Makes the layers of the head (vision blocks and the Q-Former's linears) in the place of transformers' own.

    Attributes:
        weight_bits: bits per weight of what it makes.
        engine: name of what runs it.
        nbytes: bytes of the weights in what it has made so far.
    """

    weight_bits: int
    engine: str
    nbytes: int

    def block(self, prefix: str) -> nn.Module:
        """The vision block whose tensors' names begin with `prefix`: float32 (B, tokens, width) to the same."""
        ...

    def linear(self, prefix: str) -> nn.Module:
        """The linear layer `prefix` of the Q-Former: float32 (…, K) to (…, N)."""
        ...


def split_points(blocks: int) -> tuple[str, ...]:
    """Split points of a model with so many vision blocks, in the order of execution."""
    return ("input", *(f"vit.{block}" for block in range(1, blocks + 1)), "vision", "qformer", "output")


def stage_names(points: Sequence[str], first: str, last: str) -> tuple[str, ...]:
    """Names of the stages after `first` up to and with `last`.

    Raises:
        ModelError: one of them is no split point of the model, or `last` comes before `first`.
    """
    begin, end = split_index(points, first), split_index(points, last)
    if end < begin:
        raise ModelError(f"split point '{last}' comes before '{first}'; the order is {_listing(points)}")
    return tuple(points[begin + 1 : end + 1])


def split_index(points: Sequence[str], split_point: str) -> int:
    """Position of a split point in the order of execution.

    Raises:
        ModelError: it is none of the model's.
    """
    if split_point not in points:
        raise ModelError(f"split point '{split_point}' is none of this model's: {_listing(points)}")
    return points.index(split_point)


def _listing(points: Sequence[str]) -> str:
    """`input, vit.1 … vit.39, vision, qformer, output`."""
    blocks = [point for point in points if point.startswith("vit.")]
    shown = [point for point in points if point not in blocks[1:-1]]
    text = ", ".join(shown)
    return text.replace(f"{blocks[0]}, {blocks[-1]}", f"{blocks[0]} … {blocks[-1]}") if len(blocks) > 2 else text


class SplitModel:
    """A model of which any run of stages can be executed, and of which only some may be loaded.

    Everything runs in inference mode. A batch at a boundary is a tensor (B, *boundary_shape(split_point)): at `input`
    uint8 RGB of (H, W, 3), elsewhere floating point of any width (converted to the model's own).

    Attributes:
        name: the name that it was loaded by.
        model_id: hex digits; the same for every half of the same checkpoint, however it is cut into shards.
        split_points: `input`, `vit.1` … `vit.N`, `vision`, `qformer`, `output`.
        first, last: the stages after `first` up to `last` are loaded.
        image_size: (H, W) in pixels of the picture at `input`.
        dtype, device: of the stages' tensors (single modules may be kept in float32, as transformers does).
        weight_bits: bits per weight of the head.
        engine: what runs the head's linears.
        head_bytes, tail_bytes: bytes of the weights held up to `qformer`, and after it.
        stages: the loaded ones in order, without the tail. One may be replaced by another `Stage` of the same name.
        tail: makes text of the features at `qformer`; None unless `last` is `output`.
    """

    def __init__(
        self,
        *,
        name: str,
        model_id: str,
        shapes: Mapping[str, tuple[int, ...]],
        pictures: PicturePreparation,
        stages: Sequence[Stage],
        tail: Tail | None,
        first: str,
        last: str,
        dtype: torch.dtype,
        device: torch.device,
        head_bytes: int,
        tail_bytes: int,
        weight_bits: int,
        engine: str,
    ) -> None:
        self.name = name
        self.model_id = model_id
        self.split_points = (*shapes, "output")
        self.first = first
        self.last = last
        self.dtype = dtype
        self.device = device
        self.head_bytes = head_bytes
        self.tail_bytes = tail_bytes
        self.weight_bits = weight_bits
        self.engine = engine
        self.stages = list(stages)
        self.tail = tail
        self._shapes = dict(shapes)
        self._pictures = pictures

    @property
    def image_size(self) -> tuple[int, int]:
        return self._pictures.size

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights held."""
        return self.head_bytes + self.tail_bytes

    def with_tail_of(self, other: SplitModel) -> SplitModel:
        """This model's stages, up to `qformer`, before the tail of another half of the same checkpoint.

        Raises:
            ModelError: another checkpoint, stages that end elsewhere, or no tail there.
        """
        if other.model_id != self.model_id or self.last != "qformer":
            raise ModelError(f"'{self.name}' up to '{self.last}' does not fit before the tail of '{other.name}'")
        joined = copy.copy(self)
        joined.tail, joined.tail_bytes, joined.last = other._tail(), other.tail_bytes, "output"
        return joined

    def boundary_shape(self, split_point: str) -> tuple[int, ...]:
        """Shape of one frame's tensor at a split point, without the batch; (H, W, 3) at `input`.

        Raises:
            ModelError: no such split point, or `output`, where there is text.
        """
        split_index(self.split_points, split_point)
        if split_point == "output":
            raise ModelError("there is text at split point 'output', not a tensor")
        return self._shapes[split_point]

    def resize(self, image: np.ndarray) -> np.ndarray:
        """uint8 RGB (h, w, 3) to uint8 RGB (H, W, 3), to the bit as the checkpoint's own image processor resizes.

        Raises:
            ModelError: not a uint8 array of (h, w, 3), or without pixels.
        """
        return self._pictures.resize(image)

    def run(self, x: torch.Tensor, start: str, stop: str) -> torch.Tensor:
        """Executes the stages after `start` up to and with `stop`.

        Args:
            x: batch at boundary `start`: uint8 (B, H, W, 3) at `input`, else floats (B, *boundary_shape(start)).
            start, stop: split points within the loaded range; `stop` may be anything but `output`.

        Returns:
            Batch at boundary `stop`, (B, *boundary_shape(stop)), on the model's device.

        Raises:
            ModelError: stages that are not loaded, or a tensor of another shape or dtype.
        """
        names = stage_names(self.split_points, start, stop)
        if stop == "output":
            raise ModelError("run() ends at 'qformer' at the latest; generate() makes the text")
        self._require_loaded(start, stop)
        x = self._checked(x, start)
        stages = {stage.name: stage for stage in self.stages}
        with torch.inference_mode():
            for name in names:
                x = stages[name].function(x)
        return x

    def generate(self, features: torch.Tensor, prompts: Sequence[str], generation: Generation) -> list[str]:
        """Text for each row of the features: a caption where the prompt is empty, else the continuation of the prompt.

        A row's text does not depend on the other rows.

        Args:
            features: (B, *boundary_shape("qformer")), floating point.
            prompts: B prompts, such as "" or "Question: how many mugs are there? Answer:".
            generation: beams and length; the rest (end of text, padding) is the checkpoint's.

        Raises:
            ModelError: the tail is not loaded, shapes or numbers do not fit, or a prompt is too long for the model.
        """
        tail = self._tail()
        return [tail.decode(ids) for ids in self.generate_ids(features, prompts, generation)]

    def generate_ids(self, features: torch.Tensor, prompts: Sequence[str], generation: Generation) -> list[list[int]]:
        """As `generate`, but the token ids of the new text, with the end-of-text token where it was reached."""
        tail = self._tail()
        features = self._checked(features, "qformer", len(_prompt_list(prompts)))
        with torch.inference_mode():
            return tail.generate_ids(features, prompts, generation)

    def logits(self, features: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Scores of every next token after one forward pass over features and prompts.

        Returns:
            (B, Q + T, vocabulary): Q features, then the longest prompt's T tokens. Shorter prompts are padded between
            features and prompt, so the last position is every row's next token; padded positions mean nothing.

        Raises:
            ModelError: as `generate`.
        """
        tail = self._tail()
        features = self._checked(features, "qformer", len(_prompt_list(prompts)))
        with torch.inference_mode():
            return tail.logits(features, prompts)

    def _tail(self) -> Tail:
        if self.tail is None:
            self._require_loaded("qformer", "output")
            raise ModelError(f"model '{self.name}' makes no text")
        return self.tail

    def _require_loaded(self, start: str, stop: str) -> None:
        loaded = split_index(self.split_points, self.first), split_index(self.split_points, self.last)
        if split_index(self.split_points, start) < loaded[0] or split_index(self.split_points, stop) > loaded[1]:
            raise ModelError(
                f"the stages from '{start}' to '{stop}' are not loaded: this half of '{self.name}' holds "
                f"'{self.first}' to '{self.last}'"
            )

    def _checked(self, x: torch.Tensor, split_point: str, batch: int | None = None) -> torch.Tensor:
        """The batch on the model's device, in the model's dtype unless it is pictures."""
        shape = self.boundary_shape(split_point)
        if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != shape or x.shape[0] < 1:
            raise ModelError(
                f"a batch at '{split_point}' has shape (B, {', '.join(map(str, shape))}), not {tuple(x.shape)}"
            )
        if batch is not None and batch != x.shape[0]:
            raise ModelError(f"{batch} prompts for a batch of {x.shape[0]}; give one per row ('' for a caption)")
        if split_point == "input":
            if x.dtype != torch.uint8:
                raise ModelError(f"pictures at 'input' are uint8 RGB, not {x.dtype}")
            return x.to(self.device)
        if not x.dtype.is_floating_point:
            raise ModelError(f"features at '{split_point}' are floating point, not {x.dtype}")
        return x.to(self.device, self.dtype)


def _prompt_list(prompts: Sequence[str]) -> Sequence[str]:
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
        raise ModelError("prompts must be a list of strings, one per row of the batch")
    return prompts
