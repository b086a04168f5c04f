"""What a benchmark's figures depend on besides the code: the machine, its load, and the versions."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from laim_ros.models import Generation
from laim_ros.plan import Plan


def circumstances(threads: int, model: str, plan: Plan, generation: Generation) -> dict:
    """What the figures depend on."""
    packages = (
        "laim_ros",
        "torch",
        "transformers",
        "numpy",
        "opencv-python-headless",
        "ros-rclpy",
        "ros-rmw-fastrtps-cpp",
    )
    return {
        "model": model,
        "plan": asdict(plan),
        "generation": asdict(generation),
        "threads": threads,
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "middleware": os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp (default)"),
        "versions": {package: version_of(package) for package in packages},
    }


def version_of(package: str) -> str:
    """Version of an installed distribution, or that it is not installed as one."""
    try:
        return version(package)
    except ModuleNotFoundError:  # from a source tree, or from apt
        return "not installed by pip"


def cpu_name() -> str:
    """The processor as Linux names it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor()
