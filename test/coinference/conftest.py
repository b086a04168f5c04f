"""A random checkpoint, and the unsplit transformers model of it as the oracle."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from laim_ros.models.random_checkpoint import make_random_blip2

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a small random model."""
    return str(make_random_blip2(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a model of the same sizes with other weights."""
    return str(make_random_blip2(tmp_path_factory.mktemp("other_model"), seed=1))


@pytest.fixture(scope="session")
def unsplit(checkpoint: str):
    """The oracle of `checkpoint`."""
    from unsplit import Unsplit

    return Unsplit(checkpoint)
