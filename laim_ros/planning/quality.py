"""`QualityTable`: what each way to run a model does to its output, as `laim calibrate` measured it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from laim_ros.files import about_model, beside_model, user_folder
from laim_ros.plan import FEATURE_CODECS, Plan
from laim_ros.planning.errors import PlanningError

QUALITY_FILE = "quality.json"
"""Name of the table in a model's folder."""

_Share = Annotated[float, Meta(ge=0, le=1)]
_Positive = Annotated[float, Meta(ge=0)]
_VERSION = 1
_MOST_JSON_BYTES = 10_000_000


class QualityRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One way to run the model.

    Attributes:
        split_point, weight_bits, feature_bits, codec: as in `Plan`. At `input` the head runs on the edge, so
            weight_bits is 32 there; where nothing is quantized on its way feature_bits is 32. A codec with a number of
            its own, such as `klt12`, makes nothing of feature_bits.
        packet_bytes, packet_bytes_p95: mean and 95 % quantile of the packet, header included; 0 at `output`.
        distortion: Σ|y - ŷ| / Σ|y| over all frames, y the unsplit float32 model's features at `qformer`.
        same_share: share of the texts that equal the unsplit float32 model's.
        true_share: share of the captions that are true and complete; None where the frames have no truth.
        cider_d: CIDEr-D against the frames' references; None where they have none.
    """

    split_point: str
    weight_bits: int
    feature_bits: int
    codec: str
    packet_bytes: _Positive
    packet_bytes_p95: _Positive
    distortion: _Positive
    same_share: _Share
    true_share: _Share | None = None
    cider_d: float | None = None

    @property
    def key(self) -> tuple:
        """As `plan_key` of its plan."""
        return _key(self.split_point, self.weight_bits, self.feature_bits, self.codec)

    @property
    def loss(self) -> float:
        """What ranks the row, 0 to 1: the share of untrue captions, or of changed texts where truth is unknown."""
        return 1.0 - (self.same_share if self.true_share is None else self.true_share)


class QualityTable(Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured of one model.

    Attributes:
        model: name that it was loaded by.
        model_id: its identity; a table of another model is not used.
        frames: how many were looked at.
        source: what they were, for people.
        quantizer, prune: with which the heads were made.
        rows: one per way to run it.
        engine: what ran the heads of 1 to 8 bits; others differ by a fraction of a standard error.
        calibrations: of codec `klt`, digests by split point; rows of another calibration are not used.
        float_true_share, float_cider_d: of the unsplit float32 model on the same frames.
    """

    model: str
    model_id: str
    frames: Annotated[int, Meta(ge=1)]
    source: str
    quantizer: str
    rows: Annotated[tuple[QualityRow, ...], Meta(min_length=1)]
    prune: str = ""
    engine: str = ""
    calibrations: dict[str, str] = {}
    float_true_share: _Share | None = None
    float_cider_d: float | None = None
    version: Literal[1] = _VERSION

    @property
    def measure(self) -> str:
        """What `QualityRow.loss` is about, in words."""
        return "captions not true and complete" if self.rows[0].true_share is not None else "captions changed"

    @property
    def standard_error(self) -> float:
        """Of a share near 95 % over so many frames: what two rows may differ by chance."""
        return (0.05 * 0.95 / self.frames) ** 0.5

    def index(self) -> dict[tuple, QualityRow]:
        """The rows by `plan_key`."""
        return {row.key: row for row in self.rows}

    def to_json(self) -> str:
        """The table as JSON with a line per row, so that changes can be read."""
        whole = msgspec.to_builtins(self)
        rows = ",\n  ".join(msgspec.json.encode(row).decode() for row in whole.pop("rows"))
        head = msgspec.json.encode(whole).decode()
        return f'{head[:-1]},\n "rows": [\n  {rows}\n ]}}\n'

    @classmethod
    def read(cls, path: Path) -> QualityTable:
        """The table in a file.

        Raises:
            PlanningError: no such file, no table of this version, or a figure that is missing or out of bounds.
        """
        try:
            if path.stat().st_size > _MOST_JSON_BYTES:
                raise PlanningError(f"quality table {path}: larger than {_MOST_JSON_BYTES} bytes")
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise PlanningError(f"quality table {path}: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PlanningError(f"quality table {path}: {error}; make it again with `laim calibrate`") from None


def plan_key(plan: Plan) -> tuple:
    """What of a plan decides on its quality: no clock, and only the fields that its split point uses."""
    return _key(plan.split_point, plan.weight_bits, plan.feature_bits, plan.codec)


def _key(split_point: str, weight_bits: int, feature_bits: int, codec: str) -> tuple:
    if split_point == "input":
        return split_point, codec
    if split_point == "output":
        return split_point, weight_bits
    if codec not in FEATURE_CODECS:
        return split_point, weight_bits, codec
    return split_point, weight_bits, feature_bits, codec


def uses_feature_bits(plan: Plan) -> bool:
    """Whether `feature_bits` means something: features are sent, and the codec has no number of its own."""
    return plan.split_point not in ("input", "output") and plan.codec in FEATURE_CODECS


def own_quality_path(model_id: str) -> Path:
    """Where the table of a model stands that has no folder of its own to write to, such as one from the hub."""
    return user_folder("XDG_DATA_HOME", ".local/share") / "quality" / f"{model_id}.json"


def quality_path(folder: Path | None, model_id: str) -> Path:
    """Where a new table of a model goes: into its folder, or where that cannot be written to the user's own.

    Args:
        folder: of the model; None for one from the hub.
        model_id: its identity.
    """
    return beside_model(folder, QUALITY_FILE, own_quality_path(model_id))


def find_quality(model: str, model_id: str) -> tuple[QualityTable | None, str]:
    """The table of a model, looked for in its folder, in the user's own, and among the shipped ones.

    Args:
        model: shipped name, local folder or hub id.
        model_id: what the table must have been measured with.

    Returns:
        The table or None, and a sentence: which one it is, or why there is none.
    """
    reasons = []
    for path in about_model(model, QUALITY_FILE, own_quality_path(model_id)):
        try:
            table = QualityTable.read(path)
        except PlanningError as error:
            reasons.append(str(error))
            continue
        if table.model_id == model_id:
            return table, f"quality as measured on {table.frames} frames ({table.source})"
        reasons.append(f"{path} was measured with another model ({table.model_id})")
    found = "; ".join(reasons) or f"no quality table for {model}"
    return None, f"{found}: plans are ranked by theory; measure one with `laim calibrate --model {model}`"
