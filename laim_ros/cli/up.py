"""`laim up`: the nodes of `ros2 launch laim_ros coinference.launch.py`, where ROS's launch is not installed."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time

from laim_ros.bringup import ARGUMENTS, ArgumentError, command_line, nodes_for, parse_arguments
from laim_ros.cli.errors import CommandError, UsageError
from laim_ros.processes import Child, end_all, exit_in_words

NAME = "up"
HELP = "start robot and edge as `ros2 launch` does"
DESCRIPTION = """\
Starts the same nodes as `ros2 launch laim_ros coinference.launch.py`, with the same arguments, each in a process of its
own, and ends them on Ctrl-C. Every line of their output begins with the node's name.

  laim up demo_camera:=true
  laim up role:=robot namespace:=r1 image:=/camera/color/image_raw
  laim up --show-args
"""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("words", nargs="*", metavar="name:=value", help="launch arguments; --show-args lists them")
    parser.add_argument("-s", "--show-args", action="store_true", help="list the arguments and end")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit status: 0 when interrupted, 1 when a node ended by itself."""
    if options.show_args:
        print(arguments_in_words())
        return 0
    try:
        specs = nodes_for(parse_arguments(options.words))
    except ArgumentError as error:
        raise UsageError(f"{error}") from None
    stopping = threading.Event()
    for caught in _SIGNALS:
        signal.signal(caught, lambda *_: stopping.set())
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    width = max(len(_full_name(spec.namespace, spec.name)) for spec in specs)
    children: list[Child] = []
    readers: list[threading.Thread] = []
    try:
        for spec in specs:
            if stopping.is_set():
                break
            name = _full_name(spec.namespace, spec.name)
            child = Child(name, command_line(spec), environment, subprocess.PIPE)
            children.append(child)
            reader = threading.Thread(target=_relay, args=(child, f"[{name}]".ljust(width + 2)), daemon=True)
            readers.append(reader)
            reader.start()
        while not stopping.is_set():
            ended = [child for child in children if child.exit_status is not None]
            if ended:
                raise CommandError(f"{ended[0].name} {exit_in_words(ended[0].exit_status)}; the others are ended too")
            time.sleep(_POLL_S)
    except OSError as error:
        raise CommandError(f"{error}") from None
    finally:
        end_all(children)
        for reader in readers:
            reader.join(1.0)
    return 0


def arguments_in_words() -> str:
    """The arguments, their defaults and what they take, for people."""
    lines = ["Arguments (pass them as 'name:=value'):"]
    for argument in ARGUMENTS:
        taken = f" one of: {', '.join(argument.choices)};" if argument.choices else ""
        lines += [
            "",
            f"  {argument.name}",
            f"      {argument.help()}",
            f"     {taken} default: '{argument.default}'",
        ]
    return "\n".join(lines)


def _full_name(namespace: str, name: str) -> str:
    return f"{namespace.strip('/')}/{name}".lstrip("/")


def _relay(child: Child, prefix: str) -> None:
    for line in child.process.stdout:
        text = line.decode(errors="replace").rstrip("\n")
        try:
            sys.stdout.write(f"{prefix} {text}\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            return  # nobody reads us any more
