"""Draws the training pictures once and keeps them as shards, so that training never waits for the renderer.

Each picture takes the road that the product's pictures take: drawn at some camera size, sometimes compressed as JPEG,
then resized to the model's input by PIL's bicubic filter. Shard N always holds the same scenes.
"""

from __future__ import annotations

import argparse
import json
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from laim_ros.scenes import Scene, SceneStream, render, sample_scene

IMAGE_SIZE = 96
PATCH_SIZE = 8
SHARD_SCENES = 1000
# Camera sizes and how often each is drawn: small ones are cheap, large ones are what the product sees.
CAMERA_SIZES = ((96, 128, 0.25), (144, 192, 0.35), (192, 256, 0.20), (240, 320, 0.15), (480, 640, 0.05))
STREAM_SHARE = 0.2  # pictures taken from a moving camera
JPEG_SHARE = 0.3


def training_scene(index: int, rng: np.random.Generator) -> Scene:
    """Scene number `index` of the training set."""
    if rng.random() < STREAM_SHARE:
        return SceneStream(index, "train").scene(float(rng.uniform(0, 4)))
    return sample_scene(index, "train")


def to_model_size(image: np.ndarray) -> np.ndarray:
    """uint8 RGB (H, W, 3) of any size -> (96, 96, 3), exactly as BlipImageProcessor resizes it."""
    picture = Image.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def patch_labels(labels: np.ndarray) -> np.ndarray:
    """Per-pixel labels (H, W) -> the object (or 0) of each patch, uint8 (144,): the one that covers a quarter of it."""
    side = IMAGE_SIZE // PATCH_SIZE
    covers = []
    for index in range(1, 3):
        share = cv2.resize((labels == index).astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        covers.append(share.ravel())
    covers = np.stack(covers)
    return np.where(covers.max(axis=0) > 0.25, covers.argmax(axis=0) + 1, 0).astype(np.uint8)


def draw(index: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Picture (96, 96, 3), patch labels (144,) and scene JSON of training example `index`."""
    rng = np.random.default_rng([77, index])
    scene = training_scene(index, rng)
    height, width, _ = CAMERA_SIZES[rng.choice(len(CAMERA_SIZES), p=[share for *_, share in CAMERA_SIZES])]
    rendering = render(scene, height, width)
    image = rendering.image
    if rng.random() < JPEG_SHARE:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))]
        image = cv2.imdecode(cv2.imencode(".jpg", image[..., ::-1], quality)[1], cv2.IMREAD_COLOR)[..., ::-1]
    return to_model_size(np.ascontiguousarray(image)), patch_labels(rendering.labels), scene.to_json()


def write_shard(job: tuple[Path, int]) -> int:
    """Draws shard number `job[1]` into folder `job[0]` unless it is there already."""
    folder, number = job
    path = folder / f"shard_{number:04d}.npz"
    if not path.exists():
        rows = [draw(index) for index in range(number * SHARD_SCENES, (number + 1) * SHARD_SCENES)]
        (folder / f"shard_{number:04d}.jsonl").write_text("\n".join(row[2] for row in rows))
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, images=np.stack([row[0] for row in rows]), patches=np.stack([row[1] for row in rows]))
        partial.rename(path)
    return number


def fill(folder: Path, shards: int, processes: int) -> None:
    """Draws the first `shards` shards that are missing in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    with Pool(processes) as pool:
        for number in pool.imap(write_shard, [(folder, number) for number in range(shards)]):
            print(json.dumps({"shard": number}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/train_cache"))
    parser.add_argument("--shards", type=int, default=48)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    fill(arguments.folder, arguments.shards, arguments.processes)
