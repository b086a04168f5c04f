"""Seconds and watts of a loaded model, one frame at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import TypeVar

import numpy as np
import torch

from laim_ros.coinference import CAPTION
from laim_ros.models import Generation, SplitModel
from laim_ros.power import Meter

TEXT_TOKENS = 12
"""Of the text that `output` stands for: a caption of some ten words and its end."""

CAMERA = (480, 640)
"""(height, width) in pixels of the picture that is resized."""

POWER_S = 0.5
"""Seconds over which power is averaged, at rest and at work."""

ENOUGH = ((9, 0.0), (5, 0.1), (3, 1.0), (1, 4.0))
"""(runs, seconds): so many runs do after so long. Little disturbs a run that takes seconds."""

_PATCH_PIXELS = 32

T = TypeVar("T")


class Watch:
    """Tells how much of a processor's time this thread has had since; others that start meanwhile take their part.

    Args:
        device: that computes; while it is no processor, nobody can tell.
    """

    def __init__(self, device: torch.device) -> None:
        self._tells = device.type == "cpu"
        self._began_s, self._ran_s = time.perf_counter(), time.thread_time()

    def share(self) -> float:
        """From 0 to 1."""
        passed_s = time.perf_counter() - self._began_s
        return min((time.thread_time() - self._ran_s) / passed_s, 1.0) if self._tells and passed_s > 0 else 1.0


def camera_picture() -> np.ndarray:
    """uint8 (480, 640, 3): random patches under noise, about as hard to code as what a camera sees."""
    random = np.random.default_rng(0)
    height, width = CAMERA
    patches = random.integers(0, 224, (height // _PATCH_PIXELS, width // _PATCH_PIXELS, 3), np.uint8)
    noise = random.integers(0, 32, (height, width, 3), np.uint8)
    return patches.repeat(_PATCH_PIXELS, 0).repeat(_PATCH_PIXELS, 1) + noise


def first_batch(model: SplitModel) -> torch.Tensor:
    """A batch of one where the model's stages begin: a picture, or random features."""
    if model.first == "input":
        return torch.from_numpy(model.resize(camera_picture())[None])
    shape = (1, *model.boundary_shape(model.first))
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))


def resize_s(model: SplitModel) -> float:
    """Seconds to bring a camera's picture to the model's size."""
    image = camera_picture()
    return median_s(model.device, lambda: model.resize(image))


def passes(model: SplitModel, batch: torch.Tensor) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Seconds of every loaded stage but the text, and the batch at every split point from the first on.

    Whole passes are run: a stage that ran by itself again and again would find its weights in the processor's cache.

    Args:
        batch: (1, *boundary_shape(model.first)).
    """
    points = (model.first, *(stage.name for stage in model.stages))
    boundaries = {model.first: batch}

    def run() -> list[float]:
        stamps_s = [_now_s(model.device)]
        for start, stop in pairwise(points):
            boundaries[stop] = model.run(boundaries[start], start, stop)
            stamps_s.append(_now_s(model.device))
        return [ended_s - began_s for began_s, ended_s in pairwise(stamps_s)]

    run()
    middle_s = map(median, zip(*_runs(run), strict=True))
    return dict(zip(points[1:], middle_s, strict=True)), boundaries


def text_s(model: SplitModel, features: torch.Tensor) -> float:
    """Seconds of a caption of `TEXT_TOKENS`; what a random picture says may end earlier, and is extrapolated.

    Args:
        features: (1, *boundary_shape("qformer")).
    """

    def timed(tokens: int) -> tuple[float, int]:
        began_s = _now_s(model.device)
        (ids,) = model.generate_ids(features, [CAPTION], Generation(max_new_tokens=tokens))
        model.tail.decode(ids)
        return _now_s(model.device) - began_s, len(ids)

    timed(2)
    runs = _runs(lambda: timed(TEXT_TOKENS))
    whole_s, tokens = median(seconds for seconds, _ in runs), runs[0][1]
    if tokens in (1, TEXT_TOKENS):
        return whole_s
    first_s = median(seconds for seconds, _ in _runs(lambda: timed(1)))
    return first_s + max(whole_s - first_s, 0.0) * (TEXT_TOKENS - 1) / (tokens - 1)


def head_power_w(model: SplitModel, batch: torch.Tensor, meter: Meter) -> float:
    """Watts that the machine takes while the head runs, above what it takes at rest just before.

    NaN where the meter does not tell; zero or less where it cannot tell the two apart.
    """
    last = "qformer" if model.last == "output" else model.last

    def work() -> None:
        until_s = time.perf_counter() + POWER_S
        while _now_s(model.device) < until_s:
            model.run(batch, "input", last)

    idle_w = _mean_w(meter, lambda: time.sleep(POWER_S))
    return _mean_w(meter, work) - idle_w


def _mean_w(meter: Meter, work: Callable[[], object]) -> float:
    began_s, began_j = time.perf_counter(), meter.joules()
    work()
    return (meter.joules() - began_j) / (time.perf_counter() - began_s)


def median_s(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds of one run, after one that does not count."""

    def timed() -> float:
        began_s = _now_s(device)
        work()
        return _now_s(device) - began_s

    timed()
    return median(_runs(timed))


def _runs(run: Callable[[], T]) -> list[T]:
    """Results of as many runs as are enough."""
    results: list[T] = []
    began_s = time.perf_counter()
    while True:
        results.append(run())
        took_s = time.perf_counter() - began_s
        if any(len(results) >= runs and took_s >= seconds for runs, seconds in ENOUGH):
            return results


def _now_s(device: torch.device) -> float:
    """Steady time at which all work given to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
