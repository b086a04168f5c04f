"""What the stages cost on this machine, as JSON for the profile that a node publishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from laim_ros.nodes.robot_power import RobotPower
from laim_ros.parameters import ParameterValue

if TYPE_CHECKING:  # PyTorch takes seconds to import, and nodes are on the graph before
    from rclpy.impl.rcutils_logger import RcutilsLogger

    from laim_ros.coinference import EdgeHalf, RobotHalf
    from laim_ros.planning.profiles import MachineProfile


def robot_costs(half: RobotHalf, values: Mapping[str, ParameterValue], power: RobotPower, log: RcutilsLogger) -> str:
    """Costs of the robot's stages; empty where its parameters ask for none, or they could not be measured.

    Args:
        half: loaded, and run once.
        values: the robot's parameters.
        power: open.
        log: told how long it took, or why it failed.
    """
    limit_s = values["profile_limit_s"]
    if not limit_s:
        return ""

    def measure() -> MachineProfile:
        from laim_ros.profiling import profile_robot

        return profile_robot(
            half,
            values["model"],
            limit_s=limit_s,
            meter=power.meter,
            active_w=values["active_w"],
            radio_w=values["radio_w"],
            clocks_hz=power.available_hz,
        )

    return _measured(measure, log)


def edge_costs(half: EdgeHalf, values: Mapping[str, ParameterValue], log: RcutilsLogger) -> str:
    """Costs of the edge's stages; as `robot_costs`."""
    if not values["profile"]:
        return ""

    def measure() -> MachineProfile:
        from laim_ros.profiling import profile_edge

        return profile_edge(half, values["model"])

    return _measured(measure, log)


def _measured(measure: Callable[[], MachineProfile], log: RcutilsLogger) -> str:
    began_s = time.perf_counter()
    try:
        costs = measure().to_json()
    except Exception as error:  # memory, a full disk: a planner can do without, and the node is there for captions
        log.warning(f"the stages could not be measured: {type(error).__name__}: {error}")
        return ""
    log.info(f"what the stages cost is known after {time.perf_counter() - began_s:.1f} s")
    return costs
