"""Build of the ament_python package: `colcon build` and `pip install .` both run this."""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "laim_ros"
ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / NAME / "__init__.py").read_text(), re.MULTILINE)[1]

# ROS itself is not listed: on a robot it comes from apt, elsewhere from the extra `ros`.
CORE = [
    "numpy>=1.26",
    "torch>=2.6",
    "transformers>=5.23,<6",
    "safetensors>=0.8",
    "pillow>=10.1",
    "opencv-python-headless>=4.9",
    "msgspec>=0.19",
    "zstandard>=0.22",
    "rich>=13.7",
]
ROS = [  # ROS 2 Kilted
    "ros-rclpy[fastrtps]>=9.1.2,<10",
    "ros-sensor-msgs>=5.5.1,<6",
    "ros-std-msgs>=5.5.1,<6",
    "ros-std-srvs>=5.5.1,<6",
    "ros-diagnostic-msgs>=5.5.1,<6",
    "ros-lifecycle-msgs>=2.3,<3",
]
STUDY = ["matplotlib>=3.9", "pycocoevalcap>=1.2", "rosbags>=0.11.7"]
DEV = [
    "pytest>=8",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "ruff>=0.17",
    "scikit-image>=0.24",
    "rosbags>=0.11.7",
    "rosbags-image>=0.10.4",
    "PyYAML>=6",
]


def data_files() -> list[tuple[str, list[str]]]:
    """(folder under the prefix, files) for what ROS and `laim_ros.paths` look for in share/."""
    share = Path("share") / NAME
    files = [
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (str(share), ["package.xml"]),
    ]
    for top in ("launch", "config", "checkpoints"):
        for folder in sorted({path.parent for path in (ROOT / top).rglob("*") if _ships(path)}):
            relative = folder.relative_to(ROOT)  # setuptools refuses absolute paths
            names = sorted(path.name for path in folder.iterdir() if _ships(path))
            files.append((str(share / relative), [str(relative / name) for name in names]))
    return files


def _ships(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")


setup(
    name=NAME,
    version=VERSION,
    description="Split vision-language models between a robot and an edge computer, over ROS 2",
    long_description=(ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="laim_ros maintainers",
    maintainer_email="maintainers@laim-ros.invalid",
    python_requires=">=3.11",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    data_files=data_files(),
    install_requires=CORE,
    extras_require={"ros": ROS, "study": STUDY, "dev": DEV},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"robot_node = {NAME}.nodes.robot_node:main",
            f"edge_node = {NAME}.nodes.edge_node:main",
            f"camera_node = {NAME}.nodes.camera_node:main",
            f"annotator_node = {NAME}.nodes.annotator_node:main",
            f"shaper_node = {NAME}.nodes.shaper_node:main",
            f"planner_node = {NAME}.nodes.planner_node:main",
            f"laim = {NAME}.cli:main",
        ]
    },
)
