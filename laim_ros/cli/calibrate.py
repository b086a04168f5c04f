"""`laim calibrate`: calibrates the feature codec, and measures what every way to run a model does to its output."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from laim_ros.cli.calibrate_codec import add_codec_arguments, codes_by_klt, refuse_useless, with_codec
from laim_ros.cli.errors import CommandError, UsageError
from laim_ros.cli.plans import SPLIT_POINTS, add_head_arguments
from laim_ros.cli.progress import Line, Progress
from laim_ros.cli.values import integer
from laim_ros.evaluation.grid import FEATURE_BITS, PICTURES, WEIGHT_BITS, Grid, usual_split_points
from laim_ros.parameters import DEFAULT_MODEL
from laim_ros.plan import BIT_WIDTHS, FEATURE_CODECS, PICTURE_FORMATS, Plan, PlanError, is_feature_codec, picture_format

if TYPE_CHECKING:
    from laim_ros.evaluation.frames import Frames
    from laim_ros.evaluation.table import Subject
    from laim_ros.planning.quality import QualityTable

NAME = "calibrate"
HELP = "calibrate the feature codec; measure what split points, bit-widths and codecs do to the captions"
DESCRIPTION = """\
First calibrates the feature codec `klt` where it is not yet: looks at frames for what the features at each split point
have in common, and writes codec.safetensors beside the model. Robot and edge must have the same.

Then runs other frames through both halves of the model in every way that is asked for, and writes a table: how large
the packets are, how far the Q-Former's features move from the unsplit float32 model's, and how many captions stay the
same. With synthetic scenes also: how many are true and complete, and CIDEr-D. The planner ranks plans by this table.

  laim calibrate --scenes 500
  laim calibrate --model Salesforce/blip2-opt-2.7b --pictures recorded/ --split-points input,qformer,output
  laim calibrate --model Salesforce/blip2-opt-2.7b --pictures recorded/ --codec-only
  laim calibrate --weight-bits 2,3,4 --quantizer exponential --out exponential.json

How long it takes: rows × frames × what the rest of the model and a caption take for one frame. The usual 143 rows of
laim-mini-blip2 on 500 scenes take about 7 minutes of one core. For BLIP-2 at real size begin with few: where a caption
takes the edge 0.2 s, 143 rows on 100 pictures are 50 minutes. In memory are the edge's whole model and one head at a
time. After each row it is safe to interrupt: what has been measured is kept in FILE.part, and the same command goes on.
"""

_MOST_SCENES = 20_000
_LEAST_COLUMNS = 84
"""Of the table; a narrower terminal breaks its lines, but cuts no figure."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help=f"shipped name, local folder or hub id (default: {DEFAULT_MODEL})")
    looked_at = parser.add_mutually_exclusive_group()
    looked_at.add_argument(
        "--scenes",
        type=integer(1, _MOST_SCENES),
        default=500,
        metavar="N",
        help="look at the first N held-out synthetic scenes, whose truth is known (default: 500)",
    )
    looked_at.add_argument(
        "--pictures", type=Path, metavar="DIR", help="look at the pictures in this folder instead, 500 at most"
    )
    add(
        "--split-points",
        type=_listed(str),
        metavar="LIST",
        help=f"{SPLIT_POINTS}; or all (default: input, the middle vit.K, vision, qformer, output)",
    )
    add(
        "--weight-bits",
        type=_listed(_width),
        metavar="LIST",
        help=f"bits per weight of the robot's half (default: {_words(WEIGHT_BITS)}, or what a packed folder has)",
    )
    add(
        "--feature-bits",
        type=_listed(_width),
        default=FEATURE_BITS,
        metavar="LIST",
        help=f"bits per element of the tensor that is sent (default: {_words(FEATURE_BITS)})",
    )
    add(
        "--codecs",
        type=_listed(_codec),
        default=(),
        metavar="LIST",
        help="of features: klt, as fine as --feature-bits says, klt1 to klt60 for so many decibels whatever they say, "
        f"or plain; of pictures, for split point input: {', '.join(PICTURE_FORMATS)} with a quality from 1 to 100; the "
        f"usual ones where none of a kind is named (default: klt,{_words(PICTURES)})",
    )
    add_codec_arguments(parser)
    add_head_arguments(parser)
    add("--edge-model", metavar="MODEL", help="the edge's model, where a packed head's own is not found here")
    add("--device", default="cpu", help="cpu, cuda, cuda:N or auto (default: cpu)")
    add("--out", type=Path, metavar="FILE", help="table to write (default: quality.json in the model's folder)")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit status."""
    from laim_ros.codec import CodecError
    from laim_ros.evaluation.errors import EvaluationError
    from laim_ros.models import ModelError
    from laim_ros.quantization import QuantizationError

    refuse_useless(options)
    try:
        return _run(options)
    except (CodecError, EvaluationError, ModelError, QuantizationError) as error:
        raise CommandError(f"{error}") from None


def _run(options: argparse.Namespace) -> int:
    from laim_ros.evaluation.table import Subject, measure, part_path

    subject = Subject.open(
        options.model,
        edge_model=options.edge_model,
        weight_bits=options.weight_bits,
        device=options.device,
        quantizer=options.quantizer,
        prune=options.prune,
        engine=options.engine,
    )
    split_points = _split_points(options, subject)
    out = options.out or subject.quality_path
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file")
    _plans(options, subject, split_points)  # what makes no sense is refused before the work begins
    if codes_by_klt(options.codecs):
        subject = with_codec(options, subject, split_points, _warn)
    if options.codec_only:
        return 0
    plans = _plans(options, subject, split_points)
    frames = _frames(options, subject)
    replaced = ", in the place of the table there" if out.exists() else ""
    print(f"{len(plans)} rows on {len(frames.pixels)} frames ({frames.source}), for {out}{replaced}", flush=True)
    progress = Progress()
    try:
        table = measure(subject, frames, plans, out, progress)
    except KeyboardInterrupt:
        progress.close()
        kept = progress.kept + progress.measured
        if kept:
            _warn(f"interrupted; {kept} rows are kept in {part_path(out)}: the same command goes on")
        raise
    finally:
        progress.close()
    _show(table)
    print(f"written to {out}")
    return 0


def _split_points(options: argparse.Namespace, subject: Subject) -> tuple[str, ...]:
    """Those asked for, in the model's order.

    Raises:
        ModelError: the model has no such split point.
    """
    from laim_ros.models.base import split_index

    points = subject.edge.model.split_points
    asked = points if options.split_points == ("all",) else options.split_points or usual_split_points(points)
    return tuple(sorted(set(asked), key=lambda point: split_index(points, point)))


def _plans(options: argparse.Namespace, subject: Subject, split_points: tuple[str, ...]) -> tuple[Plan, ...]:
    """One per row, in the order of the split points.

    Raises:
        UsageError: codec and bit-widths that do not go together.
    """
    calibrated = subject.edge.codecs.calibrations.keys()
    try:
        return Grid(split_points, subject.weight_bits, options.feature_bits, options.codecs, calibrated).plans()
    except PlanError as error:
        raise UsageError(str(error)) from None


def _frames(options: argparse.Namespace, subject: Subject) -> Frames:
    from laim_ros.evaluation.frames import EVERY_PICTURE, FOR_TABLE, picture_frames, scene_frames
    from laim_ros.evaluation.metrics import has_cider

    resize = subject.edge.model.resize
    if options.pictures is not None:
        part = FOR_TABLE if codes_by_klt(options.codecs) else EVERY_PICTURE
        return picture_frames(options.pictures.expanduser(), resize, _warn, part)
    if not has_cider():
        _warn("CIDEr-D is left out, as pycocoevalcap is not installed; it comes with laim_ros[study]")
    line = Line()
    try:
        return scene_frames(options.scenes, resize, lambda done: line.show(f"scene {done} of {options.scenes} drawn"))
    finally:
        line.clear()


def _show(table: QualityTable) -> None:
    """The table for people."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    with_truth, with_cider = table.float_true_share is not None, table.float_cider_d is not None
    columns = [
        *("split\npoint", "weight\nbits", "feature\nbits", "\ncodec", "packet\nbytes", "95 % of\npackets"),
        *("features\nmove by", "same\ncaption", *["true and\ncomplete"] * with_truth, *["\nCIDEr-D"] * with_cider),
    ]
    shown = Table(box=box.SIMPLE_HEAD, padding=0)
    for column in columns:
        shown.add_column(column, justify="left" if column is columns[0] else "right", no_wrap=True)
    between = {row.split_point for row in table.rows} - {"input", "output"}
    for row, following in zip(table.rows, (*table.rows[1:], None), strict=True):
        shown.add_row(
            row.split_point,
            "" if row.split_point == "input" else str(row.weight_bits),
            str(row.feature_bits) if row.split_point in between and row.codec in FEATURE_CODECS else "",
            "" if row.split_point == "output" else row.codec,
            f"{row.packet_bytes:,.0f}",
            f"{row.packet_bytes_p95:,.0f}",
            f"{100 * row.distortion:.2f} %",
            f"{100 * row.same_share:.1f} %",
            *([f"{100 * row.true_share:.1f} %"] if with_truth else []),
            *([f"{row.cider_d:.3f}"] if with_cider else []),
            end_section=following is not None and following.split_point != row.split_point,
        )
    console = Console(highlight=False)
    console.width = max(console.width, _LEAST_COLUMNS)
    console.print(shown)
    if with_truth:
        cider = f", CIDEr-D {table.float_cider_d:.3f}" if with_cider else ""
        print(
            f"the unsplit float32 model: {100 * table.float_true_share:.1f} % true and complete{cider}; one standard "
            f"error of a share near 95 % is {100 * table.standard_error:.1f} points"
        )


def _warn(text: str) -> None:
    print(f"laim calibrate: {text}", file=sys.stderr)


def _listed(parse: Callable[[str], object]) -> Callable[[str], tuple]:
    """A type for argparse: values with commas between them, each once."""

    def parse_all(text: str) -> tuple:
        return tuple(dict.fromkeys(parse(word.strip()) for word in text.split(",")))

    return parse_all


def _width(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) not in BIT_WIDTHS:
        raise argparse.ArgumentTypeError(f"'{text}' is none of {_words(BIT_WIDTHS)}")
    return int(text)


def _codec(text: str) -> str:
    if not is_feature_codec(text):
        try:
            picture_format(text)
        except PlanError:
            raise argparse.ArgumentTypeError(
                f"'{text}' is neither klt, klt1 to klt60 or plain nor a picture format with a quality, such as jpeg75"
            ) from None
    return text


def _words(values: Sequence[object]) -> str:
    return ",".join(map(str, values))
