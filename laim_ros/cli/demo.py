"""`laim demo`: the whole system on this machine, watched and scored."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from laim_ros.cli.errors import CommandError, UsageError
from laim_ros.cli.plans import add_plan_arguments, plan_of
from laim_ros.cli.units import SECONDS, quantity
from laim_ros.cli.values import integer, number
from laim_ros.parameters import DEFAULT_MODEL

if TYPE_CHECKING:
    import numpy as np

    from laim_ros.demo.session import Run, Session
    from laim_ros.demo.settings import DemoSettings

NAME = "demo"
HELP = "watch camera, robot, edge and planner caption a synthetic world, and see how well"
DESCRIPTION = """\
Starts a camera of synthetic scenes with a draining battery, a robot, an edge and a planner, each in a process of its
own, and shows every frame's caption beside the true one. Between robot and edge stands a token bucket, a made-up link
that sags, breaks and recovers; the planner changes the robot's plan with it and says why. Ends with a summary, a
contact sheet and a timeline. With --tour or --split-point the plans are given, without planner and bucket.

Exit status: 0 if captions flowed to the end, 1 if not, 2 for wrong usage, 128 + signal if it was interrupted.
"""

_TILES_BESIDE_TIMELINE = 8
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    add = parser.add_argument
    add("--seconds", type=number(1, 86_400), default=30.0, help="how long to show captions (default: 30)")
    add("--rate-hz", type=number(0.1, 100), default=4.0, help="frames per second of the camera (default: 4)")
    add("--model", default=DEFAULT_MODEL, help=f"shipped name, local folder or hub id (default: {DEFAULT_MODEL})")
    add("--tour", action="store_true", help="go through several plans in place of the planner")
    add_plan_arguments(parser, "default: the planner chooses")
    add(
        "--deadline",
        type=quantity(SECONDS, 1e-3, 3600.0),
        metavar="TIME",
        help="from an image to its result, for the planner to keep (default: 0.6s)",
    )
    add("--seed", type=integer(0, 2**31 - 1), default=0, help="first scene of the camera (default: 0)")
    add("--out", type=Path, default=Path("out"), metavar="DIR", help="folder of the sheet and the logs (default: out)")
    add("--sheet", type=Path, metavar="FILE", help="PNG of frames and captions (default: DIR/demo_sheet.png)")
    add("--json", type=Path, metavar="FILE", help="write all figures as JSON")
    add(
        "--start-limit",
        type=number(1, 3600),
        default=180.0,
        metavar="SECONDS",
        help="longest wait for the first caption (default: 180)",
    )


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit status."""
    settings = settings_from(options)
    _check_places(settings)
    # First of all: wheels of ROS start Python anew on import, which must not happen once there are children.
    try:
        from laim_ros.nodes.observer import Observer
    except ImportError as error:
        raise CommandError(
            f"ROS 2 is not to be had in this Python ({error}); source your ROS, or `pip install laim_ros[ros]`"
        ) from None
    from rich.console import Console

    from laim_ros.demo.screen import screen_for
    from laim_ros.demo.session import Session, isolate

    isolate()
    # A pipe or a log file has no width; tables must not be squeezed into 80 columns there.
    console = Console(width=None if sys.stdout.isatty() else 120)
    session = Session(settings, screen_for(console), Observer)
    received: list[int] = []
    _catch_signals(session, received)
    try:
        result = session.run()
    except OSError as error:
        raise CommandError(f"{error}") from None
    _sum_up(console, settings, result)
    if received:
        return 128 + received[0]
    if result.failure:
        _show_log(session, result.guilty)
        raise CommandError(result.failure)
    return 0


def settings_from(options: argparse.Namespace) -> DemoSettings:
    """What the options ask for.

    Raises:
        UsageError: they do not fit each other.
    """
    from laim_ros.demo.settings import DEADLINE_S, TOUR, DemoSettings, PlanStep

    plan_of(options, "qformer")
    own = PlanStep(options.split_point or "", options.feature_bits, options.codec, options.weight_bits)
    if options.split_point is None and own != PlanStep(""):
        raise UsageError("--weight-bits, --feature-bits and --codec belong to one plan; name it with --split-point")
    if options.tour and options.split_point is not None:
        raise UsageError("--tour goes through plans of its own; leave it or --split-point out")
    steps = TOUR if options.tour else ((own,) if options.split_point is not None else ())
    if steps and options.deadline is not None:
        raise UsageError("--deadline is for the planner to keep; leave it out with --tour and --split-point")
    return DemoSettings(
        seconds=options.seconds,
        rate_hz=options.rate_hz,
        model=options.model,
        steps=steps,
        deadline_s=DEADLINE_S if options.deadline is None else options.deadline,
        seed=options.seed,
        start_limit_s=options.start_limit,
        sheet=options.sheet or options.out / "demo_sheet.png",
        logs=options.out / "demo_logs",
        report=options.json,
    )


def _check_places(settings: DemoSettings) -> None:
    """Finds out now, not after the run, that results cannot be written."""
    places = [settings.sheet, settings.logs / "x", *([settings.report] if settings.report else [])]
    for place in places:
        if place.is_dir():
            raise UsageError(f"{place} is a folder; name a file")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                with place.open("ab"):
                    pass
        except OSError as error:
            raise CommandError(f"cannot write {place}: {error.strerror}; choose another place (--out DIR)") from None


def _catch_signals(session: Session, received: list[int]) -> None:
    def stop(number: int, _: object) -> None:
        received.append(number)
        session.stop()

    for caught in _SIGNALS:
        signal.signal(caught, stop)


def _sum_up(console: object, settings: DemoSettings, result: Run) -> None:
    from laim_ros.demo.screen import milliseconds, percent, plan_table
    from laim_ros.demo.sheet import draw_sheet, save_png
    from laim_ros.demo.summary import by_plan, in_time_share, report, summarise

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if result.frames:
        say("")
        console.print(plan_table(result.frames, total=True))
        say("")
        summary = summarise(result.frames)
        truth = f"{percent(summary.true_share)} of {summary.frames} captions true and complete"
        cost = (
            f"{summary.bytes_per_frame:,.0f} bytes per frame, latency p50 {milliseconds(summary.latency_p50_s)} ms, "
            f"p95 {milliseconds(summary.latency_p95_s)} ms"
        )
        if len(by_plan(result.frames)) > 1:
            say("Each plan saw scenes of its own: for a comparison give all of them the same, with --split-point.")
        say(truth + (f" ({summary.errors} frames came back without one)" if summary.errors else ""))
        if result.answered:
            right = sum(each.right for each in result.answered)
            answers = f"{right} of {len(result.answered)} questions answered truly"
            say(answers)
            truth += f" · {answers}"
        say(cost)
        if settings.planned:
            in_time = in_time_share(result.frames, settings.deadline_s)
            changes = len(result.timeline.changes) - 1
            kept = f"{percent(in_time)} within the deadline of {milliseconds(settings.deadline_s)} ms"
            say(f"{kept}, {changes} plan changes")
            truth += f" · {kept}"
        say(f"first caption {result.first_caption_s:.1f} s after the start")
        chosen = result.album.chosen(_TILES_BESIDE_TIMELINE) if settings.planned else result.album.chosen()
        if chosen:
            title = f"laim demo · {settings.model}"
            subtitle = f"{truth} · {cost} · shown: one frame of each scene and plan"
            save_png(settings.sheet, draw_sheet(chosen, title, subtitle, _timeline(settings, result)))
            say(f"contact sheet{' and timeline' if settings.planned else ''}: {settings.sheet}")
    if settings.report is not None:
        further = {
            "model": settings.model,
            "rate_hz": settings.rate_hz,
            "seed": settings.seed,
            "seconds": result.seconds,
            "first_caption_s": result.first_caption_s,
            "failure": result.failure,
        }
        if settings.planned:
            further["deadline_s"] = settings.deadline_s
            further["in_time_share"] = in_time_share(result.frames, settings.deadline_s)
            further.update(result.timeline.history())
        settings.report.write_text(report(result.frames, result.answered, further) + "\n", encoding="utf-8")
        say(f"figures: {settings.report}")
    say(f"logs of the nodes: {settings.logs}")


def _timeline(settings: DemoSettings, result: Run) -> Callable[[int], np.ndarray] | None:
    """Draws the timeline for a given width; None where nothing was planned."""
    from laim_ros.demo.timeline_picture import draw_timeline

    if not settings.planned:
        return None
    seconds = max(result.seconds, 1.0)
    return lambda width: draw_timeline(result.timeline, result.frames, seconds, settings.deadline_s, width)


def _show_log(session: Session, node: str) -> None:
    if node:
        print(f"--- the end of {session.log_path(node)} ---\n{session.log_tail(node)}\n---", file=sys.stderr)
