"""Frames and models that are cheap, and the unsplit transformers model as the oracle."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from laim_ros.coinference import EdgeHalf
from laim_ros.evaluation.frames import Frames, scene_frames
from laim_ros.models import SplitModel, load
from laim_ros.models.random_checkpoint import make_random_blip2
from laim_ros.parameters import DEFAULT_MODEL
from laim_ros.quantization import Heads

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a small random model."""
    return str(make_random_blip2(tmp_path_factory.mktemp("model") / "random"))


@pytest.fixture(scope="session")
def random_edge(checkpoint: str) -> EdgeHalf:
    return EdgeHalf(load(checkpoint))


@pytest.fixture(scope="session")
def random_heads(checkpoint: str) -> Heads:
    return Heads(checkpoint, device="cpu")


@pytest.fixture(scope="session")
def noise(random_edge: EdgeHalf) -> Frames:
    """Pictures of nothing, enough for two batches."""
    shape = (40, *random_edge.model.image_size, 3)
    return Frames(np.random.default_rng(0).integers(0, 256, shape, np.uint8), "noise")


@pytest.fixture(scope="session")
def trained() -> SplitModel:
    """The model that ships: its captions do not hang on the last digit."""
    return load(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def scenes(trained: SplitModel) -> Frames:
    return scene_frames(6, trained.resize)
