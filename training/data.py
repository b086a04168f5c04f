"""Training examples in memory: pictures, texts as token ids, and the labels of the helper losses."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from laim_ros.scenes import Scene, captions, questions
from laim_ros.scenes.camera import left_to_right
from laim_ros.scenes.vocabulary import COLOURS, KINDS

TEXT_TOKENS = 28  # the longest text, with "</s>" at both ends
QUESTION_VARIATIONS = 3
QUESTIONS_PER_PICTURE = 3
_COLOUR_NUMBER = {name: index + 1 for index, name in enumerate(COLOURS)}
_KIND_NUMBER = {name: index + 1 for index, name in enumerate(KINDS)}
PAD, END = 1, 2


@dataclass(frozen=True)
class Batch:
    """One training step's examples: B pictures with T texts each.

    pixels: float (B, 3, 96, 96), normalised. tokens: long (B * T, L), texts of one picture side by side, padded on the
    right. answer_start: long (B * T,), the first position whose token must be predicted. patch_colour, patch_kind:
    long (B, 144), 0 = background. slot_colour, slot_kind: long (B, 2), objects from left to right, 0 = none.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    answer_start: torch.Tensor
    patch_colour: torch.Tensor
    patch_kind: torch.Tensor
    slot_colour: torch.Tensor
    slot_kind: torch.Tensor


class Examples:
    """All shards of a folder, and the texts of their scenes."""

    def __init__(self, folder: Path, shards: int, tokenizer: PreTrainedTokenizerFast, processes: int = 2) -> None:
        paths = [folder / f"shard_{number:04d}.npz" for number in range(shards)]
        loaded = [np.load(path) for path in paths]
        self.images = np.concatenate([each["images"] for each in loaded])
        self.patches = np.concatenate([each["patches"] for each in loaded])
        with Pool(processes) as pool:
            facts = pool.map(_facts, [path.with_suffix(".jsonl") for path in paths])
        self.captions = _encode(tokenizer, [row[0] for part in facts for row in part])
        asked = [row[1] for part in facts for row in part]
        self.question_range = np.cumsum([0, *map(len, asked)])
        flat = [pair for each in asked for pair in each]
        self.questions = _encode(tokenizer, [f"Question: {text} Answer: {answer}" for text, answer in flat])
        # The answer is the last token before "</s>"; it and "</s>" are what the model must learn to say.
        self.answer_start = (self.questions != PAD).sum(axis=1) - 2
        slots = np.array([row[2] for part in facts for row in part])  # (N, 2 objects, colour and kind)
        self.slot_colour, self.slot_kind = slots[..., 0], slots[..., 1]
        ranks = np.array([row[3] for part in facts for row in part])  # object index -> its place from the left
        slot_of_patch = np.take_along_axis(np.pad(ranks, ((0, 0), (1, 0))), self.patches.astype(int), axis=1)
        self.patch_colour = np.take_along_axis(np.pad(self.slot_colour, ((0, 0), (1, 0))), slot_of_patch, axis=1)
        self.patch_kind = np.take_along_axis(np.pad(self.slot_kind, ((0, 0), (1, 0))), slot_of_patch, axis=1)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """The examples `rows` (B,), each with its caption and some of its questions."""
        low, high = self.question_range[rows], self.question_range[rows + 1]
        chosen = low[:, None] + (rng.random((len(rows), QUESTIONS_PER_PICTURE)) * (high - low)[:, None]).astype(int)
        texts = np.concatenate([self.captions[rows][:, None], self.questions[chosen]], axis=1)
        starts = np.concatenate([np.ones((len(rows), 1), int), self.answer_start[chosen]], axis=1).reshape(-1)
        texts = texts.reshape(-1, TEXT_TOKENS)
        longest = int((texts != PAD).sum(axis=1).max())
        return Batch(
            augment(torch.from_numpy(self.images[rows]), rng),
            torch.from_numpy(texts[:, :longest].astype(np.int64)),
            torch.from_numpy(starts),
            *(
                torch.from_numpy(each[rows].astype(np.int64))
                for each in (self.patch_colour, self.patch_kind, self.slot_colour, self.slot_kind)
            ),
        )


def _encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """uint8 (N, TEXT_TOKENS): "</s>", the text, "</s>", padding."""
    unique = list(dict.fromkeys(texts))  # the same few thousand questions come again and again
    ids = np.full((len(unique), TEXT_TOKENS), PAD, np.uint8)
    for row, tokens in enumerate(tokenizer(unique, padding=False)["input_ids"]):
        ids[row, : len(tokens) + 1] = [*tokens, END]
    number = {text: row for row, text in enumerate(unique)}
    return ids[[number[text] for text in texts]]


def _facts(path: Path) -> list[tuple[str, list[tuple[str, str]], list[list[int]], list[int]]]:
    """For each scene of a shard: canonical caption, (question, answer) pairs, slots, and each object's slot number."""
    rows = []
    for line in path.read_text().splitlines():
        scene = Scene.from_json(line)
        asked = [q for variation in range(QUESTION_VARIATIONS) for q in questions(scene, variation)]
        # People forget the question mark: one question in eight does without.
        pairs = [(q.text.rstrip("?") if index % 8 == 5 else q.text, q.answer) for index, q in enumerate(asked)]
        order = left_to_right(scene)
        slots = [[0, 0], [0, 0]]
        ranks = [0, 0]
        for slot, index in enumerate(order):
            thing = scene.objects[index]
            slots[slot] = [_COLOUR_NUMBER[thing.colour], _KIND_NUMBER[thing.kind]]
            ranks[index] = slot + 1
        rows.append((captions(scene)[0], pairs, slots, ranks))
    return rows


def augment(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """uint8 (B, 96, 96, 3) -> normalised float (B, 3, 96, 96), with small changes of brightness, tint and noise."""
    count = len(images)
    pixels = images.permute(0, 3, 1, 2).float().div_(255)
    gain = rng.uniform(0.88, 1.12, (count, 1, 1, 1)) * rng.uniform(0.97, 1.03, (count, 3, 1, 1))
    shift = rng.uniform(-0.04, 0.04, (count, 1, 1, 1))
    noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
    noise *= torch.from_numpy(rng.uniform(0, 0.02, (count, 1, 1, 1)).astype(np.float32))
    pixels = pixels * torch.from_numpy(gain.astype(np.float32)) + torch.from_numpy(shift.astype(np.float32)) + noise
    return pixels.clamp_(0, 1).sub_(0.5).div_(0.25)
