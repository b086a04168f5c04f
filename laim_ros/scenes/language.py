"""What can truly be said and asked about a scene: captions, and questions with their answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laim_ros.scenes.camera import left_to_right
from laim_ros.scenes.sampling import random_stream
from laim_ros.scenes.vocabulary import COLOURS, KINDS
from laim_ros.scenes.world import Scene, SceneObject

QUESTION_KINDS: tuple[str, ...] = ("colour", "count", "existence", "kind", "left_right")


@dataclass(frozen=True)
class Question:
    """A question, its one true answer (a single word or digit), and which of QUESTION_KINDS it is."""

    text: str
    answer: str
    kind: str


def article(noun: str) -> str:
    """ "a red ball", "an orange cube"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def captions(scene: Scene) -> list[str]:
    """True captions in several wordings; the first is the canonical one. Each names colour, kind and order of all."""
    things = [scene.objects[index] for index in left_to_right(scene)]
    where = "on a table" if scene.background.place == "table" else "on the floor"
    if len(things) == 1:
        (thing,) = things
        a = article(thing.name)
        return [
            a,
            f"there is {a}",
            f"{a} {where}",
            f"a picture of {a}",
            f"{article(thing.kind)} that is {thing.colour}",
            f"the {thing.kind} is {thing.colour}",
            f"the picture shows one {thing.name} {where}",
        ]
    left, right = things
    a, b = article(left.name), article(right.name)
    return [
        f"{a} to the left of {b}",
        f"{b} to the right of {a}",
        f"{a} and {b} to its right",
        f"{a} on the left and {b} on the right",
        f"on the left is {a}, on the right is {b}",
        f"there is {a} left of {b} {where}",
        f"the object on the right is {b} and the object on the left is {a}",
        f"two objects: {a} and {b}, with the {left.name} on the left",
    ]


def questions(scene: Scene, variation: int = 0) -> list[Question]:
    """Questions of every kind that fits the scene, with true answers. `variation` chooses other ones.

    Answers are drawn so that guessing without the picture does badly: yes and no, left and right, and the counts
    come up equally often for each wording, as far as one or two objects allow. With one object there is no left_right.
    """
    rng = random_stream(scene.split, 2, scene.language_seed, variation)
    order = left_to_right(scene)
    things = [scene.objects[index] for index in order]
    asked = []
    for position in range(len(things)):
        asked.append(_colour(rng, things, position))
        asked.append(_kind(rng, things, position))
    asked.append(Question(_pick(rng, _HOW_MANY), str(len(things)), "count"))
    asked.append(_how_many_such(rng, things))
    asked.append(_exists(rng, things, True))
    asked.append(_exists(rng, things, False))
    if len(things) == 2:
        asked.append(_which_side(rng, things))
        asked.append(_is_it_so(rng, things))
    return asked


_HOW_MANY = ("how many objects are there?", "how many things are in the picture?", "how many objects do you see?")


def _pick(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _side(position: int) -> str:
    return ("left", "right")[position]


def _unique(things: list[SceneObject], position: int, attribute: str) -> bool:
    value = getattr(things[position], attribute)
    return sum(getattr(each, attribute) == value for each in things) == 1


def _colour(rng: np.random.Generator, things: list[SceneObject], position: int) -> Question:
    thing = things[position]
    color = _pick(rng, ("color", "colour"))
    subjects = []
    if _unique(things, position, "kind"):
        subjects += [f"the {thing.kind}"] * 2
    if len(things) == 1:
        subjects.append("the object")
    else:
        subjects += [f"the object on the {_side(position)}", f"the {thing.kind} on the {_side(position)}"]
    subject = _pick(rng, subjects)
    return Question(_pick(rng, (f"what {color} is {subject}?", f"which {color} is {subject}?")), thing.colour, "colour")


def _kind(rng: np.random.Generator, things: list[SceneObject], position: int) -> Question:
    thing = things[position]
    wordings = []
    if _unique(things, position, "colour"):
        wordings += [f"what is the {thing.colour} object?", f"what kind of object is {thing.colour}?"]
    if len(things) == 1:
        wordings += ["what is in the picture?", "what kind of object is there?"]
    else:
        side = _side(position)
        wordings += [f"what is on the {side}?", f"what kind of object is on the {side}?"]
    return Question(_pick(rng, wordings), thing.kind, "kind")


def _how_many_such(rng: np.random.Generator, things: list[SceneObject]) -> Question:
    attribute = _pick(rng, ("kind", "colour"))
    counts: dict[int, list[str]] = {}
    for value in KINDS if attribute == "kind" else COLOURS:
        counts.setdefault(sum(getattr(each, attribute) == value for each in things), []).append(value)
    # A pair that shares a kind or colour is rare: when there is one, mostly ask about it.
    count = 2 if 2 in counts and rng.random() < 0.7 else int(_pick(rng, [str(each) for each in counts if each < 2]))
    value = _pick(rng, counts[count])
    such = f"{value}s" if attribute == "kind" else f"{value} objects"
    return Question(_pick(rng, (f"how many {such} are there?", f"how many {such} do you see?")), str(count), "count")


def _exists(rng: np.random.Generator, things: list[SceneObject], true: bool) -> Question:
    detail = _pick(rng, ("name", "name", "kind", "colour"))
    if detail == "name":
        real = {each.name for each in things}
        # A false name shares its colour or its kind with what is there, so that both must be seen, and seen together.
        near = [f"{each.colour} {kind}" for each in things for kind in KINDS]
        near += [f"{colour} {each.kind}" for each in things for colour in COLOURS]
        crossed = [f"{a.colour} {b.kind}" for a in things for b in things]
        false = [name for name in (crossed if rng.random() < 0.4 else near) if name not in real]
        false = false or [name for name in near if name not in real]
        what = article(_pick(rng, sorted(real) if true else false))
    elif detail == "kind":
        real = {each.kind for each in things}
        what = article(_pick(rng, sorted(real) if true else [each for each in KINDS if each not in real]))
    else:
        real = {each.colour for each in things}
        value = _pick(rng, sorted(real) if true else [each for each in COLOURS if each not in real])
        what = _pick(rng, (f"something {value}", f"{article(value)} object"))
    wording = _pick(rng, ("is there {} in the picture?", "is there {}?", "do you see {}?"))
    return Question(wording.format(what), "yes" if true else "no", "existence")


def _refer(rng: np.random.Generator, things: list[SceneObject], position: int) -> str:
    """A name that fits this object only."""
    thing = things[position]
    options = [f"the {thing.name}"] * 2
    if _unique(things, position, "kind"):
        options.append(f"the {thing.kind}")
    if _unique(things, position, "colour"):
        options.append(f"the {thing.colour} object")
    return _pick(rng, options)


def _which_side(rng: np.random.Generator, things: list[SceneObject]) -> Question:
    position = int(rng.integers(2))
    subject, other = _refer(rng, things, position), _refer(rng, things, 1 - position)
    wordings = (
        f"is {subject} on the left or on the right?",
        f"is {subject} left or right of {other}?",
        f"on which side is {subject}?",
    )
    return Question(_pick(rng, wordings), _side(position), "left_right")


def _is_it_so(rng: np.random.Generator, things: list[SceneObject]) -> Question:
    position, asked = int(rng.integers(2)), int(rng.integers(2))
    subject, other = _refer(rng, things, position), _refer(rng, things, 1 - position)
    wordings = (f"is {subject} to the {_side(asked)} of {other}?", f"is {subject} on the {_side(asked)}?")
    return Question(_pick(rng, wordings), "yes" if position == asked else "no", "left_right")
