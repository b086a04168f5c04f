"""Questions asked now and then about what the camera sees, and whether the answers are true."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from laim_ros.demo.frames import Frame
from laim_ros.scenes import QUESTION_KINDS, Question, Scene, captions, questions

_MOST_OPEN = 8


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with the answer that was given and the true one."""

    question: str
    kind: str
    answer: str
    true_answer: str

    @property
    def right(self) -> bool:
        """Whether the answer is the true one."""
        return self.answer.strip().rstrip(".").lower() == self.true_answer.lower()


class Questioner:
    """Chooses questions, of another kind each time, and recognises their answers."""

    def __init__(self) -> None:
        self._asked = 0
        self._open: deque[tuple[Question, str]] = deque(maxlen=_MOST_OPEN)

    def next_question(self, scene: Scene) -> str:
        """A question about the scene; whoever calls this asks it."""
        choice = questions(scene, self._asked)
        wanted = QUESTION_KINDS[self._asked % len(QUESTION_KINDS)]
        fitting = [question for question in choice if question.kind == wanted] or choice
        question = fitting[self._asked % len(fitting)]
        self._asked += 1
        self._open.append((question, captions(scene)[0]))
        return question.text

    def answers(self, frame: Frame) -> list[Answered]:
        """The answers that came with a frame. Those that met another scene than they were asked about are left out."""
        found = []
        for prompt, answer in frame.answers:
            for entry in list(self._open):
                question, asked_about = entry
                if question.text not in prompt:
                    continue
                self._open.remove(entry)
                if asked_about == frame.true_caption:
                    found.append(Answered(question.text, question.kind, answer, question.answer))
                break
        return found
