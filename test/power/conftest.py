"""Trees of files as the kernel lays them out under /sys, and a user who is not root."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


class Tree:
    """Files under a root, by path and content."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, files):
        for path, content in files.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")

    def read(self, path):
        return int((self.root / path).read_text())


@pytest.fixture
def tree():
    """Not in pytest's folder, which is closed to other users."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Tree(Path(folder))


@pytest.fixture
def unprivileged(tree):
    """Runs a block as a user whom file modes stop; root, whom they do not, becomes one for its length."""

    @contextmanager
    def run():
        if os.geteuid() != 0:
            yield
            return
        try:
            os.seteuid(NOBODY)
        except OSError as error:
            pytest.skip(f"cannot become another user: {error}")
        try:
            if not os.access(tree.root, os.X_OK, effective_ids=True):
                pytest.skip(f"{tree.root} is closed to other users")
            yield
        finally:
            os.seteuid(0)

    return run
