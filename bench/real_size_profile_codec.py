"""What codec `klt` and the picture formats take at BLIP-2's real size, from `bench/codec.py --real-size`.

`bench/policy.py` takes bytes from here, `real_size_profile` times. Features are those of the whole architecture with
random weights, on pieces of photographs that the calibrations have not seen: no trained weights of this size were at
hand. So the bytes are those of photographs at so many decibels, and say nothing of captions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from bench.real_size_profile_form import FOLDER, SHAPES, rounded
from laim_ros.plan import Plan, klt_decibels
from laim_ros.planning.profiles import MachineProfile

CODEC_FILE = FOLDER / "codec.json"
_TIMED = ("webp75", "avif50", "klt12", "klt48")
_KEPT = ("codec", "split", "feature_bits", "payload_bytes", "encode_s", "decode_s")
_NOTE = (
    " Of other codecs than plain and jpeg90, code_s is what they took in ratio to jpeg90 in one run on one core "
    "(python -m bench.codec --real-size); of klt the least that it took for any tensor of this shape."
)


@dataclass(frozen=True, slots=True)
class CodecFigures:
    """Rows of `bench/codec.py --real-size`: codec, split, feature_bits, payload_bytes, encode_s, decode_s."""

    rows: tuple[Mapping, ...]

    @classmethod
    def read(cls, path: Path = CODEC_FILE) -> CodecFigures:
        """From the committed file, or from what `bench/codec.py --json` wrote."""
        rows = json.loads(path.read_text(encoding="utf-8"))["real_size"]
        return cls(tuple({name: row[name] for name in _KEPT} for row in rows))

    def write(self, path: Path) -> None:
        """A line per row."""
        rows = ",\n  ".join(json.dumps(row) for row in self.rows)
        path.write_text(f'{{"real_size": [\n  {rows}\n]}}\n', encoding="utf-8")

    def klt_payload_bytes(self, plan: Plan) -> float:
        """Mean bytes of a payload by codec `klt`; between finenesses that were measured, as powers of the decibels."""
        rows = [row for row in self.rows if row["codec"] == "klt"]
        nearest = _nearest(plan.split_point, list(dict.fromkeys(row["split"] for row in rows)))
        sizes = {_decibels(row): np.log(row["payload_bytes"]) for row in rows if row["split"] == nearest}
        decibels = sorted(sizes)
        return float(np.exp(np.interp(klt_decibels(plan), decibels, [sizes[each] for each in decibels])))

    def with_codecs(self, profile: MachineProfile, measure: str) -> MachineProfile:
        """A measured profile with times of these codecs, too, in place of any that it had.

        Args:
            profile: with times of `plain` and `jpeg90`.
            measure: `encode_s` for a robot, `decode_s` for an edge.
        """
        pictures = {row["codec"]: row[measure] for row in self.rows if row["split"] == "input"}
        pace = profile.code_s["input"]["jpeg90"] / pictures["jpeg90"]
        code_s = {}
        for point, known_s in profile.code_s.items():
            found_s = pictures if point == "input" else self._klt_s(point, measure)
            kept_s = {codec: seconds for codec, seconds in known_s.items() if codec not in _TIMED}
            code_s[point] = kept_s | rounded({codec: pace * found_s[codec] for codec in _TIMED if codec in found_s})
        return replace(profile, code_s=code_s, notes=profile.notes.removesuffix(_NOTE) + _NOTE)

    def _klt_s(self, point: str, measure: str) -> dict[str, float]:
        alike = [row for row in self.rows if row["codec"] == "klt" and SHAPES[row["split"]] == SHAPES[point]]
        least_s: dict[str, float] = {}
        for row in alike:
            name = f"klt{_decibels(row)}"
            least_s[name] = min(row[measure], least_s.get(name, row[measure]))
        return least_s


def _decibels(row: Mapping) -> int:
    return klt_decibels(Plan(row["split"], 8, row["feature_bits"], "klt"))


def _nearest(point: str, measured: Sequence[str]) -> str:
    """The same split point, or after the nearest block."""
    if point in measured:
        return point
    blocks = [each for each in measured if each.startswith("vit.")]
    return min(blocks, key=lambda each: abs(_block(each) - _block(point)))


def _block(point: str) -> int:
    return int(point.removeprefix("vit."))
