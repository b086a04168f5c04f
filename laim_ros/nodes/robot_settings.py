"""The robot's live parameters as one value, and the small decisions that depend on them; no ROS in here."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from laim_ros.codec.packet import HEADER_BYTES
from laim_ros.codec.stream import MAX_PROMPT_CHARACTERS
from laim_ros.nodes.ledger import Question
from laim_ros.parameters import ParameterValue, ParameterValueError, check_template, plan_from, why_plain
from laim_ros.plan import Plan
from laim_ros.records import FrameResult

_Frame = TypeVar("_Frame")

MOST_QUESTIONS = 7
"""A stream holds eight prompts; the first is the standing one."""

MOST_QUESTION_CHARACTERS = 512
QUESTION_LIFE_S = 60.0
"""How long a question is asked again when its frame was overtaken; later, nobody waits for the answer."""

_MOST_HELD_S = 1.0
"""How long frames wait for the result of an equal one before one is sent again."""


@dataclass(frozen=True, slots=True)
class RobotSettings:
    """The live parameters, read once per frame so that a frame never mixes old and new ones.

    Attributes:
        why_plain: why codec `auto` is `plain`; empty where it is not.
    """

    plan: Plan
    why_plain: str
    predictive: bool
    max_packet_bytes: int
    prompt: str
    template: str
    rate_hz: float
    deadline_s: float
    min_change: float
    probe_period_s: float

    @classmethod
    def read(cls, values: Mapping[str, ParameterValue], calibrated: Collection[str] = ()) -> RobotSettings:
        """The settings in the robot's parameters.

        Args:
            values: the parameters.
            calibrated: split points at which codec `klt` is calibrated; none while no model is loaded.

        Raises:
            ValueError: values that do not fit each other; the message says what would.
        """
        longest = {
            "prompt": MAX_PROMPT_CHARACTERS,
            "question_template": MAX_PROMPT_CHARACTERS - MOST_QUESTION_CHARACTERS,
        }
        for name, most in longest.items():
            if len(values[name]) > most:
                raise ParameterValueError(f"{name} takes at most {most} characters, not {len(values[name])}")
        if 0 < values["max_packet_bytes"] <= HEADER_BYTES:
            raise ParameterValueError(
                f"max_packet_bytes takes 0 (no limit) or more than {HEADER_BYTES}, which the header has already, not "
                f"{values['max_packet_bytes']}"
            )
        return cls(
            plan=plan_from(values, calibrated),
            why_plain=why_plain(values, calibrated),
            predictive=values["predictive"],
            max_packet_bytes=values["max_packet_bytes"],
            prompt=values["prompt"],
            template=check_template(values["question_template"]),
            rate_hz=values["rate_hz"],
            deadline_s=values["deadline_s"],
            min_change=values["min_change"],
            probe_period_s=values["probe_period_s"],
        )

    def with_weight_bits(self, weight_bits: int) -> RobotSettings:
        """The same for a frame that went through a head of so many bits per weight, whatever is wanted."""
        return replace(self, plan=replace(self.plan, weight_bits=weight_bits))

    @property
    def asked(self) -> Hashable:
        """What a result depends on beside the picture: another one is wanted where this changes."""
        return self.prompt, replace(self.plan, robot_clock_hz=0.0)


class Questions:
    """Questions that wait for the next image. Thread-safe."""

    def __init__(self) -> None:
        self._waiting: deque[Question] = deque()
        self._lock = threading.Lock()

    def ask(self, text: str, now_s: float) -> str:
        """Takes a question; returns why not, or an empty string."""
        question = text.strip()
        if not 0 < len(question) <= MOST_QUESTION_CHARACTERS:
            return f"a question of {len(question)} characters is ignored; ask with 1 to {MOST_QUESTION_CHARACTERS}"
        return self._queue(Question(question, now_s))

    def ask_again(self, question: Question, now_s: float) -> str:
        """Takes back a question whose frame was overtaken; returns why not, or an empty string."""
        if now_s - question.asked_s > QUESTION_LIFE_S:
            return f"question '{question.text}' got no answer within {QUESTION_LIFE_S:g} s and is given up"
        return self._queue(question)

    def take(self) -> tuple[Question, ...]:
        """All that wait; they wait no longer."""
        with self._lock:
            taken = tuple(self._waiting)
            self._waiting.clear()
        return taken

    def _queue(self, question: Question) -> str:
        with self._lock:
            if len(self._waiting) >= MOST_QUESTIONS:
                return f"{MOST_QUESTIONS} questions wait for an image already; '{question.text}' is ignored"
            self._waiting.append(question)
        return ""


class Repeater(Generic[_Frame]):
    """Decides whether a frame is so like the last one sent that it needs no packet of its own. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._features: np.ndarray | None = None
        self._asked: Hashable = None
        self._sequence = 0
        self._sent_s = 0.0
        self._result: FrameResult | None = None
        self._held: _Frame | None = None

    def sent(self, sequence: int, features: np.ndarray, asked: Hashable, now_s: float) -> None:
        """Remembers the frame that was sent (or finished here) last, and what was asked of it, such as its prompt."""
        with self._lock:
            self._sequence, self._features, self._asked, self._sent_s = sequence, features, asked, now_s
            self._result = self._held = None

    def same_as_last(self, features: np.ndarray, asked: Hashable, min_change: float, now_s: float) -> bool:
        """Whether the result of the last frame sent, known or under way, holds for these features too.

        It does where the mean absolute change is below `min_change` times the mean magnitude of that frame's features,
        and the same is asked. Features are compared as they were before any codec, so that a coarse one neither hides a
        change nor makes one. A result that has been under way for long may never come: then it does not hold.
        """
        with self._lock:
            before = self._features
            overdue = self._result is None and now_s - self._sent_s > _MOST_HELD_S
            if not min_change or before is None or overdue or before.shape != features.shape or asked != self._asked:
                return False
        before = before.astype(np.float32)
        change = float(np.abs(features - before).mean())
        return change < min_change * float(np.abs(before).mean())

    def result_or_hold(self, frame: _Frame) -> FrameResult | None:
        """The last frame's result for `frame`, marked as repeated; None if `frame` now waits for it."""
        with self._lock:
            if self._result is None:
                self._held = frame
                return None
            return replace(self._result, repeated=True)

    def refused(self, sequence: int) -> None:
        """An edge refused the frame: if it was the last one, the next is sent, unless another edge has a result."""
        with self._lock:
            if sequence == self._sequence:
                self._sent_s = -math.inf

    def finished(self, result: FrameResult) -> tuple[_Frame, FrameResult] | None:
        """Remembers a result; returns the frame that waited for it, if one did, and the result marked as repeated."""
        with self._lock:
            if result.error or result.repeated or result.sequence != self._sequence or self._features is None:
                return None
            # The first prompt's only: questions are asked about one frame.
            self._result = replace(result, texts=result.texts[:1], prompts=result.prompts[:1])
            held, self._held = self._held, None
            return None if held is None else (held, replace(self._result, repeated=True))
