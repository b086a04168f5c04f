"""caption_truth: any true wording passes, any wrong word fails, nonsense never raises."""

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laim_ros.scenes import Scene, SceneObject, caption_truth, captions, sample_scene
from laim_ros.scenes.vocabulary import COLOURS, KINDS


def thing(name: str, x: float) -> SceneObject:
    colour, kind = name.split()
    return SceneObject(kind, colour, x, 0.0, 1.0, 1.0, 0.0, COLOURS[colour], 0.0)


def scene_with(*names: str, place: str = "table") -> Scene:
    """Objects named from left to right."""
    scene = next(s for s in map(sample_scene, range(100)) if s.background.place == place)
    camera = dataclasses.replace(scene.camera, position=(0.0, -8.0, 3.0), yaw_rad=0.0, pitch_rad=-0.35, roll_rad=0.0)
    xs = (-1.5, 1.5) if len(names) == 2 else (-1.5,)
    return dataclasses.replace(
        scene, camera=camera, objects=tuple(thing(name, x) for name, x in zip(names, xs, strict=True))
    )


PAIR = scene_with("red ball", "blue cube")
BALLS = scene_with("red ball", "blue ball")
ONE = scene_with("green cone")

COMPLETE = [
    "a red ball to the left of a blue cube",
    "A RED BALL to the left of a blue cube.",
    "red ball left of blue cube",
    "a blue cube to the right of a red ball",
    "a blue box is right of a red sphere",
    "a red ball and a blue cube to its right",
    "a blue cube with a red ball to its left",
    "a red ball is on the left and a blue cube is on the right",
    "on the left is a red ball, on the right is a blue cube",
    "on the right, a blue cube; on the left, a red ball",
    "left: a red ball. right: a blue cube.",
    "to the left of the blue cube there is a red ball",
    "there is a ball that is red on the left, and a cube which is blue",
    "two objects: a red ball and a blue cube, with the red ball on the left",
    "the left object is a red ball and the right one is a blue cube",
    "the ball is red, the cube is blue, and the ball is left of the cube",
    "a picture of a red ball and a blue cube, the ball is on the left side",
    "a red ball to the left of a blue cube on a table",
]
TRUE_BUT_INCOMPLETE = [
    "a red ball",
    "a ball to the left of a cube",
    "a red ball and a blue cube",
    "the ball is red and the cube is blue",
    "a red object to the left of a blue object",
    "something blue",
    "two objects",
    "a red ball next to a blue cube on a table",
    "a red ball left of a cube",
]
WRONG = [
    "a green ball to the left of a blue cube",
    "a red ball to the left of a red cube",
    "a red cone to the left of a blue cube",
    "a blue ball to the left of a red cube",
    "a red ball to the right of a blue cube",
    "a blue cube to the left of a red ball",
    "a red ball and a blue cube to its left",
    "a blue cube on the left and a red ball on the right",
    "a blue cube with a red ball to its right",
    "on the left is a blue cube",
    "the ball is blue",
    "a red ball is a blue cube",
    "a red ball and a red ball",
    "two balls",
    "three objects",
    "a red ball, a blue cube and a green cone",
    "a red ball to the left of a blue cube on the floor",
    "a red and blue ball",
    "a pink ball",
    "a dog",
    "a red ball near a dog",
    "no ball",
]
NONSENSE = [
    "",
    " ",
    "?!",
    "red",
    "a red red red",
    "the of a to",
    "left right left",
    "a red ball to the left of",
    "to the left of",
    "its left",
    "it is it",
    "ball " * 200,
    "the ball " * 200,
    "</s><pad>",
    "\x00\ud800",
    "the object the object " * 60,
]


@pytest.mark.parametrize("caption", COMPLETE)
def test_complete(caption: str) -> None:
    truth = caption_truth(caption, PAIR)
    assert truth.true
    assert truth.complete
    assert truth.reason == ""


@pytest.mark.parametrize("caption", TRUE_BUT_INCOMPLETE)
def test_true_but_incomplete(caption: str) -> None:
    truth = caption_truth(caption, PAIR)
    assert truth.true
    assert not truth.complete
    assert truth.reason.startswith("does not say")


@pytest.mark.parametrize("caption", WRONG + NONSENSE)
def test_wrong_or_nonsense(caption: str) -> None:
    truth = caption_truth(caption, PAIR)
    assert not truth.true
    assert not truth.complete
    assert truth.reason


@pytest.mark.parametrize(
    ("caption", "true", "complete"),
    [
        ("a green cone", True, True),
        ("the cone is green", True, True),
        ("a green cone on the left", True, True),
        ("a green cone on the right", False, False),
        ("a cone", True, False),
        ("one object", True, False),
        ("a green cone and a green cone", False, False),
        ("a green cone to the left of a red ball", False, False),
    ],
)
def test_one_object(caption: str, true: bool, complete: bool) -> None:
    truth = caption_truth(caption, ONE)
    assert (truth.true, truth.complete) == (true, complete)


@pytest.mark.parametrize(
    ("caption", "true", "complete"),
    [
        ("two balls", True, False),
        ("two balls, one red and one blue", True, False),
        ("two balls, a red one on the left and a blue one on the right", True, True),
        ("a red ball left of a blue ball", True, True),
        ("a ball left of a ball", True, False),
        ("two red balls", False, False),
        ("two cubes", False, False),
    ],
)
def test_two_of_a_kind(caption: str, true: bool, complete: bool) -> None:
    truth = caption_truth(caption, BALLS)
    assert (truth.true, truth.complete) == (true, complete)


def test_every_wording_of_the_scenes_own_captions_is_complete() -> None:
    for seed in range(500):
        scene = sample_scene(seed)
        for caption in captions(scene):
            truth = caption_truth(caption, scene)
            assert truth.complete, (caption, truth.reason)


def test_a_swapped_colour_kind_or_side_is_never_true() -> None:
    swaps = {"left": "right", "right": "left"}
    for seed in range(150):
        scene = sample_scene(seed)
        colours, kinds = {each.colour for each in scene.objects}, {each.kind for each in scene.objects}
        for caption in captions(scene):
            for word in set(re.findall(r"\w+", caption)):
                if word in colours:
                    other = next(colour for colour in COLOURS if colour not in colours)
                elif word in kinds:
                    other = next(kind for kind in KINDS if kind not in kinds)
                elif word in swaps and len(re.findall("left|right", caption)) == 1:
                    other = swaps[word]
                else:
                    continue
                false = re.sub(rf"\b{word}\b", other, caption)
                assert not caption_truth(false, scene).true, false


def test_something_other_than_a_text_is_not_true() -> None:
    assert not caption_truth(None, PAIR).true  # type: ignore[arg-type]


WORDS = sorted({word for text in COMPLETE + WRONG for word in re.findall(r"\w+|[,.;:]", text.lower())})


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from([*WORDS, "it", "its", "one", "two", "of"])).map(" ".join)))
def test_never_raises(caption: str) -> None:
    for scene in (PAIR, BALLS, ONE):
        truth = caption_truth(caption, scene)
        assert truth.true or not truth.complete
