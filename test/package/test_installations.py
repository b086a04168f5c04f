"""The package finds its data and its executables in every way to install it."""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SOURCES = (".*", "build", "install", "log", "out", "*.egg-info", "__pycache__", "test", "bench", "training")
EXECUTABLES = ("annotator_node", "camera_node", "edge_node", "laim", "planner_node", "robot_node", "shaper_node")
SITE_PACKAGES = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def python(arguments: Sequence[str], folder: Path, path: Path | None = None) -> str:
    """stdout of this Python with only `path` in PYTHONPATH, started in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def found_share(folder: Path, path: Path) -> Path:
    """`share_directory()` of the installation in `path`."""
    code = "import laim_ros.paths as paths; print(paths.__file__); print(paths.share_directory())"
    module, share = python(["-c", code], folder, path).splitlines()
    assert Path(module).is_relative_to(path), "another installation was found"
    return Path(share)


def files(root: Path, top: str) -> set[Path]:
    """All files of a folder but compiled ones, relative to `root`."""
    return {path.relative_to(root) for path in (root / top).rglob("*") if path.is_file() and path.suffix != ".pyc"}


def assert_complete(share: Path) -> None:
    """Everything that is in the source tree's data folders is in `share`."""
    for top in ("launch", "config", "checkpoints"):
        expected = files(ROOT, top)
        assert expected, f"{top} is empty"
        assert files(share, top) == expected
    assert (share / "package.xml").read_text() == (ROOT / "package.xml").read_text()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree, so that builds leave nothing behind."""
    copy = tmp_path_factory.mktemp("sources") / "laim_ros"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    return copy


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    python(["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."], sources)
    (built,) = folder.glob("laim_ros-*.whl")
    return built


def test_source_tree(tmp_path: Path) -> None:
    assert found_share(tmp_path, ROOT) == ROOT


def test_pip_in_an_environment(wheel: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "venv"
    # Else pip removes the installation that runs this test.
    options = ("--no-deps", "--ignore-installed", "--prefix", str(prefix))
    python(["-m", "pip", "install", "-q", *options, str(wheel)], tmp_path)
    share = found_share(tmp_path, prefix / SITE_PACKAGES)
    assert share == prefix / "share" / "laim_ros"
    assert_complete(share)
    assert sorted(path.name for path in (prefix / "bin").iterdir()) == sorted(EXECUTABLES)


def test_pip_in_a_folder(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    python(["-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)], tmp_path)
    assert_complete(found_share(tmp_path, target))


def test_colcon(sources: Path, tmp_path: Path) -> None:
    """The same commands that colcon gives to setup.py."""
    prefix, build = tmp_path / "install", tmp_path / "build"
    build.mkdir()
    python(
        [
            *("setup.py", "-q", "egg_info", "--egg-base", str(build), "build", "--build-base", str(build)),
            *("install", "--prefix", str(prefix), "--record", str(build / "install.log")),
            "--single-version-externally-managed",
        ],
        sources,
    )
    share = found_share(tmp_path, prefix / SITE_PACKAGES)
    assert share == prefix / "share" / "laim_ros"
    assert_complete(share)
    assert (prefix / "share/ament_index/resource_index/packages/laim_ros").is_file()
    executables = prefix / "lib" / "laim_ros"
    assert sorted(path.name for path in executables.iterdir()) == sorted(EXECUTABLES)
    for name in EXECUTABLES:
        first_line = (executables / name).read_text().splitlines()[0]
        assert first_line == f"#!{sys.executable}", "ros2 run would use another Python"


def test_every_executable_is_a_function_of_a_module_that_exists(sources: Path, tmp_path: Path) -> None:
    python(["setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)], sources)
    entry_points = configparser.ConfigParser()
    entry_points.read(tmp_path / "laim_ros.egg-info" / "entry_points.txt")
    scripts = dict(entry_points["console_scripts"])
    assert sorted(scripts) == sorted(EXECUTABLES)
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_versions_agree() -> None:
    import laim_ros

    assert f"<version>{laim_ros.__version__}</version>" in (ROOT / "package.xml").read_text()


def test_missing_data_is_said(tmp_path: Path) -> None:
    lonely = tmp_path / "a/b/c/d/e/laim_ros"
    lonely.mkdir(parents=True)
    shutil.copy(ROOT / "laim_ros" / "paths.py", lonely)
    spec = importlib.util.spec_from_file_location("lonely_paths", lonely / "paths.py")
    paths = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(paths)
    with pytest.raises(paths.PathsError, match=r"data of laim_ros is missing.*install the package again"):
        paths.share_directory()
