"""The base of every node: parameters from the table, lifecycle with self-activation, diagnostics, a clean end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from queue import SimpleQueue

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidHandle, ParameterException
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rclpy.timer import Timer
from std_msgs.msg import Header

from laim_ros.nodes import messages, qos
from laim_ros.nodes.dds import give_images_room
from laim_ros.nodes.worker import ThrottledLog
from laim_ros.parameters import Parameter, ParameterValue, ParameterValueError

_DIAGNOSTICS_PERIOD_S = 1.0
_PATIENCE_S = 5.0
"""How long the end of a node waits for a transition or a frame in hand."""
_MOST_LOST, _LOST_WITHIN_S = 20, 10.0
"""So many topics that vanish from under rclpy, in that time, are no deactivation."""
_EXECUTOR_THREADS = 3
"""One for data, one for lifecycle transitions (a model may take minutes to load), one for services that wait."""


class LaimNode(LifecycleNodeMixin, Node):
    """A managed node that configures and activates itself unless `autostart` is false.

    Subclasses override `configure`, `activate`, `deactivate`, `cleanup`, which raise on failure, and may override
    `check_parameters`, `parameters_changed` and `diagnostics`.
    """

    def __init__(self, name: str, table: Sequence[Parameter], **node_arguments: object) -> None:
        Node.__init__(self, name, **node_arguments)
        LifecycleNodeMixin.__init__(self)
        # Transitions have a group of their own: while a model loads, `ros2 lifecycle get` and data still get answers.
        # rclpy has one group for all lifecycle services, so the one that changes the state is moved.
        self._transitions = MutuallyExclusiveCallbackGroup()
        self._service_change_state.callback_group = self._transitions
        self._transitions.add_entity(self._service_change_state)
        self._table = {parameter.name: parameter for parameter in table}
        self.add_on_set_parameters_callback(self._on_set_parameters)
        for parameter in table:
            self.declare_parameter(parameter.name, parameter.default, _descriptor(parameter))
        self._warn_of_unknown_parameters()
        self.check_parameters(self.values)
        self.add_post_set_parameters_callback(
            lambda parameters: self.parameters_changed(self.values, {parameter.name for parameter in parameters})
        )
        self._last_error = ""
        self._in_transition = threading.Lock()
        self._ending = False
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self.create_wall_timer(_DIAGNOSTICS_PERIOD_S, self._publish_diagnostics)
        self._autostart_timer = (
            self.create_wall_timer(0.0, self._bring_up, self._transitions) if self.values["autostart"] else None
        )

    # What a node of the package fills in.

    def configure(self) -> None:
        """Load what is needed to work. Raises on failure; the node then stays unconfigured."""

    def activate(self) -> None:
        """Begin to work. Raises on failure; the node then stays inactive."""

    def deactivate(self) -> None:
        """Stop working; must not fail."""

    def cleanup(self) -> None:
        """Let go of what `configure` loaded; must not fail, and may be called when nothing is loaded."""

    def check_parameters(self, values: Mapping[str, ParameterValue]) -> None:
        """Refuse values that do not fit each other by raising ValueError; its text becomes the `reason`."""

    def parameters_changed(self, values: Mapping[str, ParameterValue], names: Set[str]) -> None:
        """Called with all values after those of `names` were set, be it to what they were."""

    def diagnostics(self) -> tuple[bytes, str, Mapping[str, object]]:
        """Level, one sentence, and figures for `/diagnostics` while the node is active."""
        return DiagnosticStatus.OK, "active", {}

    def create_wall_timer(
        self, period_s: float, callback: Callable[[], None], group: CallbackGroup | None = None
    ) -> Timer:
        """A timer of the steady clock: the node's own stands still while a bag is paused (`use_sim_time`)."""
        return self.create_timer(period_s, callback, group, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Parameters.

    @property
    def values(self) -> dict[str, ParameterValue]:
        """All parameters of the table, each in the type of its default."""
        return {name: entry.check(self.get_parameter(name).value) for name, entry in self._table.items()}

    def _warn_of_unknown_parameters(self) -> None:
        for name in self._parameter_overrides:
            if not self.has_parameter(name) and not name.startswith("qos_overrides."):
                self.get_logger().warning(f"there is no parameter '{name}'; known: {', '.join(self._table)}")

    def _on_set_parameters(self, parameters: list[RosParameter]) -> SetParametersResult:
        try:
            changed = {p.name: self._check_one(p) for p in parameters if p.name in self._table}
            if all(self.has_parameter(name) for name in self._table):
                self.check_parameters({**self.values, **changed})
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _check_one(self, parameter: RosParameter) -> ParameterValue:
        entry = self._table[parameter.name]
        value = entry.check(parameter.value)
        declared = self.has_parameter(entry.name)
        if declared and not entry.live and self.state != "unconfigured" and value != self.values[entry.name]:
            raise ParameterValueError(
                f"{entry.name} is read when the node is configured: `ros2 lifecycle set "
                f"{self.get_fully_qualified_name()}` to `deactivate` and `cleanup`, set it, `configure` and `activate`"
            )
        return value

    # Lifecycle.

    @property
    def state(self) -> str:
        """Name of the lifecycle state: `unconfigured`, `inactive`, `active`, or that of a transition."""
        return self._state_machine.current_state[1]

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition: load."""
        return self._attempt("configure", self.configure, undo=self.cleanup)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition: begin to work."""
        return self._attempt("activate", self.activate, undo=self.deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition: stop working."""
        return self._attempt("deactivate", self.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition: let go of everything loaded."""
        return self._attempt("clean up", self.cleanup)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition: the end."""
        return self._attempt("shut down", self.close)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Transition: recover from an error."""
        return self._attempt("recover", self.close)

    def close(self) -> None:
        """Stop working and let go of everything, in whatever state the node is."""
        self.deactivate()
        self.cleanup()

    def end(self, timeout_s: float) -> bool:
        """Closes the node for good; False if a transition or a frame is still at work after `timeout_s`."""
        self._ending = True
        closing = threading.Thread(target=self._close_after_transition, name="laim-end", daemon=True)
        closing.start()
        closing.join(timeout_s)
        return not closing.is_alive()

    def _close_after_transition(self) -> None:
        with self._in_transition:
            self.close()

    def _attempt(
        self, what: str, action: Callable[[], None], undo: Callable[[], None] | None = None
    ) -> TransitionCallbackReturn:
        with self._in_transition:
            if self._ending:
                return TransitionCallbackReturn.FAILURE
            # rclpy swallows exceptions of transitions, so they are told here.
            try:
                action()
            except Exception as error:
                self._tell(what, error)
                if undo is not None:
                    undo()
                return TransitionCallbackReturn.FAILURE
            self._last_error = ""
            return TransitionCallbackReturn.SUCCESS

    def _tell(self, what: str, error: Exception) -> None:
        known = isinstance(error, ValueError)  # our own errors are, and say all there is to say
        self._last_error = f"cannot {what}: {error}" if known else f"cannot {what}: {type(error).__name__}: {error}"
        self.get_logger().error(self._last_error)
        if not known:
            self.get_logger().error(traceback.format_exc())

    def _bring_up(self) -> None:
        self._autostart_timer.cancel()
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                return

    # Diagnostics.

    def stamp_now(self, frame_id: str = "") -> Header:
        """A header of this moment on the node's (possibly simulated) clock."""
        return Header(stamp=self.get_clock().now().to_msg(), frame_id=frame_id)

    def _publish_diagnostics(self) -> None:
        level, text, values = DiagnosticStatus.WARN, self.state, {}
        # Not during a transition, which may take away what the figures are read from.
        if self._in_transition.acquire(blocking=False):
            try:
                if self._last_error:
                    level, text = DiagnosticStatus.ERROR, self._last_error
                elif self.state == "active":
                    level, text, values = self.diagnostics()
            finally:
                self._in_transition.release()
        name = self.get_fully_qualified_name()
        self._diagnostics.publish(messages.diagnostics_message(self.stamp_now(), name, level, text, values))


def run(make: Callable[[], LaimNode], arguments: Sequence[str] | None = None) -> int:
    """Runs a node until it is interrupted or terminated; returns the exit status."""
    give_images_room()
    # rclpy's own handlers would take the middleware down at once, under callbacks that still use it.
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    # A queue, because its put may interrupt its own get: setting an Event may deadlock with the wait for it.
    asked_to_end: SimpleQueue[None] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_end.put(None))
    try:
        node = make()
    except (ParameterException, ValueError) as error:
        rclpy.logging.get_logger("laim_ros").fatal(f"cannot start: {error}")
        rclpy.try_shutdown()
        return 2
    executor = MultiThreadedExecutor(_EXECUTOR_THREADS)
    executor.add_node(node)
    end: Future = Future()
    failures: list[BaseException] = []
    tell = ThrottledLog(lambda text: node.get_logger().info(text))  # rclpy refuses two severities from one line
    spinning = threading.Thread(target=_spin, args=(executor, end, asked_to_end, failures, tell))
    spinning.start()
    asked_to_end.get()
    end.set_result(None)
    executor.wake()
    spinning.join()
    executor.shutdown(wait_for_threads=False)
    if not node.end(_PATIENCE_S):
        # Nothing stops a thread that loads a model, and its end may be minutes away.
        node.get_logger().info("leaving without waiting for the transition in hand")
        node.destroy_node()
        rclpy.try_shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Python gives its own handlers back to the system while it leaves: one Ctrl-C more would kill what ended well.
        signal.signal(number, signal.SIG_IGN)
    if failures:
        raise failures[0]
    return 0


def _spin(
    executor: MultiThreadedExecutor,
    end: Future,
    asked_to_end: SimpleQueue[None],
    failures: list[BaseException],
    tell: Callable[[str], object],
) -> None:
    lost = LostTopics(tell)
    try:
        while not _spun(executor, end, lost):
            pass
    except BaseException as error:  # told by the main thread, which ends the node first
        failures.append(error)
    finally:
        asked_to_end.put(None)


def _spun(executor: MultiThreadedExecutor, end: Future, lost: LostTopics) -> bool:
    """Spins until the end; False where a callback took down a topic while rclpy was about to wait for its events.

    rclpy does not expect that, although a deactivation does it in a thread of its own; the next round knows better.
    """
    try:
        executor.spin_until_future_complete(end)
    except InvalidHandle as error:
        if lost.too_many(error, time.monotonic()):
            raise
        return False
    return True


class LostTopics:
    """Counts how often rclpy found a topic gone, and tells of each."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._at_s: deque[float] = deque(maxlen=_MOST_LOST)

    def too_many(self, error: Exception, now_s: float) -> bool:
        """Takes in one more; whether they come so fast that the next round will hardly know better."""
        self._tell(f"a topic went while it was waited for: {error}")
        self._at_s.append(now_s)
        return len(self._at_s) == _MOST_LOST and now_s - self._at_s[0] <= _LOST_WITHIN_S


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    kind = type(parameter.default)
    when = "may be set at any time" if parameter.live else "read when the node is configured"
    descriptor = ParameterDescriptor(
        description=parameter.description,
        additional_constraints="; ".join(filter(None, (parameter.bounds(), when))),
        # The table checks types itself: a float parameter also takes `5`, and the reason for a refusal says what the
        # parameter takes, where rclpy says "expected '2' got '3'".
        dynamic_typing=True,
    )
    if parameter.minimum is not None and parameter.maximum is not None and not parameter.choices:
        if kind is int:
            descriptor.integer_range = [
                IntegerRange(from_value=int(parameter.minimum), to_value=int(parameter.maximum))
            ]
        elif kind is float:
            bounds = {"from_value": float(parameter.minimum), "to_value": float(parameter.maximum)}
            descriptor.floating_point_range = [FloatingPointRange(**bounds)]
    return descriptor
