"""What a person sees while the demo runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from laim_ros.demo.frames import Frame, plan_words
from laim_ros.demo.questions import Answered
from laim_ros.demo.summary import Summary, by_plan, summarise
from laim_ros.planning.reasons import bits_per_second_in_words, joules_in_words, seconds_in_words
from laim_ros.records import PlanReport

_REFRESH_S = 0.15
_WIDE = 156  # columns from which two captions fit beside each other
_WITH_TIME = 96
_OTHER_LINES = 20  # of the live picture: headings, plans, question
_LEAST_ROWS, _MOST_ROWS = 3, 14
MADE_UP = "a token bucket inside this demo"
_TICK, _CROSS = Text("✓", "bold green"), Text("✗", "bold red")


class Screen(Protocol):
    """Where the demo shows what goes on."""

    def say(self, text: str) -> None:
        """One line of progress."""

    def begin(self, seconds: float) -> None:
        """The first caption is here; the demo goes on for so many seconds."""

    def plan(self, words: str, why: str = "") -> None:
        """The robot was given another plan; the planner says why."""

    def link(self, words: str) -> None:
        """The made-up link was set."""

    def status(self, report: PlanReport) -> None:
        """The planner says how things stand."""

    def show(self, frame: Frame, elapsed_s: float) -> None:
        """A frame came back."""

    def answer(self, answered: Answered) -> None:
        """A question was answered."""

    def tick(self, elapsed_s: float) -> None:
        """Time goes by."""

    def close(self) -> None:
        """The demo is over; may be called twice."""


def screen_for(console: Console) -> Screen:
    """The live one in a terminal that is large enough, else plain lines."""
    return LiveScreen(console) if console.is_terminal and console.height >= 20 else PlainScreen(console)


class PlainScreen:
    """One line per event: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        self._print(text)

    def begin(self, seconds: float) -> None:
        self._print(f"captions flow; showing them for {seconds:g} s")
        self._print(
            f"{'time':>6}   {'caption':<52} {'split':<8} {'sent as':<8} {'weights':<7} {'bytes':>7}"
            "  robot   link   edge [ms]"
        )

    def plan(self, words: str, why: str = "") -> None:
        self._print(f"--- plan: {words}{f', because {why}' if why else ''} ---")

    def link(self, words: str) -> None:
        self._print(f"--- link: {words} ({MADE_UP}) ---")

    def status(self, report: PlanReport) -> None:
        pass

    def show(self, frame: Frame, elapsed_s: float) -> None:
        split_point, sent_as, weights = frame.plan
        given = _shortened(frame.error or frame.caption or "(no words)", 52)
        times = " ".join(f"{milliseconds(value):>6}" for value in (frame.robot_s, frame.link_s, frame.edge_s))
        mark = "✓" if frame.right else "✗"
        self._print(
            f"{elapsed_s:5.1f}s {mark} {given:<52} {split_point:<8} {sent_as:<8} {weights:<7} "
            f"{frame.packet_bytes:>7} {times}"
        )
        if not frame.right and frame.true_caption:
            self._print(f"         true: {frame.true_caption}")

    def answer(self, answered: Answered) -> None:
        mark = "✓" if answered.right else f"✗ (true: {answered.true_answer})"
        self._print(f"       ? {answered.question} {_shortened(answered.answer, 52)} {mark}")

    def tick(self, elapsed_s: float) -> None:
        pass

    def close(self) -> None:
        pass

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveScreen:
    """A table that is drawn again and again: the newest frames, the figures per plan, the last question."""

    def __init__(self, console: Console) -> None:
        self._console = console
        rows = max(_LEAST_ROWS, min(_MOST_ROWS, console.height - _OTHER_LINES))
        self._wide = console.width >= _WIDE
        self._newest: deque[tuple[Frame, float]] = deque(maxlen=rows if self._wide else max(_LEAST_ROWS, rows // 2))
        self._rows = self._newest.maxlen
        self._frames: list[Frame] = []
        self._answer: Answered | None = None
        self._plan = self._why = self._link = ""
        self._report: PlanReport | None = None
        self._seconds = 0.0
        self._elapsed_s = 0.0
        self._drawn_at_s = -math.inf
        self._live: Live | None = None

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def begin(self, seconds: float) -> None:
        self._seconds = seconds
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()

    def plan(self, words: str, why: str = "") -> None:
        self._plan, self._why = words, why
        self._draw()

    def link(self, words: str) -> None:
        self._link = words
        self._draw()

    def status(self, report: PlanReport) -> None:
        self._report = report

    def show(self, frame: Frame, elapsed_s: float) -> None:
        self._newest.append((frame, elapsed_s))
        self._frames.append(_without_picture(frame))
        self._draw()

    def answer(self, answered: Answered) -> None:
        self._answer = answered

    def tick(self, elapsed_s: float) -> None:
        self._elapsed_s = elapsed_s
        self._draw()

    def close(self) -> None:
        if self._live is not None:
            # The newest frames stay on the screen; the figures come with the summary.
            self._live.update(self._frame_table(), refresh=True)
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        now_s = time.monotonic()
        if self._live is not None and now_s - self._drawn_at_s >= _REFRESH_S:
            self._drawn_at_s = now_s
            self._live.update(self._picture(), refresh=True)

    def _picture(self) -> RenderableType:
        empty = self._rows - len(self._newest)
        table = self._frame_table()
        cells = len(table.columns)
        for _ in range(empty):
            table.add_row(*([""] * (cells - 1)), "" if self._wide else "\n")  # as tall as it will be: nothing jumps
        return Group(self._heading(), "", table, "", plan_table(self._frames), "", self._question())

    def _frame_table(self) -> Table:
        width = self._console.width
        table = frame_table(self._wide, width)
        for frame, elapsed_s in self._newest:
            table.add_row(*frame_row(frame, elapsed_s, self._wide, width))
        return table

    def _heading(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=self._seconds, completed=min(self._elapsed_s, self._seconds), width=24)
        clock = f"{min(self._elapsed_s, self._seconds):.0f} of {self._seconds:g} s"
        grid.add_row(bar, clock, Text(f"plan: {self._plan}", "bold cyan"))
        if self._report is None:
            return grid
        line = {"no_wrap": True, "overflow": "ellipsis"}
        return Group(grid, Text(state_line(self._report, self._link), **line), Text(self._why, "cyan", **line))

    def _question(self) -> RenderableType:
        return Text(" ") if self._answer is None else answer_line(self._answer)


def state_line(report: PlanReport, link: str) -> str:
    """Battery, link and budget in one line."""
    counted = "" if math.isnan(report.goodput_bps) else f", counted on: {bits_per_second_in_words(report.goodput_bps)}"
    budget = f" · energy budget {joules_in_words(report.energy_budget_j)}" if report.energy_budget_j < math.inf else ""
    deadline = f" · deadline {seconds_in_words(report.deadline_s)}" if report.deadline_s else ""
    return f"battery {percent(report.battery)} · link: {link or '–'} ({MADE_UP}){counted}{deadline}{budget}"


def frame_table(wide: bool, width: int) -> Table:
    """An empty table of frames; `frame_row` makes its rows. Where it is not wide, captions stand above each other."""
    table = Table(expand=True, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1 if wide else 0), header_style="bold")
    if width >= _WITH_TIME:
        table.add_column("time", justify="right", no_wrap=True, width=6)
    if wide:
        table.add_column("true caption", ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column("given caption", ratio=1, no_wrap=True, overflow="ellipsis")
    else:
        heading = Text.assemble("given caption\n", ("true caption", "dim"))
        table.add_column(heading, ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("", width=1)
    if wide:
        table.add_column("split", no_wrap=True, width=7)
        table.add_column("sent as", justify="right", no_wrap=True, width=8)
    else:
        table.add_column(Text.assemble("split\n", ("sent as", "dim")), no_wrap=True, width=8)
    table.add_column("bytes", justify="right", no_wrap=True, width=6)
    for part in ("robot", "link", "edge"):
        table.add_column(f"{part}\nms", justify="right", no_wrap=True, width=5)
    return table


def frame_row(frame: Frame, elapsed_s: float, wide: bool, width: int) -> list[RenderableType]:
    """Cells of one frame."""
    split_point, sent_as, _ = frame.plan
    given = Text(frame.error or frame.caption or "(no words)", "green" if frame.right else "red")
    truth = Text(frame.true_caption, "" if wide else "dim")
    return [
        *([f"{elapsed_s:.1f} s"] if width >= _WITH_TIME else []),
        *([truth, given] if wide else [Text("\n").join([given, truth])]),
        _TICK if frame.right else _CROSS,
        *([split_point, sent_as] if wide else [Text("\n").join([Text(split_point), Text(sent_as, "dim")])]),
        f"{frame.packet_bytes:,}",
        *(milliseconds(value) for value in (frame.robot_s, frame.link_s, frame.edge_s)),
    ]


def plan_table(frames: Sequence[Frame], total: bool = False) -> Table:
    """Figures per plan, and with `total` of all frames."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1), header_style="bold", show_footer=total)
    groups = [(plan_words(*plan), _figures(summarise(group))) for plan, group in by_plan(frames).items()]
    whole = _figures(summarise(frames))
    table.add_column("plan (times in ms)", "all plans", footer_style="bold")  # wraps where there is no room
    headings = ("frames", "true", "bytes", "p50", "p95", "robot", "link", "edge")
    for heading, figure in zip(headings, whole, strict=True):
        table.add_column(heading, figure, justify="right", no_wrap=True, footer_style="bold")
    for words, figures in groups:
        table.add_row(words, *figures)
    return table


def answer_line(answered: Answered) -> Text:
    """A question, its answer, and the true one where they differ."""
    line = Text.assemble(("asked: ", "dim"), answered.question, "  ", no_wrap=True, overflow="ellipsis")
    line.append(_shortened(answered.answer or "(no words)", 40), "green" if answered.right else "red")
    line.append(" ✓" if answered.right else f" ✗ (true: {answered.true_answer})", "green" if answered.right else "red")
    return line


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def milliseconds(seconds: float) -> str:
    """Milliseconds, or a dash for what is not known."""
    if not math.isfinite(seconds):
        return "–"
    value = 1e3 * seconds
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def percent(share: float) -> str:
    """A share in percent, or a dash for what is not known."""
    return f"{100 * share:.0f} %" if math.isfinite(share) else "–"


def _figures(summary: Summary) -> list[str]:
    return [
        str(summary.frames),
        percent(summary.true_share),
        f"{summary.bytes_per_frame:,.0f}" if math.isfinite(summary.bytes_per_frame) else "–",
        *(
            milliseconds(value)
            for value in (
                summary.latency_p50_s,
                summary.latency_p95_s,
                summary.robot_p50_s,
                summary.link_p50_s,
                summary.edge_p50_s,
            )
        ),
    ]


def _without_picture(frame: Frame) -> Frame:
    return replace(frame, picture=None)
