"""The robot's live parameters as one value, and the small decisions that depend on them; no ROS in here."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from laim_ros.codec.stream import MAX_PROMPT_CHARACTERS
from laim_ros.nodes.messages import FrameResult
from laim_ros.parameters import ParameterValue, ParameterValueError, check_template, plan_from
from laim_ros.plan import Plan

MOST_QUESTIONS = 7
"""A stream holds eight prompts; the first is the standing one."""

MOST_QUESTION_CHARACTERS = 512


@dataclass(frozen=True, slots=True)
class RobotSettings:
    """The live parameters, read once per frame so that a frame never mixes old and new ones."""

    plan: Plan
    prompt: str
    template: str
    rate_hz: float
    deadline_s: float
    min_change: float

    @classmethod
    def read(cls, values: Mapping[str, ParameterValue]) -> RobotSettings:
        """The settings in the robot's parameters.

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
        return cls(
            plan=plan_from(values),
            prompt=values["prompt"],
            template=check_template(values["question_template"]),
            rate_hz=values["rate_hz"],
            deadline_s=values["deadline_s"],
            min_change=values["min_change"],
        )


def in_words(plan: Plan) -> str:
    """The plan for people, such as `qformer at 4 bits (plain)`."""
    if plan.split_point == "input":
        return f"pictures as {plan.codec}"
    if plan.split_point == "output":
        return "everything on the robot"
    return f"{plan.split_point} at {plan.feature_bits} bits ({plan.codec})"


class Questions:
    """Questions that wait for the next image."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()

    def ask(self, text: str) -> str:
        """Takes a question; returns why not, or an empty string."""
        question = text.strip()
        if not 0 < len(question) <= MOST_QUESTION_CHARACTERS:
            return f"a question of {len(question)} characters is ignored; ask with 1 to {MOST_QUESTION_CHARACTERS}"
        if len(self._waiting) >= MOST_QUESTIONS:
            return f"{MOST_QUESTIONS} questions wait for an image already; '{question}' is ignored"
        self._waiting.append(question)
        return ""

    def take(self, template: str) -> list[str]:
        """The prompts of all that wait; they wait no longer."""
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        return [template.replace("{question}", question) for question in taken]


class Repeater:
    """Decides whether a frame changed so little that the last result holds for it too."""

    def __init__(self) -> None:
        self._features: np.ndarray | None = None
        self._sequence = 0
        self._result: FrameResult | None = None

    def sent(self, sequence: int, features: np.ndarray) -> None:
        """Remembers the frame that was sent (or finished here) last."""
        self._sequence, self._features = sequence, features

    def finished(self, result: FrameResult) -> None:
        """Remembers a result, for its first prompt: questions are asked about one frame only."""
        if not result.error and not result.repeated:
            self._result = replace(result, texts=result.texts[:1], prompts=result.prompts[:1])

    def result_for(self, features: np.ndarray, prompt: str, min_change: float) -> FrameResult | None:
        """The last result, marked as repeated, if it holds for these features; else None.

        It does where the mean absolute change since the last frame sent is below `min_change` times the mean magnitude
        of that frame's features, and that frame's own result is known and answers the same prompt.
        """
        before, result = self._features, self._result
        if not min_change or before is None or result is None or before.shape != features.shape:
            return None
        if result.sequence != self._sequence or result.prompts[0] != prompt:
            return None
        before = before.astype(np.float32)
        change = float(np.abs(features - before).mean())
        return replace(result, repeated=True) if change < min_change * float(np.abs(before).mean()) else None
