"""The part of `laim calibrate` that calibrates the feature codec."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from laim_ros.cli.errors import UsageError
from laim_ros.cli.progress import Line
from laim_ros.cli.values import integer
from laim_ros.plan import is_feature_codec

if TYPE_CHECKING:
    from laim_ros.codec import SplitCalibration
    from laim_ros.evaluation.frames import Frames
    from laim_ros.evaluation.table import Subject

_SCENES = 3000
_MOST_SCENES = 20_000
_FEW_FRAMES = 300
_MB = 1e6


def add_codec_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --codec-scenes, --new-codec and --codec-only."""
    add = parser.add_argument
    add(
        "--codec-scenes",
        type=integer(2, _MOST_SCENES),
        default=_SCENES,
        metavar="N",
        help="calibrate codec klt on the first N synthetic scenes that models are trained on; with --pictures, on "
        f"every second picture, and the table is measured on the others (default: {_SCENES})",
    )
    add("--new-codec", action="store_true", help="calibrate codec klt also where it is, in place of that calibration")
    add("--codec-only", action="store_true", help="calibrate codec klt, and measure no table")


def codes_by_klt(codecs: Sequence[str]) -> bool:
    """Whether features are to be coded by `klt`: these codecs name it, or none of features."""
    named = [codec for codec in codecs if is_feature_codec(codec)]
    return not named or any(codec.startswith("klt") for codec in named)


def with_codec(options: argparse.Namespace, subject: Subject, split_points: Sequence[str], warn: Callable) -> Subject:
    """The subject with the codec calibrated at these split points; writes what is new.

    Args:
        options: of the verb.
        subject: to be measured.
        split_points: of the table.
        warn: told what a person should know.

    Raises:
        EvaluationError: no pictures, too few with --codec-only, or a file that cannot be written.
        CodecError: pictures that are all the same.
    """
    from laim_ros.evaluation.codec_calibration import calibrate_codec, most_frames, save_calibrations
    from laim_ros.evaluation.errors import EvaluationError
    from laim_ros.evaluation.part_file import kept_calibrations
    from laim_ros.evaluation.table import part_path

    model = subject.edge.model
    points = [point for point in split_points if point not in ("input", "output")]
    known, source = subject.calibrations()
    begun = {} if options.codec_only else kept_calibrations(part_path(options.out or subject.quality_path))
    present = {point for point in points if point in known}
    resumed = bool(begun) and all(point in known and known[point].digest == begun[point] for point in begun)
    if options.new_codec and not resumed:
        present = set()
    missing = [point for point in points if point not in present]
    if present:
        print(f"{source}; kept{'' if resumed else ' (--new-codec makes it anew)'}", flush=True)
    if options.codec_only and not points:
        raise UsageError("--codec-only: no split point is asked for at which features are sent, such as qformer")
    if not missing:
        head = subject.codec_paths[0]
        if len(subject.codec_paths) > 1 and not head.is_file():  # packed before the model was calibrated
            save_calibrations([head], model.model_id, known, source)
            print(f"copied to {head}", flush=True)
        return subject.with_calibrations(known, source)
    frames = _frames(options, subject, most_frames(model, missing), warn)
    if len(frames.pixels) < 2:
        few = "codec klt is not calibrated: every second picture is for it, and that makes not even two; give more"
        if options.codec_only:
            raise EvaluationError(few)
        warn(few)
        return subject.with_calibrations(known, source)
    if len(frames.pixels) < _FEW_FRAMES:
        warn(f"codec klt is calibrated on {len(frames.pixels)} frames; it takes fewer bytes with {_FEW_FRAMES} or more")
    began_s = time.monotonic()
    line = Line()
    try:
        made = calibrate_codec(model, frames.pixels, missing, line.show)
    finally:
        line.clear()
    took_s = time.monotonic() - began_s
    known |= made
    written = save_calibrations(subject.codec_paths, model.model_id, known, frames.source)
    first = next(iter(made.values()))
    print(
        f"codec klt calibrated at {', '.join(made)} on {first.frames} frames ({frames.source}) in {took_s:.0f} s: "
        + ", ".join(f"{path} ({size / _MB:,.1f} MB)" for path, size in written.items()),
        flush=True,
    )
    _show(made)
    print("robot and edge need the same file: an edge with another refuses every frame", flush=True)
    return subject.with_calibrations(known, f"codec klt as calibrated in {next(iter(written))}")


def refuse_useless(options: argparse.Namespace) -> None:
    """Raises UsageError where --codec-only or --new-codec contradict --codecs."""
    for name in ("codec_only", "new_codec"):
        if getattr(options, name) and not codes_by_klt(options.codecs):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{option}: --codecs {','.join(options.codecs)} needs no calibration; name klt, or leave it out"
            )


def _frames(options: argparse.Namespace, subject: Subject, most: int, warn: Callable) -> Frames:
    """Of what the table is not measured on."""
    from laim_ros.evaluation.frames import FOR_CODEC, picture_frames, scene_frames

    resize = subject.edge.model.resize
    if options.pictures is not None:
        return picture_frames(options.pictures.expanduser(), resize, warn, FOR_CODEC, min(most, _SCENES))
    count = min(options.codec_scenes, most)
    if count < options.codec_scenes:
        warn(f"codec klt is calibrated on {count} scenes, as the features of more would take too much memory")
    line = Line()
    try:
        return scene_frames(count, resize, lambda done: line.show(f"codec: scene {done} of {count} drawn"), "train")
    finally:
        line.clear()


def _show(made: Mapping[str, SplitCalibration]) -> None:
    """What a frame takes, for people."""
    from laim_ros.planning.profiles import CALIBRATED_DECIBELS
    from laim_ros.profiling.coding import payload_bytes

    shown = slice(1, 9)
    print(f"{'bytes per frame at':18}" + "".join(f"{decibels:>6} dB" for decibels in CALIBRATED_DECIBELS[shown]))
    for point, calibration in made.items():
        print(
            f"  {point:16}"
            + "".join(f"{size:9,.{0 if size >= 100 else 1}f}" for size in payload_bytes(calibration)[shown])
        )
    sys.stdout.flush()
