"""Boundary tensors of BLIP-2's real size for `bench/codec.py --real-size`, made once and kept in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.head_model import HeadFiles

BLOCKS = 39
SPLIT_POINTS = ("vit.1", "vit.13", "vit.26", "vision", "qformer")

CALIBRATED = ("astronaut", "coffee", "stereo_motorcycle", "rocket", "camera", "grass", "gravel", "moon", "retina")
CODED = ("chelsea", "hubble_deep_field", "coins", "brick")
"""Photographs that come with scikit-image: calibrations never see the second ones."""

CROPS_CALIBRATED, CROPS_CODED = 16, 8
_SMALLEST_SIDE = 160
_WEIGHT_BITS = 16
_TOGETHER = 4


def crops(names: Sequence[str], of_each: int, seed: int) -> Iterator[np.ndarray]:
    """Square pieces of photographs, uint8 RGB of any size from 160 pixels on, half of them mirrored.

    Args:
        names: of functions of `skimage.data`.
        of_each: pieces of each photograph.
        seed: of their places.
    """
    from skimage import data

    rng = np.random.default_rng(seed)
    for name in names:
        photograph = getattr(data, name)()
        photograph = photograph[0] if isinstance(photograph, tuple) else photograph
        if photograph.ndim == 2:
            photograph = np.stack((photograph,) * 3, axis=-1)
        for _ in range(of_each):
            side = int(rng.integers(_SMALLEST_SIDE, min(photograph.shape[:2]) + 1))
            top, left = (int(rng.integers(0, size - side + 1)) for size in photograph.shape[:2])
            piece = photograph[top : top + side, left : left + side, :3]
            yield np.ascontiguousarray(piece[:, ::-1] if rng.integers(2) else piece)


def features(cache: Path) -> Path:
    """The folder with `calibrated_POINT.npy` and `coded_POINT.npy` of every split point, and of `input`.

    Features are float32 (crops, *shape) of the whole architecture with random weights of standard deviation 0.02, run
    at 16 bits; at `input` uint8 (crops, 224, 224, 3). Made where they are not there: takes 4.5 GB on disk and minutes.
    """
    folder = cache / "features"
    groups = {"calibrated": (CALIBRATED, CROPS_CALIBRATED, 0), "coded": (CODED, CROPS_CODED, 1)}
    points = ("input", *SPLIT_POINTS)
    if all((folder / f"{group}_{point}.npy").is_file() for group in groups for point in points):
        return folder
    import torch

    from laim_ros.coinference import RobotHalf

    files = HeadFiles(cache, BLOCKS)
    files.make()
    model = RobotHalf.open(str(files.checkpoint), "bench", weight_bits=_WEIGHT_BITS, last="qformer", device="cpu").model
    folder.mkdir(parents=True, exist_ok=True)
    for group, (names, of_each, seed) in groups.items():
        pixels = np.stack([model.resize(piece) for piece in crops(names, of_each, seed)])
        found: dict[str, list[np.ndarray]] = {point: [] for point in SPLIT_POINTS}
        for batch in torch.from_numpy(pixels).split(_TOGETHER):
            at, here = "input", batch
            for point in SPLIT_POINTS:
                here, at = model.run(here, at, point), point
                found[point].append(here.to(torch.float32).numpy())
        np.save(folder / f"{group}_input.npy", pixels)
        for point, arrays in found.items():
            np.save(folder / f"{group}_{point}.npy", np.concatenate(arrays))
    return folder
