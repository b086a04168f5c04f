"""What does BLIP-2 of its real size cost, stage by stage, on robots and edges of two kinds? For `bench/policy.py`.

    python -m bench.real_size_profile --measure [--cache DIR]    two cores of this machine: cpu_robot, cpu_edge
    python -m bench.real_size_profile --codecs FILE              from bench.codec --real-size --json FILE, into these
                                                                 two: times of codec klt, of WebP and of AVIF
    python -m bench.real_size_profile --compute                  from specifications: jetson_robot, gpu_edge

All write to `bench/profiles` (`--folder` names another). `--compute` takes the times of resizing and coding from the
measured files, so it belongs after the others. Measuring takes 9 GB of memory and about ten minutes on an idle
machine; the real-size head is made first where the cache (that of `bench/head.py`) has none.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from bench.real_size_profile_codec import CODEC_FILE, CodecFigures
from bench.real_size_profile_compute import computed_profiles
from bench.real_size_profile_form import FOLDER, write
from laim_ros.planning.profiles import MachineProfile

CACHE = Path(__file__).resolve().parent.parent / "out" / "bench_head"


def summary(profile: MachineProfile) -> list[str]:
    """Lines for people: seconds and joules to `qformer` and for the text, by bit-width and mode."""
    first = profile.times[0].stage_s
    start = "" if "input" in first else "input"
    lines = []
    for times in profile.times:
        head_s = profile.span_s(times.weight_bits, start, "qformer")
        text_s = times.stage_s["output"]
        modes = ", ".join(
            f"{mode.name} {mode.slowdown * head_s:.3f} s {mode.slowdown * head_s * mode.active_w:.1f} J"
            for mode in profile.modes
        )
        lines.append(f"{times.weight_bits:2} bits: to qformer {modes}; text {text_s:.3f} s")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the files that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure this machine")
    parser.add_argument("--codecs", type=Path, metavar="FILE", help="take times of codecs from results of bench.codec")
    parser.add_argument("--compute", action="store_true", help="compute from specifications")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the profiles are (default bench/profiles)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where bench/head.py keeps the real-size head")
    asked = parser.parse_args(arguments)
    if not (asked.measure or asked.codecs or asked.compute):
        parser.error("nothing to do: give --measure, --codecs, --compute or several")

    profiles = {}
    if asked.measure:
        from bench.real_size_profile_measure import THREADS, measured_profiles  # needs torch, computing does not

        os.environ["OMP_NUM_THREADS"] = str(THREADS)  # before a process of its own imports a library that reads it
        profiles |= measured_profiles(asked.cache, print)
    measured = [
        profiles.get(name) or MachineProfile.read(asked.folder / f"{name}.json") for name in ("cpu_robot", "cpu_edge")
    ]
    if asked.codecs:
        figures = CodecFigures.read(asked.codecs)
        figures.write(asked.folder / CODEC_FILE.name)
        measured = [
            figures.with_codecs(profile, side) for profile, side in zip(measured, ("encode_s", "decode_s"), strict=True)
        ]
        profiles |= dict(zip(("cpu_robot", "cpu_edge"), measured, strict=True))
    if asked.compute:
        profiles |= computed_profiles(*measured)
    for name, profile in profiles.items():
        print(write(asked.folder, name, profile))
        print(*(f"  {line}" for line in summary(profile)), sep="\n")


if __name__ == "__main__":
    main()
