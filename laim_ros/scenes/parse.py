"""Reads a caption, in whatever wording, into the claims it makes: which things there are, and how they stand.

A small hand-written reader for captions of scenes. It knows the words below and refuses all others: a claim that is
not understood is never counted as true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from laim_ros.scenes.vocabulary import COLOURS, KINDS, SIDES

_LONGEST_CAPTION = 600
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")

_KIND_WORDS = {
    "sphere": "ball",
    "box": "cube",
    "block": "cube",
    "can": "cylinder",
    "boxes": "cube",
    "object": "",
    "thing": "",
    "item": "",
    "something": "",
} | {kind: kind for kind in KINDS}
_PLURALS = {word + "s": kind for word, kind in _KIND_WORDS.items() if word not in ("something", "boxes")}
_PLURALS["boxes"] = "cube"
_COLOUR_WORDS = {colour: colour for colour in COLOURS} | {"violet": "purple"}
_PLACE_WORDS = {
    "table": "table",
    "tabletop": "table",
    "desk": "table",
    "floor": "room",
    "ground": "room",
    "room": "room",
}
_FRAME_WORDS = {"picture", "image", "photo", "photograph", "frame", "scene", "view"}
_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5} | {str(number): number for number in range(2, 10)}
_INDEFINITE = {"a", "an", "one", "1", "another"}
_DEFINITE = {"the", "this"}
_CUTS = {",", ";", ".", ":", "!", "and", "while", "with", "but"}
_FILLER_TEXT = """
there of in on to at from that which here we see you i shows showing contains containing has seen side hand colored
coloured color colour by next beside near placed located positioned stands standing sits sitting lies lying
"""
_FILLERS = frozenset(_FILLER_TEXT.split())


class NotUnderstood(Exception):
    """The caption says something that this reader cannot check."""


@dataclass
class Mention:
    """One thing spoken of. Empty `kind` means any; `number` 0 means one thing, -1 an unnamed number of several."""

    kind: str = ""
    colours: list[str] = field(default_factory=list)
    sides: list[str] = field(default_factory=list)
    definite: bool = False
    number: int = 0

    def __str__(self) -> str:
        words = [*dict.fromkeys(self.colours), self.kind or "object"]
        return " ".join(words) + (f" on the {self.sides[0]}" if self.sides else "")


@dataclass
class Claims:
    """All that a caption says. Relations are (mention, side, mention): the first stands on that side of the second."""

    mentions: list[Mention] = field(default_factory=list)
    relations: list[tuple[int, str, int]] = field(default_factory=list)
    same: list[tuple[int, int]] = field(default_factory=list)
    places: list[str] = field(default_factory=list)


def parse(caption: str) -> Claims:
    """The claims of a caption. Raises NotUnderstood with the reason."""
    return _Reader(_TOKEN.findall(caption[:_LONGEST_CAPTION].lower())).read()


class _Reader:
    """Walks over the words once; what it has seen of the current noun phrase and clause is its state."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.claims = Claims()
        self.phrase = Mention()  # adjectives and article of the noun to come
        self.article = ""
        self.clause: list[int] = []  # mentions since the clause began
        self.copula = False  # "is" has come since the last mention
        self.side_of_next = ""  # "on the left ...": waits for its thing
        self.awaits_other: tuple[str, int | None] | None = None  # "left of ...": side and what stands there
        self.subject_after: tuple[str, int] | None = None  # "left of B there is ...": side and B

    def read(self) -> Claims:
        position = 0
        while position < len(self.tokens):
            position = self._step(position)
        if self.phrase.colours:
            raise NotUnderstood(f"{self.phrase.colours[0]!r} names no object")
        if self.side_of_next or self.awaits_other or self.subject_after:
            raise NotUnderstood("a side is named without the object that it is about")
        return self.claims

    def _step(self, position: int) -> int:
        """Takes in the word at `position`; returns the position of the next."""
        word = self.tokens[position]
        if word in SIDES or word in ("leftmost", "rightmost"):
            return self._side(position)
        if word in _COLOUR_WORDS:
            self._colour(word, position)
        elif word in _KIND_WORDS or word in _PLURALS:
            self._noun(word)
        elif word in _NUMBERS:
            self.phrase.number = _NUMBERS[word]
        elif word in _INDEFINITE or word in _DEFINITE:
            if word == "one" and (self.phrase.sides or self.phrase.colours):  # "the left one", "a red one"
                self._noun("object")
            else:
                self.article = word
                self.phrase.definite = word in _DEFINITE
        elif word in ("it", "its"):
            if not self.claims.mentions:
                raise NotUnderstood(f"{word!r} refers to nothing")
            if word == "it":
                self._pronoun()
        elif word in ("is", "are"):
            self.copula = position == 0 or self.tokens[position - 1] != "there"
        elif word in _PLACE_WORDS or word in _FRAME_WORDS:
            if self.phrase.colours:
                raise NotUnderstood(f"the colour of the {word} cannot be checked")
            if word in _PLACE_WORDS:
                self.claims.places.append(_PLACE_WORDS[word])
            self.phrase, self.article = Mention(), ""
        elif word in _CUTS:
            if self.phrase.colours:
                raise NotUnderstood(f"{self.phrase.colours[0]!r} names no object")
            self.clause, self.copula = [], False
        elif word not in _FILLERS:
            raise NotUnderstood(f"{word!r} cannot be checked")
        return position + 1

    def _colour(self, word: str, position: int) -> None:
        following = self._next_solid(position + 1)
        if following == "one" or any(following in words for words in (_COLOUR_WORDS, _KIND_WORDS, _PLURALS)):
            self.phrase.colours.append(_COLOUR_WORDS[word])
        elif self.article == "one":  # "one red and one blue"
            self.phrase.colours.append(_COLOUR_WORDS[word])
            self._noun("object")
        elif not self.article and self.clause and (self.copula or not self.claims.mentions[self.clause[-1]].colours):
            self.claims.mentions[self.clause[-1]].colours.append(_COLOUR_WORDS[word])  # "the ball is red"
        else:
            raise NotUnderstood(f"{word!r} names no object")

    def _next_solid(self, position: int) -> str:
        while position < len(self.tokens) and self.tokens[position] in ("colored", "coloured"):
            position += 1
        return self.tokens[position] if position < len(self.tokens) else ""

    def _noun(self, word: str) -> None:
        mention = self.phrase
        mention.kind = _KIND_WORDS[word] if word in _KIND_WORDS else _PLURALS[word]
        if word in _PLURALS and word != "boxes" and not mention.number:
            mention.number = -1
        if self.side_of_next:
            mention.sides.append(self.side_of_next)
            self.side_of_next = ""
        self._add(mention)

    def _pronoun(self) -> None:
        """ "it": the thing spoken of last."""
        last = len(self.claims.mentions) - 1
        self.claims.same.append((last, last + 1))
        self._add(Mention(definite=True))

    def _add(self, mention: Mention) -> None:
        number = len(self.claims.mentions)
        self.claims.mentions.append(mention)
        if self.awaits_other:
            side, subject = self.awaits_other
            self.awaits_other = None
            if subject is None:
                self.subject_after = (side, number)
            else:
                self.claims.relations.append((subject, side, number))
        else:
            if self.subject_after:
                side, other = self.subject_after
                self.claims.relations.append((number, side, other))
                self.subject_after = None
            elif self.copula and self.clause:  # "the object on the left is a red ball"
                self.claims.same.append((self.clause[-1], number))
        self.clause.append(number)
        self.phrase, self.article, self.copula = Mention(), "", False

    def _side(self, position: int) -> int:
        word = self.tokens[position]
        side = word.removesuffix("most")
        after = [*self.tokens[position + 1 : position + 4], "", "", ""]
        before = self.tokens[position - 1] if position else ""
        if word != side or after[0] in _KIND_WORDS or after[0] in _COLOUR_WORDS or after[0] == "one":
            self.phrase.sides.append(side)  # "the left ball"
            return position + 1
        skip = 1
        while after[0] in ("hand", "side"):
            after, skip = [*after[1:], ""], skip + 1
        if self.phrase.colours:
            raise NotUnderstood(f"{self.phrase.colours[0]!r} names no object")
        self.phrase, self.article = Mention(), ""
        if self.side_of_next or self.awaits_other:
            raise NotUnderstood("two sides are named for one object")
        subject = self.clause[-1] if self.clause else None
        in_frame = after[1] in _FRAME_WORDS or after[2] in _FRAME_WORDS
        if after[0] in ("of", "from") and not in_frame:
            self.awaits_other = (side, subject)
            self.copula = False
        elif before == "its":
            if subject is None:
                self.subject_after = (side, len(self.claims.mentions) - 1)
            elif subject == 0:
                raise NotUnderstood("'its' refers to nothing")
            else:
                self.claims.relations.append((subject, side, subject - 1))
        elif subject is None:
            self.side_of_next = side
        else:
            self.claims.mentions[subject].sides.append(side)
        return position + skip
