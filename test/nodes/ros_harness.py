"""Real nodes in processes of their own, and a node in the test's process that watches them.

Importing this file gives the test process a ROS domain that no other test process on the machine has, and limits
discovery to the machine. A test then reads

    with start_node("laim_ros.nodes.camera_node", parameters={"rate_hz": 5.0}) as camera:
        images = observer.subscribe(Image, "/image", qos.IMAGE)
        observer.wait_for(lambda: len(images) >= 3)

Leaving the block interrupts the node as Ctrl-C does and asserts that it ends with status 0 and without a traceback.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile
from std_srvs.srv import Trigger

from laim_ros.nodes.dds import give_images_room
from laim_ros.processes import Child

_Value = TypeVar("_Value")

PATIENCE_S = float(os.environ.get("LAIM_TEST_PATIENCE_S", "120"))
"""How long to wait for anything before the test fails: a bound on hanging, not a measure of speed."""
_LAST_DOMAIN = 101  # those above have ports that Linux may give to anyone
_POLL_S = 0.01

_UNLESS_SAID = {
    "laim_ros.nodes.robot_node": {"profile_limit_s": 0.0},
    "laim_ros.nodes.edge_node": {"profile": False},
}
"""Parameters by module: no test waits until a machine is measured, unless it asks for that."""


def _claim_domain() -> int:
    """A domain that is ours until this process ends, by a lock that the system lets go of then."""
    folder = Path(tempfile.gettempdir()) / "laim_ros_test_domains"
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):
        folder.chmod(0o777)  # other users of the machine test too
    for offset in range(_LAST_DOMAIN):
        domain = 1 + (os.getpid() + offset) % _LAST_DOMAIN
        try:
            lock = os.open(folder / f"{domain}.lock", os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            continue
        return domain  # the lock's file stays open on purpose
    raise RuntimeError(f"all ROS domains from 1 to {_LAST_DOMAIN} are taken: {folder}")


def _temporary_folder(what: str) -> str:
    folder = tempfile.mkdtemp(prefix=f"laim_ros_test_{what}_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _isolate() -> None:
    for name in ("ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "ROS_NAMESPACE"):
        os.environ.pop(name, None)
    os.environ["ROS_DOMAIN_ID"] = str(_claim_domain())
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_LOG_DIR"] = _temporary_folder("log")
    os.environ["RCUTILS_COLORIZED_OUTPUT"] = "0"
    os.environ["PYTHONUNBUFFERED"] = "1"
    # One for all tests, so that no profile of this machine is left in the user's, and none is measured twice.
    os.environ["XDG_CACHE_HOME"] = _temporary_folder("cache")
    # The package under test, as this process finds it, whatever folder a child process starts in.
    package = Path(importlib.util.find_spec("laim_ros").origin).parent.parent
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))


_isolate()
_CHILD_ENVIRONMENT = dict(os.environ)  # before an Observer adds what nodes must find for themselves


def wait_for(predicate: Callable[[], _Value], timeout_s: float = PATIENCE_S, what: str = "") -> _Value:
    """The first true value of `predicate`; an AssertionError when there is none in time."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := predicate()):
        assert time.monotonic() < deadline_s, f"waited {timeout_s:g} s in vain{f' for {what}' if what else ''}"
        time.sleep(_POLL_S)
    return value


class Observer:
    """A node in this process, spinning in a thread of its own, with a synchronous face."""

    def __init__(self, name: str = "test_observer") -> None:
        give_images_room()
        self._context = Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        self.node = Node(name, context=self._context, start_parameter_services=False, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)
        self._thread.start()
        self._recorded: dict[str, list] = {}
        self._clients: dict[str, Any] = {}

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def close(self) -> None:
        """Stops spinning and leaves the graph."""
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        self._context.try_shutdown()

    # Topics.

    def subscribe(self, kind: type, topic: str, profile: QoSProfile | int = 100) -> list:
        """A list that grows by every message of `topic` from now on, oldest first."""
        recorded = self._recorded.setdefault(topic, [])
        self.node.create_subscription(kind, topic, recorded.append, profile)
        return recorded

    def latest(self, topic: str) -> Any:
        """The newest message of a topic that was subscribed to, or None."""
        recorded = self._recorded[topic]
        return recorded[-1] if recorded else None

    def publisher(self, kind: type, topic: str, profile: QoSProfile | int = 10, *, subscribers: int = 1) -> Any:
        """A publisher that has found at least so many subscribers."""
        made = self.node.create_publisher(kind, topic, profile)
        self.wait_for(lambda: made.get_subscription_count() >= subscribers, what=f"a subscriber of {topic}")
        return made

    def wait_for(self, predicate: Callable[[], _Value], timeout_s: float = PATIENCE_S, what: str = "") -> _Value:
        """The first true value of `predicate`; an AssertionError when there is none in time."""
        return wait_for(predicate, timeout_s, what)

    # Services.

    def call(
        self, kind: type, service: str, request: Any, timeout_s: float = PATIENCE_S, *, again_s: float = 5.0
    ) -> Any:
        """The response of a service, once it exists; an AssertionError when there is none in time.

        DDS drops an answer whose sender has not discovered the asker's new client yet (a warning of the sender says
        so, on a busy machine), so what may be asked twice is asked again every `again_s` seconds.
        """
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        client = self._clients[service]
        self.wait_for(client.service_is_ready, timeout_s, f"service {service}")
        asked: list[tuple[float, Any]] = []

        def answered() -> Any:
            if not asked or time.monotonic() - asked[-1][0] > again_s:
                asked.append((time.monotonic(), client.call_async(request)))
            return next((future for _, future in asked if future.done()), None)

        return self.wait_for(answered, timeout_s, f"an answer of {service}").result()

    def call_trigger(self, service: str, timeout_s: float = PATIENCE_S) -> Trigger.Response:
        """Calls a `std_srvs/Trigger`."""
        return self.call(Trigger, service, Trigger.Request(), timeout_s, again_s=timeout_s)

    def set_parameters(self, node: str, values: Mapping[str, Any]) -> SetParametersResult:
        """Sets parameters of `node` (such as `/robot`) all at once; `.successful` and `.reason` say what came of it."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParametersAtomically.Request(parameters=parameters)
        return self.call(SetParametersAtomically, f"{node}/set_parameters_atomically", request).result

    def set_parameter(self, node: str, name: str, value: Any) -> SetParametersResult:
        """Sets one live parameter of `node`."""
        return self.set_parameters(node, {name: value})

    def get_parameter(self, node: str, name: str) -> Any:
        """The value of one parameter of `node`."""
        answer = self.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=[name]))
        return parameter_value_to_python(answer.values[0])

    def change_state(self, node: str, transition: str) -> bool:
        """Asks for `configure`, `activate`, `deactivate` or `cleanup`; whether the transition succeeded."""
        request = ChangeState.Request(transition=Transition(id=getattr(Transition, f"TRANSITION_{transition.upper()}")))
        return self.call(ChangeState, f"{node}/change_state", request, again_s=PATIENCE_S).success

    def state(self, node: str) -> str:
        """Name of the lifecycle state of `node`: `unconfigured`, `inactive`, `active`, …."""
        return self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label


class NodeProcess:
    """A node that runs in a process of its own; see `start_node`."""

    def __init__(self, command: Sequence[str], name: str) -> None:
        self.name = name
        self._file = tempfile.NamedTemporaryFile(prefix="laim_ros_test_", suffix=".log")  # noqa: SIM115
        # In a group of its own: a Ctrl-C for the tests reaches the node through us alone. And tied to our life: tests
        # that are killed leave nothing behind.
        self.process = Child(name, command, _CHILD_ENVIRONMENT, self._file).process

    def output(self) -> str:
        """All that the process wrote to stdout and stderr so far."""
        return Path(self._file.name).read_text(errors="replace")

    def wait_for_output(self, pattern: str, timeout_s: float = PATIENCE_S) -> re.Match:
        """The first match of a regular expression in the output, once it is there."""
        return self.alive(lambda: re.search(pattern, self.output()), timeout_s, f"output that matches '{pattern}'")

    def wait_for_state(self, state: str, timeout_s: float = PATIENCE_S) -> None:
        """Waits until the node's lifecycle state is `state`."""
        with contextlib.closing(Observer("test_waiter")) as waiter:
            client = waiter.node.create_client(GetState, f"{self.name}/get_state")
            self.alive(client.service_is_ready, timeout_s, "its lifecycle services")
            self.alive(lambda: waiter.state(self.name) == state, timeout_s, f"its state '{state}'")

    def alive(self, predicate: Callable[[], _Value], timeout_s: float = PATIENCE_S, what: str = "") -> _Value:
        """As `wait_for`, but fails at once, with the output, when the process ends."""

        def check() -> _Value:
            value = predicate()
            assert value or self.process.poll() is None, f"{self.name} ended with {self.process.returncode}"
            return value

        try:
            return wait_for(check, timeout_s, f"{self.name}: {what}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- output of {self.name} ---\n{self.output()}") from None

    def end(self, how: signal.Signals = signal.SIGINT, status: int | None = 0, timeout_s: float = PATIENCE_S) -> None:
        """Sends a signal, waits, and asserts the exit status (None: any) and that the output holds no traceback."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} ignored {how.name} for {timeout_s:g} s:\n{self.output()}") from None
        if status is not None:
            assert self.process.returncode == status, f"{self.name}: {self.process.returncode}\n{self.output()}"
            assert "Traceback" not in self.output(), f"{self.name}:\n{self.output()}"

    def kill(self) -> None:
        """Ends the process as a crash would; `end` then asserts nothing."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def start_node(
    module: str,
    *arguments: str,
    name: str = "",
    namespace: str = "",
    parameters: Mapping[str, Any] | None = None,
    remappings: Mapping[str, str] | None = None,
    ready: str | None = "active",
    timeout_s: float = PATIENCE_S,
) -> Iterator[NodeProcess]:
    """Runs a node as `python -m module --ros-args …` and interrupts it at the end of the block.

    Args:
        module: module of the node, such as `laim_ros.nodes.robot_node`.
        arguments: further ROS arguments.
        name, namespace: as the graph shows them; the name defaults to the module's, without `_node`.
        parameters, remappings: by name; values of parameters in their Python types.
        ready: lifecycle state to wait for before the block begins, or None not to wait.

    Raises:
        AssertionError: the node did not become ready, or did not end cleanly; with its output.
    """
    default = module.rsplit(".", 1)[-1].removesuffix("_node")
    command = [sys.executable, "-m", module, "--ros-args", *arguments]
    if name:
        command += ["-r", f"__node:={name}"]
    if namespace:
        command += ["-r", f"__ns:=/{namespace.strip('/')}"]
    for key, value in {**_UNLESS_SAID.get(module, {}), **(parameters or {})}.items():
        command += ["-p", f"{key}:={json.dumps(value)}"]
    for source, target in (remappings or {}).items():
        command += ["-r", f"{source}:={target}"]
    full_name = "/" + "/".join(filter(None, (namespace.strip("/"), name or default)))
    node = NodeProcess(command, full_name)
    try:
        if ready is not None:
            node.wait_for_state(ready, timeout_s)
        yield node
    except BaseException:
        with contextlib.suppress(AssertionError):
            node.end(status=None)
        print(f"--- output of {full_name} ---\n{node.output()}")  # pytest shows it beside the failure
        raise
    else:
        killed = node.process.returncode == -signal.SIGKILL
        node.end(status=None if killed else 0)
