"""Captions and questions, held against an oracle that looks at the drawn labels instead of the scene's geometry."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from laim_ros.scenes import QUESTION_KINDS, Scene, captions, questions, render, sample_scene

SCENES = [sample_scene(seed, "held_out") for seed in range(250)]


def seen_from_left(scene: Scene) -> list[tuple[str, str]]:
    """(colour, kind) of the objects from left to right, by the centroids of their pixels."""
    labels = render(scene, 45, 60).labels
    found = [(np.nonzero(labels == index)[1].mean(), index) for index in np.unique(labels) if index]
    return [(scene.objects[index - 1].colour, scene.objects[index - 1].kind) for _, index in sorted(found)]


def oracle(text: str, things: list[tuple[str, str]]) -> str:
    """The answer to a question, found by simple means of its own."""
    words = re.findall(r"\w+", text)
    said = [word.removesuffix("s") if word != "is" else word for word in words]

    def meant(phrase: list[str]) -> list[int]:
        colours, kinds = {colour for colour, _ in things}, {kind for _, kind in things}
        chosen = range(len(things))
        for word in phrase:
            if word in ALL_COLOURS:
                chosen = [i for i in chosen if things[i][0] == word] if word in colours else []
            if word in ALL_KINDS:
                chosen = [i for i in chosen if things[i][1] == word] if word in kinds else []
        return list(chosen)

    if said[:2] == ["how", "many"]:
        return str(len(meant(said)))
    if said[:2] == ["is", "there"] or said[:3] == ["do", "you", "see"]:
        return "yes" if meant(said) else "no"
    if "color" in said or "colour" in said or said[0] == "what":
        chosen = meant(said)
        if "left" in said or "right" in said:
            chosen = [0 if "left" in said else len(things) - 1]
        (index,) = chosen
        return things[index][said[0] == "what" and "color" not in said and "colour" not in said]
    subject = said[: min([said.index(side) for side in ("left", "right") if side in said] or [len(said)])]
    (index,) = meant(subject)
    place = ("left", "right")[index]
    if ("left" in said and "right" in said) or "which" in said:
        return place
    return "yes" if place in said else "no"


ALL_COLOURS = {thing.colour for scene in SCENES for thing in scene.objects}
ALL_KINDS = {thing.kind for scene in SCENES for thing in scene.objects}


def test_answers_agree_with_the_drawn_labels() -> None:
    checked = 0
    for scene in SCENES:
        things = seen_from_left(scene)
        for variation in range(2):
            for question in questions(scene, variation):
                assert oracle(question.text, things) == question.answer, (question, things)
                checked += 1
    assert checked > 3000


def test_canonical_caption_names_objects_from_left_to_right() -> None:
    for scene in SCENES:
        names = [f"{colour} {kind}" for colour, kind in seen_from_left(scene)]
        positions = [captions(scene)[0].index(name) for name in names]
        assert positions == sorted(positions)


def test_captions_have_several_wordings_and_are_the_same_each_time() -> None:
    for scene in SCENES[:30]:
        assert len(set(captions(scene))) >= 6
        assert captions(scene) == captions(scene)


def test_questions_are_the_same_each_time_and_vary_on_demand() -> None:
    scene = SCENES[0]
    assert questions(scene) == questions(scene)
    assert questions(scene, 1) != questions(scene, 2)


def test_each_kind_is_asked() -> None:
    for scene in SCENES[:50]:
        kinds = {question.kind for question in questions(scene)}
        assert kinds == set(QUESTION_KINDS) - (set() if len(scene.objects) == 2 else {"left_right"})


@pytest.fixture(scope="module")
def blind_guess() -> dict[str, str]:
    """The commonest answer to each wording on some training scenes."""
    heard: dict[str, Counter[str]] = defaultdict(Counter)
    for seed in range(1500):
        for question in questions(sample_scene(seed)):
            heard[question.text][question.answer] += 1
    return {text: answers.most_common(1)[0][0] for text, answers in heard.items()}


@pytest.mark.parametrize(
    ("kind", "most"), [("colour", 0.3), ("count", 0.65), ("existence", 0.65), ("kind", 0.35), ("left_right", 0.65)]
)
def test_guessing_from_the_words_alone_does_badly(kind: str, most: float, blind_guess: dict[str, str]) -> None:
    asked = [question for scene in SCENES for question in questions(scene) if question.kind == kind]
    right = [blind_guess[question.text] == question.answer for question in asked if question.text in blind_guess]
    assert len(right) > 150
    assert np.mean(right) < most


def test_article_fits_the_noun() -> None:
    texts = " ".join(text for scene in SCENES for text in captions(scene) + [q.text for q in questions(scene)])
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", texts)
