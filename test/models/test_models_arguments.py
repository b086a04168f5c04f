"""Batches and prompts that do not fit are one clear error each, never an exception from deep inside."""

from __future__ import annotations

import pytest
import torch

from laim_ros.models import Generation, ModelError, SplitModel, load
from laim_ros.models.base import split_points, stage_names


@pytest.fixture(scope="module")
def model(checkpoint) -> SplitModel:
    return load(str(checkpoint))


def test_split_points_are_in_the_order_of_execution(model):
    assert model.split_points == ("input", "vit.1", "vit.2", "vit.3", "vision", "qformer", "output")
    assert stage_names(split_points(2), "vit.1", "vision") == ("vit.2", "vision")


def test_boundary_shapes_are_those_of_the_tensors(model):
    x = torch.zeros(2, *model.boundary_shape("input"), dtype=torch.uint8)
    for split_point in model.split_points[1:-1]:
        assert tuple(model.run(x, "input", split_point).shape) == (2, *model.boundary_shape(split_point))
    with pytest.raises(ModelError, match="text at split point 'output'"):
        model.boundary_shape("output")
    with pytest.raises(ModelError, match=r"vit\.7"):
        model.boundary_shape("vit.7")


@pytest.mark.parametrize(
    ("x", "start", "stop", "message"),
    [
        (torch.zeros(1, 28, 28, 3), "input", "vision", "uint8"),
        (torch.zeros(28, 28, 3, dtype=torch.uint8), "input", "vision", r"\(B, 28, 28, 3\)"),
        (torch.zeros(1, 3, 28, 28, dtype=torch.uint8), "input", "vision", r"\(B, 28, 28, 3\), not \(1, 3, 28, 28\)"),
        (torch.zeros(0, 28, 28, 3, dtype=torch.uint8), "input", "vision", r"\(0, 28, 28, 3\)"),
        (torch.zeros(1, 17, 31), "vit.1", "vision", r"\(B, 17, 32\)"),
        (torch.zeros(1, 17, 32, dtype=torch.int64), "vit.1", "vision", "floating point"),
        (torch.zeros(1, 17, 32), "vision", "vit.1", "comes before"),
        (torch.zeros(1, 17, 32), "vision", "output", "generate"),
        (torch.zeros(1, 17, 32), "somewhere", "vision", "somewhere"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(model, x, start, stop, message):
    with pytest.raises(ModelError, match=message):
        model.run(x, start, stop)


def test_prompts_that_do_not_fit_the_batch_are_refused(model):
    features = torch.zeros(2, *model.boundary_shape("qformer"))
    for prompts, message in [
        ([""], "1 prompts for a batch of 2"),
        ("ab", "list of strings"),
        ([b"a", b"b"], "list of strings"),
        (["", "mug " * 200], "the prompt has .* tokens.*shorten"),
    ]:
        for use in (
            lambda prompts=prompts: model.generate(features, prompts, Generation()),
            lambda prompts=prompts: model.logits(features, prompts),
        ):
            with pytest.raises(ModelError, match=message):
                use()
    with pytest.raises(ModelError, match=r"lower max_new_tokens"):
        model.generate(features, ["", ""], Generation(max_new_tokens=1000))
    with pytest.raises(ModelError, match=r"\(B, 4, 24\)"):
        model.generate(torch.zeros(1, 5, 24), [""], Generation())


def test_the_longest_prompt_that_fits_is_answered(model):
    features = torch.zeros(1, *model.boundary_shape("qformer"))
    new_tokens = 128 - 4 - 2  # positions, image places, and `</s>` and `mug`
    assert model.generate(features, ["mug"], Generation(max_new_tokens=new_tokens))[0] is not None
    with pytest.raises(ModelError, match="room for 1"):
        model.generate(features, ["mug"], Generation(max_new_tokens=new_tokens + 1))


@pytest.mark.parametrize("prompt", ["<image>", "<pad>", "</s></s>", "\x00", "é🙂", " ", "\n"])
def test_any_prompt_gets_an_answer(model, prompt):
    features = torch.rand(1, *model.boundary_shape("qformer"))
    assert len(model.generate(features, [prompt], Generation(max_new_tokens=2))) == 1


def test_results_carry_no_gradient(model):
    x = torch.zeros(1, *model.boundary_shape("input"), dtype=torch.uint8)
    features = model.run(x, "input", "qformer")
    assert features.is_inference()
    assert not model.logits(features, [""]).requires_grad


@pytest.mark.parametrize("arguments", [{"num_beams": 0}, {"max_new_tokens": 0}, {"num_beams": -1}])
def test_impossible_generation_is_refused(arguments):
    with pytest.raises(ModelError, match=next(iter(arguments))):
        Generation(**arguments)
