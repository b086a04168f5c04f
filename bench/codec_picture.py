"""The picture of `bench/codec.py`: truth and CIDEr-D over bytes, a curve for each codec and split point."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.codec_rows import MODEL, Row

_COLOURS = {
    ("klt", "qformer"): "tab:red",
    ("klt", "vision"): "tab:purple",
    ("klt", "vit.2"): "tab:brown",
    ("plain", "qformer"): "salmon",
    ("plain", "vision"): "plum",
    ("plain", "vit.2"): "tan",
    ("jpeg", "input"): "tab:blue",
    ("webp", "input"): "tab:green",
    ("avif", "input"): "tab:cyan",
}
_LOWEST_TRUTH = 70.0
_SMALLEST_BYTES = 2.0


def draw(path: Path, rows: Sequence[Row], truth: float, cider: float | None) -> None:
    """Writes the picture.

    Args:
        path: PNG.
        rows: all codecs.
        truth, cider: of the uncompressed features.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    count = 1 if cider is None else 2
    figure, panels = plt.subplots(count, 1, figsize=(11, 6 * count), layout="constrained", sharex=True, squeeze=False)
    _panel(panels[0, 0], rows, lambda row: 100 * row.truth, 100 * truth)
    panels[0, 0].set(ylabel="captions true and complete, %", ylim=(_LOWEST_TRUTH, 100))
    if cider is not None:
        _panel(panels[1, 0], rows, lambda row: row.cider_d, cider)
        panels[1, 0].set(ylabel="CIDEr-D", ylim=(0.7 * cider, 1.03 * cider))
    panels[-1, 0].set(xlabel="payload, bytes per frame (packets: 24 more)")
    panels[0, 0].set_title(f"{MODEL}, {rows[0].true_frames.size} held-out scenes")
    panels[0, 0].legend(loc="lower right", fontsize=9, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _panel(axes, rows: Sequence[Row], value, uncompressed: float) -> None:
    for (family, split), colour in _COLOURS.items():
        chosen = sorted(
            (row for row in rows if (row.family, row.split) == (family, split)), key=lambda row: row.payload_bytes
        )
        if chosen:
            axes.plot(
                [row.payload_bytes for row in chosen],
                [value(row) for row in chosen],
                marker="o" if family == "klt" else "s" if family == "plain" else "^",
                markersize=4,
                linewidth=1.8 if family == "klt" else 1.2,
                linestyle=":" if family == "plain" else "-",
                color=colour,
                label=f"{family} (picture)" if split == "input" else f"{family} at {split}",
            )
    axes.axhline(uncompressed, color="0.5", linewidth=1, linestyle="--", label="features not compressed")
    axes.set_xscale("log")
    axes.set_xlim(left=_SMALLEST_BYTES)
    axes.grid(alpha=0.3, which="both")
