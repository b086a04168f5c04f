"""A node that looks on: every image, truth, result and link report of one robot, matched with nothing, told at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from laim_ros.nodes import messages, qos
from laim_ros.nodes.dds import give_images_room
from laim_ros.nodes.images import ImageError, to_rgb
from laim_ros.parameters import ParameterValue
from laim_ros.records import FrameResult, LinkReport, PlanReport, Reference

_STATE_PERIOD_S = 0.25
_ACTIVE = "active"


class Observer:
    """Listens in a thread of its own; the functions it is given are called in that thread.

    Args:
        namespace: of the robot; "" is the root.
        nodes: names of the nodes whose state and health are told, such as `/robot`.
        on_image: stamp in ns, and the picture: uint8 (H, W, 3) RGB.
        on_reference: stamp in ns of the image, and a `Reference`.
        on_result: stamp in ns of the image, and a `FrameResult`.
        on_link: stamp in ns of the image, and a `LinkReport`.
        on_plan: what the planner says.
        on_state: node and name of its lifecycle state, when it changes, until it is active.
        on_health: node, whether it reports an error, and its sentence on `/diagnostics`.
        on_refused: node, and the sentence why it did not take parameters.
    """

    def __init__(
        self,
        namespace: str,
        nodes: Sequence[str],
        *,
        on_image: Callable[[int, np.ndarray], None],
        on_reference: Callable[[int, Reference], None],
        on_result: Callable[[int, FrameResult], None],
        on_link: Callable[[int, LinkReport], None],
        on_plan: Callable[[PlanReport], None],
        on_state: Callable[[str, str], None],
        on_health: Callable[[str, bool, str], None],
        on_refused: Callable[[str, str], None],
    ) -> None:
        give_images_room()
        self._on_image, self._on_state, self._on_health, self._on_refused = on_image, on_state, on_health, on_refused
        self._context = Context()
        self._context.init(args=[])
        # A context of its own catches no signals: they belong to the program that looks on, which calls close.
        self._node = Node("observer", context=self._context, enable_rosout=False, start_parameter_services=False)
        self._prefix = f"{namespace.rstrip('/')}/"
        self._subscribe(Image, "image", self._image, qos.IMAGE)
        self._subscribe_array("laim/reference", messages.reference_from, on_reference)
        self._subscribe_array("laim/results", messages.result_from, on_result)
        self._subscribe_array("laim/link", messages.link_from, on_link)
        self._subscribe_array("laim/plan", messages.plan_from_message, lambda _, report: on_plan(report), qos.LATCHED)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, qos.DIAGNOSTICS)
        self._questions = self._node.create_publisher(String, f"{self._prefix}laim/question", qos.QUESTION)
        self._parameters = {
            name: self._node.create_client(SetParametersAtomically, f"{name}/set_parameters_atomically")
            for name in nodes
        }
        self._nodes = frozenset(nodes)
        self._states = dict.fromkeys(nodes, "")
        self._state_clients = {name: self._node.create_client(GetState, f"{name}/get_state") for name in nodes}
        self._state_calls: dict[str, Future] = {}
        self._state_timer = self._node.create_timer(_STATE_PERIOD_S, self._ask_states)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="laim-observer", daemon=True)
        self._thread.start()

    def set_parameters(self, node: str, values: Mapping[str, ParameterValue]) -> bool:
        """Asks a node to take these parameters, all or none; a refusal goes to `on_refused`. Does not wait.

        Returns:
            False where the node cannot be asked yet.
        """
        client = self._parameters[node]
        if not client.service_is_ready():
            return False
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        asked = client.call_async(SetParametersAtomically.Request(parameters=parameters))
        asked.add_done_callback(partial(self._parameters_answered, node))
        return True

    def ask(self, question: str) -> None:
        """Asks the robot a question about its next image."""
        self._questions.publish(String(data=question))

    def close(self) -> None:
        """Leaves the graph; nothing is told afterwards."""
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(2.0)
        self._node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _subscribe(self, kind: type, topic: str, callback: Callable, profile: qos.QoSProfile) -> None:
        full = f"{self._prefix}{topic}"
        events = qos.subscription_events(self._node, full)
        self._node.create_subscription(kind, full, callback, profile, event_callbacks=events)

    def _subscribe_array(
        self, topic: str, read: Callable, tell: Callable, profile: qos.QoSProfile = qos.RESULTS
    ) -> None:
        def arrived(message: DiagnosticArray) -> None:
            try:
                record = read(message)
            except messages.MessageError as error:
                self._node.get_logger().warning(f"{topic}: {error}", throttle_duration_sec=10.0)
                return
            tell(_stamp_ns(message.header), record)

        self._subscribe(DiagnosticArray, topic, arrived, profile)

    def _image(self, message: Image) -> None:
        # A strange picture is the robot's to complain about.
        with contextlib.suppress(ImageError):
            self._on_image(_stamp_ns(message.header), to_rgb(message))

    def _diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name in self._nodes:
                self._on_health(status.name, status.level == DiagnosticStatus.ERROR, status.message)

    def _ask_states(self) -> None:
        waiting = [name for name, state in self._states.items() if state != _ACTIVE]
        if not waiting:
            self._state_timer.cancel()
        for name in waiting:
            if name not in self._state_calls and self._state_clients[name].service_is_ready():
                self._state_calls[name] = self._state_clients[name].call_async(GetState.Request())
                self._state_calls[name].add_done_callback(partial(self._state_answered, name))

    def _state_answered(self, name: str, answer: Future) -> None:
        del self._state_calls[name]
        state = answer.result().current_state.label
        if state != self._states[name]:
            self._states[name] = state
            self._on_state(name, state)

    def _parameters_answered(self, node: str, answer: Future) -> None:
        result = answer.result().result
        if not result.successful:
            self._on_refused(node, result.reason)


def _stamp_ns(header: Header) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
