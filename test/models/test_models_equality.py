"""Split execution equals the unsplit transformers model, at every split point."""

from __future__ import annotations

import json
import shutil
from functools import cache
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from laim_ros.models import Generation, SplitModel, load

CAPTION = ""
QUESTION = "Question: how many mugs are there? Answer:"
SHORT_QUESTION = "Question: colour? Answer:"
BATCHES = {
    "caption": [CAPTION],
    "question": [QUESTION],
    "mixed": [QUESTION, CAPTION, SHORT_QUESTION],
}
TOKENS = 8


@cache
def half(folder: str, first: str, last: str, dtype: str = "float32") -> SplitModel:
    return load(folder, first=first, last=last, dtype=dtype)


def pictures_of(count: int) -> list[np.ndarray]:
    """Different pictures of different sizes, uint8 RGB."""
    made = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        height, width = 40 + 7 * seed, 61 - 5 * seed
        ramp = np.linspace(0, 1, height)[:, None, None] * random.integers(0, 255, 3)
        made.append((ramp + random.integers(0, 60, (height, width, 3))).clip(0, 255).astype(np.uint8))
    return made


def through_both_halves(
    folder: str, images: list[np.ndarray], split_point: str, dtype: str = "float32"
) -> tuple[SplitModel, torch.Tensor]:
    """The half that makes the text, and the features it gets; the boundary crosses as float32, as over the wire."""
    robot = half(folder, "input", split_point, dtype)
    batch = torch.stack([torch.from_numpy(robot.resize(image)) for image in images])
    if split_point == "output":
        return robot, robot.run(batch, "input", "qformer")
    sent = robot.run(batch, "input", split_point)
    assert tuple(sent.shape[1:]) == robot.boundary_shape(split_point)
    if split_point != "input":
        sent = sent.float()
    edge = half(folder, split_point, "output", dtype)
    return edge, edge.run(sent, split_point, "qformer")


def test_every_split_point_gives_the_unsplit_models_tokens_and_logits(oracle):
    folder = str(oracle.folder)
    for prompts in BATCHES.values():
        images = pictures_of(len(prompts))
        logits = oracle.logits(images, prompts)
        ids = {beams: oracle.ids(images, prompts, beams, TOKENS) for beams in (1, 3)}
        for split_point in half(folder, "input", "output").split_points:
            edge, features = through_both_halves(folder, images, split_point)
            got = edge.logits(features, prompts)
            real = oracle.inputs(images, prompts)["attention_mask"].bool()
            torch.testing.assert_close(got[real], logits[real], atol=1e-4, rtol=1e-4, msg=split_point)
            for beams, expected in ids.items():
                assert edge.generate_ids(features, prompts, Generation(beams, TOKENS)) == expected, split_point


def test_a_rows_text_does_not_depend_on_the_other_rows(oracle):
    prompts = BATCHES["mixed"]
    images = pictures_of(len(prompts))
    model, features = through_both_halves(str(oracle.folder), images, "vision")
    together = model.generate_ids(features, prompts, Generation(1, TOKENS))
    for row, prompt in enumerate(prompts):
        assert together[row] == oracle.ids([images[row]], [prompt], 1, TOKENS)[0]
    assert len({tuple(ids) for ids in together}) == len(prompts), "the rows must differ for this to mean anything"


def test_pictures_queries_and_prompts_all_change_the_outcome(oracle):
    images = pictures_of(2)
    model, features = through_both_halves(str(oracle.folder), images, "qformer")
    assert (features[0] - features[1]).abs().max() > 0.01
    assert (features[0, 0] - features[0, 1]).abs().max() > 0.01
    caption, question = (model.logits(features[:1], [prompt])[0, -1] for prompt in (CAPTION, QUESTION))
    assert (caption - question).abs().max() > 0.01


def test_a_caption_needs_no_prompt_as_in_transformers(oracle):
    """The unsplit model without any text input: image places and the start token."""
    images = pictures_of(2)
    pixels = oracle.processor.image_processor(images, return_tensors="pt")["pixel_values"]
    out = oracle.model.generate(pixel_values=pixels, max_new_tokens=TOKENS, do_sample=False)
    expected = out[:, oracle.model.config.num_query_tokens + 1 :].tolist()
    model, features = through_both_halves(str(oracle.folder), images, "qformer")
    assert model.generate_ids(features, [CAPTION, CAPTION], Generation(1, TOKENS)) == expected


def test_at_input_the_result_is_the_models_on_the_decoded_picture(oracle):
    model = half(str(oracle.folder), "input", "output")
    buffer = BytesIO()
    Image.fromarray(model.resize(pictures_of(1)[0])).save(buffer, "JPEG", quality=60)
    decoded = np.array(Image.open(buffer))
    features = model.run(torch.from_numpy(decoded[None]), "input", "qformer")
    assert model.generate_ids(features, [QUESTION], Generation(1, TOKENS)) == oracle.ids(
        [decoded], [QUESTION], 1, TOKENS
    )


def test_text_is_the_decoded_tokens(oracle):
    model, features = through_both_halves(str(oracle.folder), pictures_of(1), "qformer")
    ids = oracle.ids(pictures_of(1), [QUESTION], 3, TOKENS)
    expected = oracle.processor.batch_decode(ids, skip_special_tokens=True)[0].strip()
    assert model.generate(features, [QUESTION], Generation(3, TOKENS)) == [expected]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_equals_transformers_in_half_precision(oracle, dtype):
    narrow = type(oracle)(oracle.folder, getattr(torch, dtype))
    prompts = BATCHES["mixed"]
    images = pictures_of(len(prompts))
    logits, ids = narrow.logits(images, prompts), narrow.ids(images, prompts, 1, TOKENS)
    real = narrow.inputs(images, prompts)["attention_mask"].bool()
    for split_point in ("vit.1", "vision", "qformer", "output"):
        edge, features = through_both_halves(str(oracle.folder), images, split_point, dtype)
        assert features.dtype == getattr(torch, dtype)
        torch.testing.assert_close(edge.logits(features, prompts)[real], logits[real], atol=0, rtol=0, msg=split_point)
        assert edge.generate_ids(features, prompts, Generation(1, TOKENS)) == ids, split_point


def test_text_ends_at_the_checkpoints_end_token(random_oracle, tmp_path):
    """An end-of-text token that greedy decoding reaches in one row before the others."""
    prompts = BATCHES["mixed"]
    images = pictures_of(len(prompts))
    free = random_oracle.ids(images, prompts, 1, TOKENS)
    shutil.copytree(random_oracle.folder, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["text_config"]["eos_token_id"] = free[0][2]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))

    ending = type(random_oracle)(tmp_path / "model")
    model, features = through_both_halves(str(tmp_path / "model"), images, "qformer")
    ids = model.generate_ids(features, prompts, Generation(1, TOKENS))
    assert ids == ending.ids(images, prompts, 1, TOKENS)
    assert 1 <= len(ids[0]) <= 3
    assert max(map(len, ids)) == TOKENS


def test_generation_settings_come_from_where_transformers_takes_them(random_oracle, tmp_path):
    """Whatever a checkpoint's generation_config.json says, the outcome is the unsplit model's."""
    shutil.copytree(random_oracle.folder, tmp_path / "model")
    settings = {"no_repeat_ngram_size": 1, "do_sample": True, "num_beams": 4, "max_length": 3, "eos_token_id": 9}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(settings))
    images, prompts = pictures_of(2), [QUESTION, CAPTION]
    model, features = through_both_halves(str(tmp_path / "model"), images, "qformer")
    expected = type(random_oracle)(tmp_path / "model").ids(images, prompts, 1, TOKENS)
    assert model.generate_ids(features, prompts, Generation(1, TOKENS)) == expected
