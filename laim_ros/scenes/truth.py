"""Is a caption true of a scene? Checks what it claims, not how it is worded."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from laim_ros.scenes.camera import extents
from laim_ros.scenes.parse import Claims, Mention, NotUnderstood, parse
from laim_ros.scenes.world import Scene

_MOST_READINGS = 4096  # who is meant by each noun: more possibilities than this is babble
_MIDDLE = 0.05  # a lone object this near the middle (in picture heights) may be called left or right


@dataclass(frozen=True)
class Truth:
    """true: something is said and nothing of it is wrong. complete: also true, names kind and colour of every object
    and, with two objects, which is on which side. reason: in words, what is wrong or missing ("" when complete)."""

    true: bool
    complete: bool
    reason: str


def caption_truth(caption: str, scene: Scene) -> Truth:
    """Checks a caption of any wording against the scene. Never raises: what is not understood is not true."""
    if not isinstance(caption, str):
        return Truth(False, False, "the caption is not a text")
    try:
        claims = parse(caption)
    except NotUnderstood as error:
        return Truth(False, False, str(error))
    if not claims.mentions:
        return Truth(False, False, "no object is named")
    for place in claims.places:
        if place != scene.background.place:
            return Truth(False, False, f"the objects are not {'on a table' if place == 'table' else 'on the floor'}")
    return _check(claims, _Facts(scene))


class _Facts:
    """What the claims are held against."""

    def __init__(self, scene: Scene) -> None:
        self.objects = scene.objects
        self.centres = [box.centre for box in extents(scene)]
        order = sorted(range(len(self.objects)), key=self.centres.__getitem__)
        self.rank = {index: place for place, index in enumerate(order)}

    def fits(self, mention: Mention, index: int) -> bool:
        thing = self.objects[index]
        if mention.kind not in ("", thing.kind) or any(colour != thing.colour for colour in mention.colours):
            return False
        return all(self.stands(index, side) for side in mention.sides)

    def stands(self, index: int, side: str) -> bool:
        """Whether the object is the one on that side (or, alone, in that half of the picture)."""
        if len(self.objects) == 1:
            return self.centres[index] < _MIDDLE if side == "left" else self.centres[index] > -_MIDDLE
        return self.rank[index] == (0 if side == "left" else len(self.objects) - 1)

    def in_order(self, first: int, side: str, second: int) -> bool:
        return self.rank[first] < self.rank[second] if side == "left" else self.rank[first] > self.rank[second]


def _check(claims: Claims, facts: _Facts) -> Truth:
    choices = []
    for mention in claims.mentions:
        fitting = [index for index in range(len(facts.objects)) if facts.fits(mention, index)]
        if not mention.number and not fitting:
            return Truth(False, False, f"there is no {mention}")
        wrong_number = len(fitting) < 2 if mention.number == -1 else mention.number not in (0, len(fitting))
        if wrong_number:
            return Truth(False, False, f"there are not {max(mention.number, 2)} of: {mention}")
        choices.append([tuple(fitting)] if mention.number else [(index,) for index in fitting])
    readings = 1
    for choice in choices:
        readings *= len(choice)
    if readings > _MOST_READINGS:
        return Truth(False, False, "the caption is babble")
    missing = [_missing(claims, facts, reading) for reading in product(*choices) if _consistent(claims, facts, reading)]
    if not missing:
        return Truth(False, False, _contradiction(claims))
    least = min(missing, key=len)
    return Truth(True, not least, least)


def _contradiction(claims: Claims) -> str:
    if claims.relations:
        _, side, other = claims.relations[0]
        return f"nothing fits that stands {side} of the {claims.mentions[other]}, or an object is counted twice"
    return "more objects are named than there are"


def _consistent(claims: Claims, facts: _Facts, reading: tuple[tuple[int, ...], ...]) -> bool:
    """Whether every noun can mean the objects that `reading` gives it."""
    if any(reading[a] != reading[b] for a, b in claims.same):
        return False
    for first, side, second in claims.relations:
        if len(reading[first]) != 1 or len(reading[second]) != 1:
            return False
        if not facts.in_order(reading[first][0], side, reading[second][0]):
            return False
    repeated = {b for _, b in claims.same}
    new = [  # "a red ball" each time speaks of another one; "the red ball" may come back
        meant[0]
        for number, (mention, meant) in enumerate(zip(claims.mentions, reading, strict=True))
        if not mention.definite and not mention.number and number not in repeated
    ]
    return len(new) == len(set(new))


def _missing(claims: Claims, facts: _Facts, reading: tuple[tuple[int, ...], ...]) -> str:
    """What a complete caption would also say; "" for nothing."""
    kinds, colours, pairs = set(), set(), set()
    for mention, meant in zip(claims.mentions, reading, strict=True):
        kinds.update(meant if mention.kind else ())
        colours.update(meant if mention.colours else ())
        if mention.sides and len(facts.objects) == 2:
            pairs.add(frozenset((0, 1)))
    pairs.update(frozenset((reading[first][0], reading[second][0])) for first, _, second in claims.relations)
    everything = range(len(facts.objects))
    gaps = [f"the kind of the {facts.objects[index].name}" for index in everything if index not in kinds]
    gaps += [f"the colour of the {facts.objects[index].name}" for index in everything if index not in colours]
    if len(pairs) < len(facts.objects) - 1:
        gaps.append("which object is on which side")
    return f"does not say {', '.join(gaps)}" if gaps else ""
