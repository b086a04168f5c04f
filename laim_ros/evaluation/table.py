"""`measure`: from a model and frames to its quality table, in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import laim_ros
from laim_ros.codec import Codecs, SplitCalibration, find_calibrations
from laim_ros.codec.calibration import calibration_path
from laim_ros.coinference import EdgeHalf
from laim_ros.evaluation.errors import EvaluationError
from laim_ros.evaluation.frames import Frames
from laim_ros.evaluation.grid import WEIGHT_BITS
from laim_ros.evaluation.metrics import has_cider
from laim_ros.evaluation.part_file import PartFile, Settings
from laim_ros.evaluation.quality import Meter
from laim_ros.files import write_whole
from laim_ros.models import ModelError, load
from laim_ros.models.identity import find_whole, model_id, packed_head
from laim_ros.models.loading import find_device
from laim_ros.models.source import find_source
from laim_ros.plan import Plan, codes_by_calibration
from laim_ros.planning.quality import QualityTable, quality_path
from laim_ros.quantization import Heads, QuantizationError
from laim_ros.quantization.engines import make_engine
from laim_ros.quantization.pruning import Pruning
from laim_ros.quantization.storage.manifest import read_manifest


class Watcher(Protocol):
    """Whoever wants to know how far it is."""

    def begin(self, rows: int, kept: int, work: int) -> None:
        """Of so many rows some are kept from an earlier run; the others are so much work."""

    def tick(self, work: int) -> None:
        """So much of the work has been done."""

    def row(self) -> None:
        """A row is measured, and safe."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a model, and how its heads are made.

    Attributes:
        name: of the model, as it was asked for.
        heads: where the robot's half comes from.
        edge: with the whole model in float32, which is the reference, too.
        weight_bits: of the heads to measure.
        quantizer, prune, engine: with which they are made, none of them `auto`.
        quality_path: where the table belongs.
        codec_paths: where the feature codec's calibrations belong: beside the model, and beside a packed head as well.
    """

    name: str
    heads: Heads
    edge: EdgeHalf
    weight_bits: tuple[int, ...]
    quantizer: str
    prune: str
    engine: str
    quality_path: Path
    codec_paths: tuple[Path, ...]

    @classmethod
    def open(
        cls,
        model: str,
        *,
        edge_model: str | None = None,
        weight_bits: Sequence[int] | None = None,
        device: str = "cpu",
        quantizer: str = "auto",
        prune: str = "",
        engine: str = "auto",
    ) -> Subject:
        """Loads the edge's half, and finds the robot's.

        Args:
            model: shipped name, local folder or hub id, or a folder that `laim quantize` wrote.
            edge_model: the edge's; None takes the same, or what a packed folder was made of.
            weight_bits: of the heads to measure; None takes the usual ones that this model can have.
            device: cpu, cuda, cuda:N or auto.
            quantizer, prune, engine: as `quantization.Heads` takes them.

        Raises:
            ModelError: no such model or device, or another one for the edge.
            QuantizationError: heads that cannot be had so; the message says what can.
        """
        source = find_source(model)
        heads = Heads(model, device=device, quantizer=quantizer, prune=prune, engine=engine)
        widths = _widths(heads, weight_bits)
        try:
            whole = find_whole(edge_model or model)
        except ModelError as error:
            hint = "" if edge_model else "; name it with --edge-model"
            raise ModelError(f"{error}{hint}") from None
        identity = model_id(source)
        if model_id(whole) != identity:
            raise ModelError(f"edge model '{edge_model}' is not what '{model}' is or was made of; give the edge that")
        folders = dict.fromkeys(None if each.hub else each.folder for each in (source, whole))
        if packed_head(source) is not None:
            made = read_manifest(source)
            quantizer, prune = made.quantizer, made.prune
        return cls(
            name=model,
            heads=heads,
            edge=EdgeHalf(load(whole, device=device)),
            weight_bits=widths,
            quantizer="uniform" if quantizer == "auto" else quantizer,
            prune=str(Pruning.parse(prune)),
            engine=make_engine(engine, find_device(device)).name,
            quality_path=quality_path(None if source.hub else source.folder, identity),
            codec_paths=tuple(dict.fromkeys(calibration_path(folder, identity) for folder in folders)),
        )

    def calibrations(self) -> tuple[dict[str, SplitCalibration], str]:
        """Those of the feature codec that the robot would find, or the edge, and where they are from."""
        found = find_calibrations(self.name, self.edge.model.model_id)
        return found if found[0] else (dict(self.edge.codecs.calibrations), self.edge.codecs.source)

    def with_calibrations(self, calibrations: Mapping[str, SplitCalibration], source: str) -> Subject:
        """The same, coding features by these on both sides."""
        return replace(self, edge=EdgeHalf(self.edge.model, Codecs(calibrations, source)))


def part_path(out: Path) -> Path:
    """Where the rows of a table are kept while it is being measured."""
    return out.with_name(f"{out.name}.part")


def measure(subject: Subject, frames: Frames, plans: Sequence[Plan], out: Path, watcher: Watcher) -> QualityTable:
    """Measures plans on frames and writes the table. Rows that an interrupted run has left are not measured again.

    Args:
        subject: what to measure.
        frames: what to look at.
        plans: a row for each, in their order.
        out: the file; its folder is made. Until it is complete, its rows are in `part_path(out)`.
        watcher: told how far it is.

    Raises:
        EvaluationError: a file that cannot be written, or rows of another run in `part_path(out)`.
        ModelError, QuantizationError, CodecError: as `Meter`.
    """
    calibrations = subject.edge.codecs.calibrations
    by_calibration = sorted({plan.split_point for plan in plans if codes_by_calibration(plan)} & calibrations.keys())
    settings = Settings(
        model_id=subject.edge.model.model_id,
        engine=subject.engine,
        quantizer=subject.quantizer,
        prune=subject.prune,
        frames=len(frames.pixels),
        source=frames.source,
        pixels=frames.digest,
        calibrations={point: calibrations[point].digest for point in by_calibration},
        has_cider=has_cider(),
        release=laim_ros.__version__,
    )
    with _writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with PartFile(part_path(out), settings) as part:
            missing = [plan for plan in plans if part.row(plan) is None]
            work = Meter.work(missing, subject.edge.model.split_points, len(frames.pixels))
            watcher.begin(len(plans), len(plans) - len(missing), work)
            meter = Meter(subject.edge, subject.heads, frames, watcher.tick)
            for row in meter.rows(missing):
                part.add(row)
                watcher.row()
            table = QualityTable(
                model=subject.name,
                model_id=settings.model_id,
                frames=settings.frames,
                source=settings.source,
                quantizer=settings.quantizer,
                prune=settings.prune,
                engine=settings.engine,
                calibrations=settings.calibrations,
                float_true_share=meter.true_share,
                float_cider_d=meter.cider_d,
                rows=tuple(filter(None, map(part.row, plans))),
            )
            write_whole(out, table.to_json())
            part.remove()
    return table


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EvaluationError(
            f"{error.filename or out} cannot be written: {error.strerror or error}; name another file"
        ) from error


def _widths(heads: Heads, asked: Sequence[int] | None) -> tuple[int, ...]:
    """Bit-widths of heads to measure: those asked for, else the usual ones that this model can have.

    Raises:
        QuantizationError: one asked for that it cannot have; the message says what can.
    """
    found = set()
    for weight_bits in asked or WEIGHT_BITS:
        try:
            heads.check(weight_bits)
        except QuantizationError:
            if asked:
                raise
            continue
        found.add(heads.bits_for(weight_bits))
    return tuple(sorted(found))
