"""One run of the demo: the nodes are started, watched, given plans and questions, and ended whatever happens."""

from __future__ import annotations

import math
import os
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from laim_ros.bringup import command_line
from laim_ros.demo.frames import Frame, Matcher, plan_words
from laim_ros.demo.link import goodput_words, phase_at
from laim_ros.demo.questions import Answered, Questioner
from laim_ros.demo.screen import Screen
from laim_ros.demo.settings import DemoSettings, PlanStep, free_domain
from laim_ros.demo.sheet import Album, thumbnail
from laim_ros.demo.timeline import Timeline
from laim_ros.parameters import DEFAULT_PICTURE_CODEC, ParameterValue
from laim_ros.processes import Child, end_all, exit_in_words
from laim_ros.records import PlanReport, coded_as

_POLL_S = 0.05
_STALL_S = 30.0
_STALL_AT_END_S = 10.0
_QUESTION_PERIOD_S = 3.0
_LOG_TAIL_LINES = 15


class DemoFailedError(RuntimeError):
    """The demo could not go on.

    Attributes:
        node: the node to blame; empty where it is unknown.
    """

    def __init__(self, message: str, node: str = "") -> None:
        super().__init__(message)
        self.node = node


class Watching(Protocol):
    """What the demo needs of `laim_ros.nodes.observer.Observer`."""

    def set_parameters(self, node: str, values: Mapping[str, ParameterValue]) -> bool: ...
    def ask(self, question: str) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Run:
    """What came of a run.

    Attributes:
        frames: that came back after the first caption, without their pictures.
        album: some of them, with their pictures.
        answered: questions and answers.
        timeline: the planner's decisions and the made-up link.
        first_caption_s: seconds from the start of the nodes to the first caption; NaN if there was none.
        seconds: how long captions were shown.
        failure: why it ended early; empty if it did not.
        guilty: the node to blame for that; empty where it is unknown.
        stopped: whether `Session.stop` ended it.
    """

    frames: list[Frame] = field(default_factory=list)
    album: Album = field(default_factory=Album)
    answered: list[Answered] = field(default_factory=list)
    timeline: Timeline = field(default_factory=Timeline)
    first_caption_s: float = math.nan
    seconds: float = 0.0
    failure: str = ""
    guilty: str = ""
    stopped: bool = False


class Session:
    """Starts the nodes, looks on, and changes what changes over time: the plan or the link.

    Args:
        settings: what to do.
        screen: where it is shown.
        watch: makes an `Observer`; called after the environment is set, with the names of the nodes and callbacks.
    """

    def __init__(self, settings: DemoSettings, screen: Screen, watch: Callable[..., Watching]) -> None:
        self._settings, self._screen, self._watch = settings, screen, watch
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._children: dict[str, Child] = {}
        self._states: dict[str, str] = {}
        self._health: dict[str, str] = {}
        self._matcher = Matcher(time.monotonic)
        self._questioner = Questioner()
        self._observer: Watching | None = None
        self._run = Run()
        self._started_s = self._flowing_s = self._last_frame_s = math.nan
        self._due: dict[str, int] = {}
        self._to_begin: dict[str, dict[str, ParameterValue]] = {}
        self._newest_report: PlanReport | None = None
        self._last_error = ""
        self._stopping = False

    def stop(self) -> None:
        """Ends the run soon; may be called from a signal handler."""
        self._stopping = True

    def run(self) -> Run:
        """Runs the demo to its end. All nodes have ended when it returns or raises.

        Raises:
            OSError: a log cannot be written, or a node cannot be started.
        """
        try:
            self._start()
            self._flow()
        except DemoFailedError as error:
            self._run.failure, self._run.guilty = str(error), error.node
        finally:
            self._end()
        self._run.stopped = self._stopping
        return self._run

    def log_tail(self, node: str) -> str:
        """The last lines of a node's log."""
        lines = self.log_path(node).read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])

    def log_path(self, node: str) -> Path:
        """Where a node's output goes."""
        return self._settings.logs / f"{node}.log"

    # The course of things.

    def _start(self) -> None:
        isolate()
        self._settings.logs.mkdir(parents=True, exist_ok=True)
        specs = self._settings.nodes()
        self._started_s = time.monotonic()
        self._screen.say(
            f"starting {', '.join(spec.name for spec in specs)} on ROS domain {os.environ['ROS_DOMAIN_ID']}"
        )
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "RCUTILS_COLORIZED_OUTPUT": "0"}
        for spec in specs:
            if self._stopping:
                return
            with self.log_path(spec.name).open("wb") as log:
                self._children[spec.name] = Child(spec.name, command_line(spec), environment, log)
        self._observer = self._watch(
            "",
            [f"/{spec.name}" for spec in specs],
            on_image=self._later(lambda stamp_ns, picture: self._matcher.add_picture(stamp_ns, thumbnail(picture))),
            on_reference=self._later(self._matcher.add_reference),
            on_result=self._later(self._matcher.add_result),
            on_link=self._later(self._matcher.add_link),
            on_plan=self._later(self._on_plan),
            on_state=self._later(self._on_state),
            on_health=self._later(self._on_health),
            on_refused=self._later(self._on_refused),
        )

    def _flow(self) -> None:
        settings, next_question_s = self._settings, math.inf
        while not self._stopping:
            self._work_events()
            for frame in self._matcher.take():
                self._on_frame(frame)
            self._check_nodes()
            now_s = time.monotonic()
            if not math.isfinite(self._flowing_s):
                if now_s - self._started_s > settings.start_limit_s:
                    raise self._nothing_flows(f"no caption within {settings.start_limit_s:g} s")
                continue
            if not math.isfinite(next_question_s):
                next_question_s = now_s + _QUESTION_PERIOD_S / 2
            elapsed_s = now_s - self._flowing_s
            self._run.seconds = elapsed_s
            self._screen.tick(elapsed_s)
            silent_s = now_s - self._last_frame_s
            over = elapsed_s >= settings.seconds
            # A run that falls silent and then happens to end must not pass for one in which captions flowed.
            if silent_s > (max(_STALL_AT_END_S, settings.seconds / 2) if over else _STALL_S):
                raise self._nothing_flows(f"no caption for {silent_s:.0f} s")
            if over:
                return
            self._follow(elapsed_s)
            if now_s >= next_question_s and self._run.frames and self._run.frames[-1].scene is not None:
                next_question_s = now_s + _QUESTION_PERIOD_S
                self._observer.ask(self._questioner.next_question(self._run.frames[-1].scene))

    def _end(self) -> None:
        self._screen.close()
        if self._children:
            self._screen.say(f"ending {', '.join(self._children)}")
        try:
            if self._observer is not None:
                self._observer.close()
        finally:
            end_all(list(self._children.values()))

    # What the observer tells, worked off in this thread.

    def _later(self, handler: Callable[..., None]) -> Callable[..., None]:
        def put(*arguments: Any) -> None:
            self._events.put(partial(handler, *arguments))

        return put

    def _work_events(self) -> None:
        try:
            self._events.get(timeout=_POLL_S)()
            while True:
                self._events.get_nowait()()
        except queue.Empty:
            pass

    def _on_state(self, node: str, state: str) -> None:
        name = node.strip("/")
        self._states[name] = state
        if state == "active":
            self._screen.say(f"{name} ready after {time.monotonic() - self._started_s:.1f} s")

    def _on_health(self, node: str, failed: bool, sentence: str) -> None:
        name = node.strip("/")
        self._health[name] = sentence
        if failed and self._states.get(name) != "active":
            raise DemoFailedError(f"{name}: {sentence}", name)

    def _on_refused(self, node: str, reason: str) -> None:
        self._screen.say(f"{node.strip('/')} refuses: {reason}")

    def _on_plan(self, report: PlanReport) -> None:
        self._newest_report = report
        if math.isfinite(self._flowing_s):
            self._take_report(report, time.monotonic() - self._flowing_s)

    def _take_report(self, report: PlanReport, elapsed_s: float) -> None:
        self._screen.status(report)
        change = self._run.timeline.add_report(elapsed_s, report)
        if change is not None:
            self._screen.plan(change.words, report.reason)

    def _on_frame(self, frame: Frame) -> None:
        now_s = time.monotonic()
        self._last_error = frame.error
        if not math.isfinite(self._flowing_s):
            if frame.error:
                return
            self._flowing_s = now_s
            self._run.first_caption_s = now_s - self._started_s
            self._begin()
        if not frame.error:
            self._last_frame_s = now_s
        frame = replace(frame, at_s=now_s - self._flowing_s)
        self._run.album.add(frame)
        self._run.frames.append(replace(frame, picture=None))
        self._screen.show(frame, frame.at_s)
        for answered in self._questioner.answers(frame):
            self._run.answered.append(answered)
            self._screen.answer(answered)

    # What changes over time.

    def _begin(self) -> None:
        """The first caption is here."""
        settings = self._settings
        self._screen.begin(settings.seconds)
        if not settings.planned:
            self._screen.plan(step_words(settings.steps[0]))
            self._due["step"] = 0
            return
        # Battery and mission begin now, however long the models took to load.
        self._to_begin = {
            "/camera": {"battery_life_s": settings.battery_life_s},
            "/planner": {"mission_s": settings.seconds},
        }
        if self._newest_report is not None:
            self._take_report(self._newest_report, 0.0)

    def _follow(self, elapsed_s: float) -> None:
        """Sets what is due; what a node cannot be asked yet is tried again soon."""
        settings = self._settings
        if not settings.planned:
            due = settings.step_at(elapsed_s)
            if self._set_due("step", due, "/robot", settings.steps[due].parameters):
                self._screen.plan(step_words(settings.steps[due]))
            return
        for node in [name for name, values in self._to_begin.items() if self._observer.set_parameters(name, values)]:
            del self._to_begin[node]
        due = phase_at(settings.link, settings.seconds, elapsed_s)
        goodput_bps = settings.link[due].goodput_bps
        if self._set_due("link", due, "/shaper", {"goodput_bps": goodput_bps}):
            self._run.timeline.links.append((elapsed_s, goodput_bps))
            self._screen.link(goodput_words(goodput_bps))

    def _set_due(self, what: str, due: int, node: str, values: Mapping[str, ParameterValue]) -> bool:
        """Whether this is the moment at which it was set."""
        if self._due.get(what) == due or not self._observer.set_parameters(node, values):
            return False
        self._due[what] = due
        return True

    # What may go wrong.

    def _check_nodes(self) -> None:
        for name, child in self._children.items():
            if child.exit_status is not None and not self._stopping:
                raise DemoFailedError(f"{name} {exit_in_words(child.exit_status)}", name)

    def _nothing_flows(self, what: str) -> DemoFailedError:
        late = [name for name in self._children if self._states.get(name) != "active"]
        if late:
            states = ", ".join(f"{name} is {self._states.get(name) or 'not yet there'}" for name in late)
            return DemoFailedError(f"{what}: {states}; a slow machine may need a longer --start-limit", late[0])
        if self._last_error:
            return DemoFailedError(f"{what}: {self._last_error}", "edge")
        said = "; ".join(f"{name} says: {sentence}" for name, sentence in self._health.items())
        return DemoFailedError(f"{what}; {said}", "robot")


def step_words(step: PlanStep) -> str:
    """A plan in words; what codec `auto` is for features, the robot knows, and the frames tell."""
    codec = DEFAULT_PICTURE_CODEC if step.codec == "auto" else step.codec
    unknown = step.codec == "auto" and step.split_point not in ("input", "output")
    sent_as = str(step.feature_bits) if unknown else coded_as(step.split_point, step.feature_bits, codec)
    return plan_words(step.split_point, sent_as, str(step.weight_bits or ""))


def isolate() -> None:
    """Keeps the demo to this machine and out of the way of other ROS systems on it, unless the user chose otherwise."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain()))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


__all__ = ["DemoFailedError", "Run", "Session", "isolate", "step_words"]
