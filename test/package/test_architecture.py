"""Which part may import which, and how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "laim_ros"

LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "plan paths processes records power",
        "files parameters",
        "bringup codec drawing planning scenes",
        "models parameter_docs sources",
        "quantization",
        "coinference",
        "evaluation profiling",
        "nodes",
        "demo",
        "cli",
    )
)
"""Parts of the package from the bottom up; a part imports only parts of lower layers, and itself."""

ROS = {
    *("rclpy", "launch", "launch_ros", "ament_index_python", "rcl_interfaces", "lifecycle_msgs", "builtin_interfaces"),
    *("sensor_msgs", "std_msgs", "std_srvs", "diagnostic_msgs"),
}
NEVER = {
    "plan": {"numpy", "torch"},
    "power": {"numpy", "torch"},
    "parameters": {"numpy", "torch"},
    "bringup": {"numpy", "torch"},
    "codec": {"torch", "transformers"},
    "planning": {"torch", "transformers"},
    "scenes": {"torch", "transformers"},
}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_part(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Full names of all modules imported anywhere in a file, also inside functions."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{name.name}" for name in node.names]
    return tuple(names)


def layer_of(part: str) -> int:
    for number, layer in enumerate(LAYERS):
        if part in layer:
            return number
    raise AssertionError(f"laim_ros/{part} has no place in LAYERS yet: put it where it belongs")


def test_imports_run_downward() -> None:
    wrong = []
    for path in sources():
        part = part_of(path)
        for name in imports_of(path):
            imported = name.removeprefix("laim_ros.").split(".")[0]
            if not name.startswith("laim_ros.") or not is_part(imported) or imported == part:
                continue
            if part == "__init__" or layer_of(imported) >= layer_of(part):
                wrong.append(f"{path.relative_to(ROOT)} imports {imported}")
    assert not wrong


def test_only_the_nodes_know_ros_and_light_parts_stay_light() -> None:
    wrong = []
    for path in sources():
        part = part_of(path)
        forbidden = NEVER.get(part, set()) | (set() if part == "nodes" else ROS)
        found = {name.split(".")[0] for name in imports_of(path)} & forbidden
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(found)]
    assert not wrong


def test_a_robot_loads_no_scenes_and_no_picture_sources() -> None:
    """Pruning with pictures needs both, but only where heads are packed."""
    script = "import sys, laim_ros.coinference; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {".".join(name.split(".")[:2]) for name in run.stdout.split() if name.startswith("laim_ros.")}
    assert "laim_ros.quantization" in loaded
    assert not loaded & {"laim_ros.scenes", "laim_ros.sources"}
    pictured = {"scenes", "sources"}
    importing = {
        str(path.relative_to(PACKAGE))
        for path in (PACKAGE / "quantization").rglob("*.py")
        if any(name.split(".")[1] in pictured for name in imports_of(path) if name.startswith("laim_ros."))
    }
    assert importing == {"quantization/calibration.py"}


@pytest.mark.parametrize("folder", ["laim_ros", "launch", "training", "bench", "test"])
def test_files_are_short_enough_to_read(folder: str) -> None:
    long = {}
    for path in (ROOT / folder).rglob("*.py"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > 400:
            long[str(path.relative_to(ROOT))] = lines
    assert not long


def test_nothing_executes_what_arrives() -> None:
    """No pickle in what reads the network or disk, and no eval or exec."""
    for path in sources():
        imported = {name.split(".")[0] for name in imports_of(path)}
        assert not imported & {"pickle", "marshal", "shelve"}, path
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"eval", "exec"}, path
