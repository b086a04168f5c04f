"""Fixtures of the node tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def observer():
    """A node in the test's process; see `ros_harness.Observer`."""
    from ros_harness import Observer

    made = Observer()
    yield made
    made.close()
