"""`laim caption`: picture files through both halves in one process, without ROS."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from laim_ros.cli.errors import CommandError, UsageError
from laim_ros.cli.plans import add_head_arguments, add_plan_arguments, plan_of, why_not_klt
from laim_ros.cli.values import integer
from laim_ros.parameters import DEFAULT_MODEL, ROBOT
from laim_ros.plan import Plan

if TYPE_CHECKING:
    import numpy as np

    from laim_ros.coinference import EdgeHalf, RobotHalf

NAME = "caption"
HELP = "caption picture files, or answer questions about them"
DESCRIPTION = """\
Runs picture files through the robot's and the edge's half of the model in this process, as the nodes do, and prints the
caption, the size of the packet, and the time that each half took.

  laim caption scene.png --question "what colour is the ball?" --split-point vit.2 --feature-bits 2
"""

_TEMPLATE = next(str(parameter.default) for parameter in ROBOT if parameter.name == "question_template")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    add = parser.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGE", help="picture files")
    add("--model", default=DEFAULT_MODEL, help=f"shipped name, local folder or hub id (default: {DEFAULT_MODEL})")
    add("--question", action="append", default=[], metavar="TEXT", help="also answer this; may be repeated")
    add_plan_arguments(parser, "default: qformer")
    add_head_arguments(parser)
    add("--edge-model", metavar="MODEL", help="the edge's model, where a packed head's own is not found here")
    add("--device", default="cpu", help="cpu, cuda, cuda:N or auto (default: cpu)")
    add("--num-beams", type=integer(1, 16), default=1, help="beams of the caption search (default: 1)")
    add("--max-new-tokens", type=integer(1, 512), default=30, help="longest text, in tokens (default: 30)")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit status: 1 if any picture failed, after the others are done."""
    plan = plan_of(options, "qformer")
    if plan.split_point == "output":
        raise UsageError("--split-point output sends nothing; choose an earlier one, such as qformer")
    from laim_ros.codec import CodecError
    from laim_ros.models import Generation, ModelError
    from laim_ros.quantization import QuantizationError

    try:
        robot, edge = _halves(options, plan)
        calibrated = robot.codecs.calibrations
        plan = plan_of(options, "qformer", calibrated)
        prompts = ("", *(_TEMPLATE.replace("{question}", question) for question in options.question))
        stream = robot.describe(replace(plan, weight_bits=robot.weight_bits), prompts)
        edge.check(stream)
    except (ModelError, QuantizationError, CodecError) as error:
        raise CommandError(f"{error}") from None
    if why := why_not_klt(options, "qformer", calibrated):
        print(f"laim caption: {why}", file=sys.stderr)
    generation = Generation(options.num_beams, options.max_new_tokens)
    failed = 0
    for sequence, path in enumerate(options.images):
        try:
            picture = _read(path)
            began_s = time.perf_counter()
            features, _ = robot.features(picture, plan.split_point)
            packet = robot.pack(stream, sequence, features, began_s)
            sent_s = time.perf_counter()
            texts = _finish(edge, stream, packet, generation)
        except (CommandError, ModelError, CodecError) as error:
            print(f"laim caption: {path}: {error}", file=sys.stderr)
            failed += 1
            continue
        ended_s = time.perf_counter()
        print(
            f"{path}: {texts[0]}  [{len(packet):,} bytes, robot {1e3 * (sent_s - began_s):.0f} ms, "
            f"edge {1e3 * (ended_s - sent_s):.0f} ms]"
        )
        for question, answer in zip(options.question, texts[1:], strict=True):
            print(f"  {question} {answer}")
    return 1 if failed else 0


def _halves(options: argparse.Namespace, plan: Plan) -> tuple[RobotHalf, EdgeHalf]:
    """Each half with its own stages alone, as on two machines.

    Raises:
        ModelError: no such model or split point, or none for the edge.
        QuantizationError: the head cannot be had so.
    """
    from laim_ros.coinference import EdgeHalf, RobotHalf
    from laim_ros.models import ModelError, load
    from laim_ros.models.identity import find_whole

    robot = RobotHalf.open(
        options.model,
        "laim",
        weight_bits=plan.weight_bits,
        last=plan.split_point,
        device=options.device,
        quantizer=options.quantizer,
        prune=options.prune,
        engine=options.engine,
    )
    try:
        whole = find_whole(options.edge_model or options.model)
    except ModelError as error:
        hint = "" if options.edge_model else "; name it with --edge-model"
        raise ModelError(f"{error}{hint}") from None
    return robot, EdgeHalf(load(whole, first=plan.split_point, device=options.device))


def _finish(edge: object, stream: object, packet: bytes, generation: object) -> Sequence[str]:
    from laim_ros.codec import unpack

    received = unpack(packet)
    return edge.finish([(stream, edge.decode(stream, received.payload, received.sequence))], generation)[0]


def _read(path: Path) -> np.ndarray:
    import cv2
    import numpy as np

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise CommandError(f"{error.strerror}; name a picture file") from None
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise CommandError("no picture that can be read; use PNG, JPEG, BMP, TIFF or WebP")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
