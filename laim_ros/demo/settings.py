"""What the demo shall do, and the plans that it goes through."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from laim_ros.bringup import NodeSpec, nodes_for
from laim_ros.demo.link import BURST_BYTES, LATENCY_S, LINK, LinkPhase
from laim_ros.parameters import DEFAULT_MODEL, ParameterValue

_SHAPED = (("laim/features", "laim/features_in"), ("laim/probe", "laim/probe_in"))
_BATTERY_LIVES = 1.25  # of the demo's time: a fifth of the charge is left at the end
_WHILE_LOADING_S = 1e6  # the battery stays full
_LINK_QUANTILE = 0.7  # below the default: where five programs share a few cores, every third packet meets a hiccup
_LAST_DOMAIN = 101  # the ports of later ones are among those that Linux gives to anyone
_SHORTEST_STEP_S = 3.0

DEADLINE_S = 0.6
"""Kept by every plan on a good link, and by small packets on the sagged one; not by a picture there."""


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
    PlanStep("vit.2", 2),
    PlanStep("qformer", 2, weight_bits=4),
    PlanStep("input", codec="jpeg90"),
)
"""Few bytes, fewer bytes, little work on the robot, less memory for it, none: what the planner chooses among.

At 2 bits, codec klt keeps captions as true as at 8 after the Q-Former, and nearly so after two blocks.

Where pictures are sent, weights do not matter: no frame of another step sees those of 4 bits.
"""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo shall do.

    Attributes:
        seconds: how long, from the first caption on.
        rate_hz: frames per second.
        model: shipped name, local folder or hub id.
        steps: plans, each for an equal part of the time; none leaves the plan to the planner, behind a made-up link.
        link: how fast that link is when.
        deadline_s: that the planner keeps, from the image to its result.
        seed: first scene of the camera.
        start_limit_s: longest wait for the first caption.
        sheet: where the contact sheet goes.
        logs: folder of the nodes' logs.
        report: where the JSON report goes; None for none.
    """

    seconds: float = 30.0
    rate_hz: float = 4.0
    model: str = DEFAULT_MODEL
    steps: tuple[PlanStep, ...] = ()
    link: tuple[LinkPhase, ...] = LINK
    deadline_s: float = DEADLINE_S
    seed: int = 0
    start_limit_s: float = 180.0
    sheet: Path = Path("out/demo_sheet.png")
    logs: Path = Path("out/demo_logs")
    report: Path | None = None

    @property
    def planned(self) -> bool:
        """Whether the planner chooses."""
        return not self.steps

    def step_at(self, elapsed_s: float) -> int:
        """Number of the plan that is due so many seconds after the first caption."""
        count = max(1, min(len(self.steps), int(self.seconds / _SHORTEST_STEP_S)))
        return min(count - 1, int(elapsed_s / self.seconds * count))

    @property
    def battery_life_s(self) -> float:
        """Time in which the camera's made-up battery drains, from the first caption on."""
        return _BATTERY_LIVES * self.seconds

    def nodes(self) -> list[NodeSpec]:
        """The nodes to start: camera first, so that a picture waits for the robot."""
        arguments = {"demo_camera": "true", "model": self.model, "planner": "auto" if self.planned else "off"}
        specs = {spec.name: spec for spec in nodes_for(arguments)}
        specs["camera"] = specs["camera"].with_parameters(rate_hz=self.rate_hz, seed=self.seed)
        return self._planned(specs) if self.planned else self._stepped(specs)

    def _stepped(self, specs: Mapping[str, NodeSpec]) -> list[NodeSpec]:
        alone = {"last_split": "output"} if any(step.split_point == "output" for step in self.steps) else {}
        # Nobody asks what the stages cost.
        robot = specs["robot"].with_parameters(**self.steps[0].parameters, **alone, profile_limit_s=0.0)
        return [specs["camera"], robot, specs["edge"].with_parameters(profile=False)]

    def _planned(self, specs: Mapping[str, NodeSpec]) -> list[NodeSpec]:
        # Robot and edge are two machines in earnest; here each has its share of one, or they would time each other.
        threads = max(1, (os.cpu_count() or 1) // 2)
        robot = specs["robot"].with_parameters(last_split="output", num_threads=threads)
        shaper = NodeSpec(
            executable="shaper_node",
            module="laim_ros.nodes.shaper_node",
            name="shaper",
            parameters={"goodput_bps": self.link[0].goodput_bps, "burst_bytes": BURST_BYTES, "latency_s": LATENCY_S},
        )
        return [
            specs["camera"].with_parameters(publish_battery=True, battery_life_s=_WHILE_LOADING_S),
            shaper,
            replace(robot, remappings=(*robot.remappings, *_SHAPED)),
            specs["edge"].with_parameters(num_threads=threads),
            specs["planner"].with_parameters(
                deadline_s=self.deadline_s, mission_s=self.seconds, link_quantile=_LINK_QUANTILE
            ),
        ]


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
