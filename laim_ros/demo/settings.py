"""What the demo shall do, and the plans that it goes through."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from laim_ros.bringup import NodeSpec, nodes_for
from laim_ros.parameters import DEFAULT_MODEL, ParameterValue

_NODES = ("camera", "robot", "edge")
_LAST_DOMAIN = 101  # the ports of later ones are among those that Linux gives to anyone
_SHORTEST_STEP_S = 3.0


@dataclass(frozen=True, slots=True)
class PlanStep:
    """A plan that the robot is given for a part of the time, as values of its parameters.

    `weight_bits` is None where they stay as they are.
    """

    split_point: str
    feature_bits: int = 8
    codec: str = "auto"
    weight_bits: int | None = None

    @property
    def parameters(self) -> Mapping[str, ParameterValue]:
        """Parameters of the robot."""
        weights = {} if self.weight_bits is None else {"weight_bits": self.weight_bits}
        return {"split_point": self.split_point, "feature_bits": self.feature_bits, "codec": self.codec, **weights}


TOUR: tuple[PlanStep, ...] = (
    PlanStep("qformer", 8),
    PlanStep("qformer", 2),
    PlanStep("vit.2", 8),
    PlanStep("qformer", 8, weight_bits=4),
    PlanStep("input", codec="jpeg90"),
)
"""Few bytes, fewer bytes, little work on the robot, less memory for it, none: what a planner chooses among.

Where pictures are sent, weights do not matter: no frame of another step sees those of 4 bits.
"""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo shall do.

    Attributes:
        seconds: how long, from the first caption on.
        rate_hz: frames per second.
        model: shipped name, local folder or hub id.
        steps: plans, each for an equal part of the time.
        seed: first scene of the camera.
        start_limit_s: longest wait for the first caption.
        sheet: where the contact sheet goes.
        logs: folder of the nodes' logs.
        report: where the JSON report goes; None for none.
    """

    seconds: float = 30.0
    rate_hz: float = 4.0
    model: str = DEFAULT_MODEL
    steps: tuple[PlanStep, ...] = TOUR
    seed: int = 0
    start_limit_s: float = 180.0
    sheet: Path = Path("out/demo_sheet.png")
    logs: Path = Path("out/demo_logs")
    report: Path | None = None

    def step_at(self, elapsed_s: float) -> int:
        """Number of the plan that is due so many seconds after the first caption."""
        count = max(1, min(len(self.steps), int(self.seconds / _SHORTEST_STEP_S)))
        return min(count - 1, int(elapsed_s / self.seconds * count))

    def nodes(self) -> list[NodeSpec]:
        """The nodes to start: camera first, so that a picture waits for the robot."""
        specs = {spec.name: spec for spec in nodes_for({"demo_camera": "true", "model": self.model})}
        alone = any(step.split_point == "output" for step in self.steps)
        parameters: dict[str, Mapping[str, ParameterValue]] = {
            "camera": {"rate_hz": self.rate_hz, "seed": self.seed},
            "robot": {**self.steps[0].parameters, **({"last_split": "output"} if alone else {})},
            "edge": {},
        }
        return [specs[name].with_parameters(**parameters[name]) for name in _NODES]


def free_domain() -> int:
    """A ROS domain on which, as far as this machine can tell, nobody talks."""
    domains = random.sample(range(1, _LAST_DOMAIN + 1), _LAST_DOMAIN)
    return next((domain for domain in domains if not _in_use(domain)), domains[0])


def _in_use(domain: int) -> bool:
    """Whether the port is taken that the first DDS participant of a domain listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", 7410 + 250 * domain))
        except OSError:
            return True
    return False
