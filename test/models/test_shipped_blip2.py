"""The checkpoint that ships: a real transformers model that captions and answers, by a sample of held-out scenes.

The full scores, on 1,000 scenes at 640x480, are in its scores.json; here 100 smaller pictures keep watch.
"""

import json
from pathlib import Path

import pytest
import torch
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from laim_ros.paths import share_directory
from laim_ros.scenes import QUESTION_KINDS, Scene, caption_truth, questions, render, sample_scene

FOLDER = Path(share_directory()) / "checkpoints" / "laim-mini-blip2"
SCENES = [sample_scene(seed, "held_out") for seed in range(5000, 5100)]


class Shipped:
    """The model behind its own processor; pictures of all scenes, ready."""

    def __init__(self) -> None:
        self.processor = Blip2Processor.from_pretrained(FOLDER)
        self.model = Blip2ForConditionalGeneration.from_pretrained(FOLDER).eval()
        images = [render(scene, 240, 320).image for scene in SCENES]
        self.pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def say(self, number: int, prompt: str) -> str:
        """What the model says of scene `number`, greedily."""
        ids = self.processor.tokenizer(prompt, return_tensors="pt")["input_ids"]
        image = torch.full((1, self.model.config.num_query_tokens), self.model.config.image_token_index)
        ids = torch.cat([image, ids], dim=1)
        said = self.model.generate(pixel_values=self.pixels[number : number + 1], input_ids=ids, max_new_tokens=24)
        return self.processor.tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True).strip()


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return Shipped()


@pytest.fixture(scope="module")
def scores() -> dict:
    return json.loads((FOLDER / "scores.json").read_text())


def test_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 12_000_000


def test_captions_are_true_and_complete(shipped: Shipped) -> None:
    truths = [caption_truth(shipped.say(number, ""), scene) for number, scene in enumerate(SCENES)]
    assert sum(truth.complete for truth in truths) >= 90


def test_answers_beat_blind_guessing_for_each_kind(shipped: Shipped, scores: dict) -> None:
    asked = [(number, question) for number in range(40) for question in questions(SCENES[number])]
    right: dict[str, list[bool]] = {kind: [] for kind in QUESTION_KINDS}
    for number, question in asked:
        right[question.kind].append(
            shipped.say(number, f"Question: {question.text} Answer:") == question.answer,
        )
    for kind, each in right.items():
        assert sum(each) / len(each) > max(0.8, scores["answers"][kind]["blind"]), kind


def test_other_spellings_of_a_question_get_the_same_answer(shipped: Shipped) -> None:
    number, scene = next((n, s) for n, s in enumerate(SCENES) if _kinds(s) == 2)
    kind = scene.objects[0].kind
    answers = {
        shipped.say(number, f"Question: {text} Answer:")
        for text in (f"What color is the {kind}?", f"what colour is the {kind}", f"WHAT COLOR IS THE {kind.upper()} ?")
    }
    assert answers == {scene.objects[0].colour}


def test_the_scores_that_ship_are_good(scores: dict) -> None:
    """The bars that everything downstream relies on: a later checkpoint may not be worse."""
    assert scores["captions"]["scenes"] >= 1000
    assert scores["captions"]["true_and_complete"] >= 0.95
    assert set(scores["answers"]) == set(QUESTION_KINDS)
    assert all(each["right"] >= 0.9 for each in scores["answers"].values())
    assert all(each["right"] > each["blind"] + 0.1 for each in scores["answers"].values())


def test_tokenizer_speaks_as_opts_does(shipped: Shipped) -> None:
    tokenizer = shipped.processor.tokenizer
    config = shipped.model.config
    assert tokenizer("")["input_ids"] == [config.text_config.bos_token_id] == [2]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 1)
    assert tokenizer.convert_tokens_to_ids("<image>") == config.image_token_index
    assert tokenizer.decode(tokenizer("A red ball")["input_ids"], skip_special_tokens=True) == "a red ball"


def _kinds(scene: Scene) -> int:
    return len({thing.kind for thing in scene.objects})
