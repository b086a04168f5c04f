"""`laim plan`: what to run where, from numbers on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from laim_ros.cli.errors import CommandError, UsageError
from laim_ros.cli.units import BITS_PER_SECOND, JOULES, SECONDS, quantity
from laim_ros.cli.values import integer, number
from laim_ros.parameters import DEFAULT_MODEL
from laim_ros.plan import BIT_WIDTHS, MOST_DECIBELS, PlanError, is_feature_codec, picture_format

if TYPE_CHECKING:
    from laim_ros.planning import Allowed, LinkForecast, MachineProfile, QualityTable
    from laim_ros.planning.design import Limits

NAME = "plan"
HELP = "say what to run where, and why, for given profiles, link, deadline and battery"
DESCRIPTION = """\
Chooses a plan as the planner node does, from numbers instead of topics, and lists the other plans with what speaks
against each. A profile is what the stages of a model cost on a machine: robot and edge nodes measure theirs when they
start and keep it, so that this command finds it; bench/profiles/*.json in the source are examples of other machines.

  laim plan --goodput 300kbit --round-trip 20ms --deadline 0.2s
  laim plan --robot-profile robot.json --edge-profile edge.json --goodput 1.2Mbit --battery 0.6 --battery-wh 100 \\
            --mission 1h
  laim plan --paper blip2 --delay 1.5s --energy 2J

Exit status: 0 if a plan keeps all limits, 1 if none does (the least bad one is shown), 2 for wrong usage.
"""

_BATTERY = {"battery_wh": None, "mission": None, "share": 0.2, "reserve": 0.1, "period": 1.0}
"""Options that mean something with --battery alone, and what they are where they are not given."""

_PAPER = ("delay", "energy", "robot_share")

_NOT_FOR_PAPER = (
    *("robot_profile", "edge_profile", "quality", "goodput", "round_trip", "deadline", "energy_budget", "battery"),
    *(*_BATTERY, "split_points", "weight_bits", "feature_bits", "codecs"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    machines = parser.add_argument_group("what there is")
    add = machines.add_argument
    add("--model", default=DEFAULT_MODEL, help=f"whose kept profiles are read (default: {DEFAULT_MODEL})")
    add("--robot-profile", type=Path, metavar="FILE", help="profile of the robot (default: this machine's kept one)")
    add("--edge-profile", metavar="FILE|none", help="profile of the edge; none has the robot alone (default: kept one)")
    add("--quality", metavar="FILE|none", help="quality table; none ranks by theory (default: the model's, if any)")
    add("--goodput", type=quantity(BITS_PER_SECOND, 1.0), metavar="RATE", help="of the link, such as 1.2Mbit or 3e5")
    add("--round-trip", type=quantity(SECONDS), metavar="TIME", help="of a small packet (default: 0s)")
    limits = parser.add_argument_group("what is wanted")
    add = limits.add_argument
    add("--deadline", type=quantity(SECONDS), metavar="TIME", help="from the image to its result (default: none)")
    add("--energy-budget", type=quantity(JOULES), metavar="ENERGY", help="of the robot per frame (default: none)")
    add("--battery", type=number(0, 1), metavar="SHARE", help="charge of the battery now, 0 to 1, in place of a budget")
    add("--battery-wh", type=number(1e-6, 1e9), metavar="WH", help="energy of the full battery in watt-hours")
    add("--mission", type=quantity(SECONDS, 1.0), metavar="TIME", help="how long it must still last")
    add("--share", type=number(0, 1), help="of the battery that inference may use (default: 0.2)")
    add("--reserve", type=number(0, 1), help="charge that must be left at the end (default: 0.1)")
    add("--period", type=quantity(SECONDS, 1e-3), metavar="TIME", help="from frame to frame (default: 1s)")
    add(
        "--tolerance",
        type=number(0, 1),
        default=0.003,
        help="quality losses that differ by less count as equal (default: 0.003)",
    )
    choice = parser.add_argument_group("what may be chosen; words separated by commas (default: everything known)")
    add = choice.add_argument
    add("--split-points", type=_words, default=(), metavar="NAMES", help="such as input,vit.2,qformer")
    add("--weight-bits", type=_bit_widths, default=(), metavar="BITS", help="of the robot's half, such as 4,8")
    add("--feature-bits", type=_bit_widths, default=(), metavar="BITS", help="of the tensor that is sent, such as 2,8")
    add("--codecs", type=_codecs, default=(), metavar="NAMES", help="picture and feature codecs, such as webp50,klt")
    paper = parser.add_argument_group("the paper's own problem, without a link and with the distortion's bounds")
    add = paper.add_argument
    add("--paper", choices=("blip2", "git"), help="solve problem P1 for this model in place of all above")
    add("--delay", type=quantity(SECONDS), metavar="TIME", help="T0, on robot and edge together (default: the paper's)")
    add("--energy", type=quantity(JOULES), metavar="ENERGY", help="E0, of both machines (default: the paper's)")
    add("--robot-share", type=number(0, 1), metavar="SHARE", help="of the operations, on the robot (default: 0.5)")
    output = parser.add_argument_group("what is shown")
    add = output.add_argument
    add("--most", type=integer(1, 100_000), default=16, metavar="N", help="rows of the table (default: 16)")
    add("--all", action="store_true", help="all rows")
    add("--json", action="store_true", help="everything as JSON on standard output, every plan a row")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit status."""
    if options.paper:
        from laim_ros.cli.plan_paper import run_paper

        _refuse(options, _NOT_FOR_PAPER, "--paper has no use for {}")
        return run_paper(options)
    _refuse(options, _PAPER, "{} belongs to --paper; the limits are --deadline and --energy-budget")
    from laim_ros.cli.plan_output import Answer, print_answer, print_json
    from laim_ros.planning import PlanningError, build_choices, expected_costs, select
    from laim_ros.planning.design import Corrections

    remarks: list[str] = []
    limits = limits_from(options, remarks)
    link = link_from(options, remarks)
    try:
        robot, edge = _profiles(options)
        quality, about = _quality(options, robot)
        choices = build_choices(robot, edge, quality, _allowed(options, robot))
    except PlanningError as error:
        raise CommandError(f"{error}") from None
    costs = expected_costs(choices, link, Corrections())
    answer = Answer(robot, edge, about, link, limits, choices, costs, select(choices, costs, limits), tuple(remarks))
    if options.json:
        print_json(answer)
    else:
        print_answer(answer, len(choices) if options.all else options.most)
    return 0 if answer.selection.feasible else 1


def limits_from(options: argparse.Namespace, remarks: list[str]) -> Limits:
    """Deadline and energy per frame; adds to `remarks` what had to be assumed.

    Raises:
        UsageError: the options contradict each other, or one is missing.
    """
    from laim_ros.planning import Battery, Goals, Limits
    from laim_ros.planning.policy import delay_budget_s, energy_budget_j

    energy_j = float("inf")
    if options.battery is None:
        _refuse(options, list(_BATTERY), "{} means something with --battery alone")
        if options.energy_budget is not None:
            energy_j = options.energy_budget
    else:
        _refuse(options, ["energy_budget"], "{} and --battery both limit the energy; give one")
        given = {
            name: default if getattr(options, name) is None else getattr(options, name)
            for name, default in _BATTERY.items()
        }
        missing = [_option(name) for name, value in given.items() if value is None]
        if missing:
            raise UsageError(f"--battery needs {' and '.join(missing)}, or give --energy-budget")
        goals = Goals(
            mission_s=given["mission"],
            battery_share=given["share"],
            battery_reserve=given["reserve"],
            battery_capacity_wh=given["battery_wh"],
        )
        budget = energy_budget_j(Battery(percentage=options.battery), goals, goals.mission_s, given["period"])
        energy_j = budget.value
        if budget.remark:
            remarks.append(budget.remark)
    deadline_s = delay_budget_s(0.0 if options.deadline is None else options.deadline)
    return Limits(deadline_s, energy_j, quality_tolerance=options.tolerance)


def link_from(options: argparse.Namespace, remarks: list[str]) -> LinkForecast:
    """The link that is asked about; free of cost, with a remark, where nothing is said."""
    from laim_ros.planning import LinkForecast

    if options.goodput is None:
        if options.round_trip is None:
            remarks.append("no --goodput and no --round-trip: the link counts as free of cost")
        else:
            remarks.append("no --goodput: the link counts as fast whatever the size of a packet")
    per_byte_s = 0.0 if options.goodput is None else 8 / options.goodput
    known = options.goodput is not None or options.round_trip is not None
    return LinkForecast(options.round_trip or 0.0, per_byte_s, known=known)


def _profiles(options: argparse.Namespace) -> tuple[MachineProfile, MachineProfile | None]:
    """The robot's profile and the edge's; None for a robot alone.

    Raises:
        CommandError: none is kept, and none was named.
        PlanningError: the file that was named cannot be used.
    """
    from laim_ros.planning import MachineProfile
    from laim_ros.planning.kept import newest_kept

    if options.robot_profile is not None:
        robot = MachineProfile.read(options.robot_profile)
    else:
        robot = newest_kept("robot", model=options.model)
        if robot is None:
            raise _nothing_kept("robot", options.model)
    if options.edge_profile == "none":
        return robot, None
    if options.edge_profile is not None:
        return robot, MachineProfile.read(Path(options.edge_profile))
    edge = newest_kept("edge", model_id=robot.model_id)
    if edge is None:
        raise _nothing_kept("edge", robot.model)
    return robot, edge


def _nothing_kept(role: str, model: str) -> CommandError:
    alone = ", or `none` for a robot alone" if role == "edge" else ""
    return CommandError(
        f"no profile of the {role} is kept here for {model}: run `laim up` or `laim demo` once while the machine has "
        f"nothing else to do, or give --{role}-profile FILE{alone}; `laim plan --help` names examples"
    )


def _quality(options: argparse.Namespace, robot: MachineProfile) -> tuple[QualityTable | None, str]:
    """The table and a sentence about it.

    Raises:
        PlanningError: the file that was named cannot be used.
    """
    from laim_ros.planning import PlanningError, QualityTable, find_quality

    if options.quality is None:
        return find_quality(robot.model, robot.model_id)
    if options.quality == "none":
        return None, "no quality table, as asked for: plans are ranked by theory"
    table = QualityTable.read(Path(options.quality))
    if table.model_id != robot.model_id:
        raise PlanningError(
            f"{options.quality} was measured with {table.model} ({table.model_id}), the profile with {robot.model} "
            f"({robot.model_id}); leave --quality out, or give `none`"
        )
    return table, f"quality as measured on {table.frames} frames ({table.source})"


def _allowed(options: argparse.Namespace, robot: MachineProfile) -> Allowed:
    from laim_ros.planning import Allowed

    for name in options.split_points:
        if name not in robot.split_points:
            raise UsageError(
                f"--split-points: {robot.model} has no split point '{name}', only {', '.join(robot.split_points)}"
            )
    return Allowed(options.split_points, options.weight_bits, options.feature_bits, options.codecs)


def _refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    for name in names:
        if getattr(options, name) not in (None, (), False):
            raise UsageError(why.format(_option(name)))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def _bit_widths(text: str) -> tuple[int, ...]:
    known = {str(bits): bits for bits in BIT_WIDTHS}
    return tuple(_each(text, lambda word: known.get(word), f"one of {', '.join(known)}"))


def _codecs(text: str) -> tuple[str, ...]:
    def check(word: str) -> str | None:
        if is_feature_codec(word):
            return word
        try:
            picture_format(word)
        except PlanError:
            return None
        return word

    takes = f"klt, klt1 to klt{MOST_DECIBELS}, plain or a picture format with quality such as jpeg75"
    return tuple(_each(text, check, takes))


def _each(text: str, check: Callable[[str], object], takes: str) -> list:
    values = [check(word) for word in _words(text)]
    for word, value in zip(_words(text), values, strict=True):
        if value is None:
            raise argparse.ArgumentTypeError(f"'{word}' is not {takes}")
    return values
