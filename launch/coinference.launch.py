"""Start the nodes of one machine: `ros2 launch laim_ros coinference.launch.py [name:=value ...]`.

What there is to start, and with which arguments, is data in `laim_ros/bringup.py`.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from laim_ros.bringup import ARGUMENTS, PACKAGE, nodes_for

PATIENCE_S = "20"
"""How long launch waits for a node after SIGINT before it sends SIGTERM."""


def generate_launch_description() -> LaunchDescription:
    """Every argument, then the nodes that their values ask for."""
    declared = [
        DeclareLaunchArgument(argument.name, default_value=argument.default, description=argument.help())
        for argument in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_nodes)])


def _nodes(context: LaunchContext) -> list[Node]:
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    return [
        Node(
            package=PACKAGE,
            executable=spec.executable,
            name=spec.name,
            namespace=spec.namespace,
            parameters=[*filter(None, [spec.params_file]), dict(spec.parameters)],
            remappings=list(spec.remappings),
            arguments=["--ros-args", "--log-level", spec.log_level],
            output="screen",
            # A node ends after the frame in hand; with a large model that takes longer than launch's 5 s.
            sigterm_timeout=PATIENCE_S,
        )
        for spec in nodes_for(values)
    ]
