"""The edge: packets of any number of robots in, captions and answers out, each under its robot's namespace."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Header

from laim_ros.nodes.lifecycle import LaimNode, run
from laim_ros.nodes.measuring import edge_costs
from laim_ros.nodes.publishing import profile_of
from laim_ros.nodes.robot_port import RobotPort, WaitingPacket
from laim_ros.nodes.worker import ThrottledLog, Worker
from laim_ros.parameters import EDGE, ParameterValue
from laim_ros.records import FrameResult

_FEATURES_TOPIC = "laim/features"
_FEATURES_TYPE = "sensor_msgs/msg/CompressedImage"


@dataclass(slots=True)
class _Counters:
    finished: int = 0
    refused: int = 0
    overtaken: int = 0
    batches: int = 0
    last_edge_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Decoded:
    packet: WaitingPacket
    features: np.ndarray
    waited_s: float
    decode_s: float


class EdgeNode(LaimNode):
    """Finishes what robots began: decodes their packets, runs the rest of the model, publishes text."""

    def __init__(self) -> None:
        self._half = None
        self._costs = ""
        self._worker: Worker[WaitingPacket] | None = None
        self._ports: dict[str, RobotPort] = {}
        self._discovering = threading.Lock()
        super().__init__("edge", EDGE)
        self._generation = self._read_generation(self.values)
        self._warn = ThrottledLog(self.get_logger().warning)
        self._counters = _Counters()

    # Lifecycle.

    def configure(self) -> None:
        """Loads the stages from `first_split` on and runs them once."""
        # Imported here, so that the node is on the graph and can be interrupted while PyTorch loads.
        import torch

        from laim_ros.coinference import EdgeHalf
        from laim_ros.models import Generation, load
        from laim_ros.models.identity import find_whole

        values = self.values
        if values["num_threads"]:
            torch.set_num_threads(values["num_threads"])
        source = find_whole(values["model"])
        model = load(source, first=values["first_split"], dtype=values["dtype"], device=values["device"])
        half = EdgeHalf(model)
        first = torch.zeros((1, *model.boundary_shape(model.first)), dtype=torch.float32)
        features = model.run(first.byte() if model.first == "input" else first, model.first, "qformer")
        model.generate(features, [""], Generation(max_new_tokens=2))
        self._half, self._costs = half, edge_costs(half, values, self.get_logger())
        self.get_logger().info(
            f"{model.name}: stages after {model.first}, {model.weight_bytes / 1e6:.1f} MB of weights on {model.device}"
        )
        self.get_logger().info(half.codecs.source)

    def activate(self) -> None:
        """Begins to look for robots and to finish their packets."""
        self._counters = _Counters()
        self._worker = Worker(self._work, self._on_work_failed, most=lambda: self.values["max_batch"])
        self._discovery = self.create_wall_timer(self.values["discovery_period_s"], self._discover)
        self._discover()

    def deactivate(self) -> None:
        """Stops after the batch in hand."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        self.destroy_timer(self._discovery)
        worker.stop()
        with self._discovering:
            for namespace in list(self._ports):
                self._ports.pop(namespace).destroy()

    def cleanup(self) -> None:
        """Lets the model go."""
        self._half = None

    # Parameters.

    def parameters_changed(self, values: Mapping[str, ParameterValue], names: Set[str]) -> None:
        """Takes effect from the next batch on."""
        self._generation = self._read_generation(values)

    @staticmethod
    def _read_generation(values: Mapping[str, ParameterValue]) -> tuple[int, int]:
        return values["num_beams"], values["max_new_tokens"]

    # Robots come and go.

    def _discover(self) -> None:
        # The timer has another thread than transitions: without the lock a robot may be served twice, or after all.
        with self._discovering:
            if self._worker is not None:
                self._meet_robots()

    def _meet_robots(self) -> None:
        chosen = [_normal(namespace) for namespace in self.values["robots"] if namespace]
        for namespace in chosen or self._found():
            if namespace not in self._ports:
                self._ports[namespace] = self._open(namespace)
                self.get_logger().info(f"serving robot '{namespace or '/'}'")
        if chosen:
            return
        for namespace in [name for name, port in self._ports.items() if port.is_abandoned()]:
            self._ports.pop(namespace).destroy()
            self.get_logger().info(f"robot '{namespace or '/'}' has gone")

    def _found(self) -> list[str]:
        ending = f"/{_FEATURES_TOPIC}"
        topics = self.get_topic_names_and_types()
        named = [name for name, types in topics if name.endswith(ending) and _FEATURES_TYPE in types]
        # A topic that only an edge reads (this one, or another) is no robot.
        return [name.removesuffix(ending) for name in named if self.count_publishers(name)]

    def _open(self, namespace: str) -> RobotPort:
        profile = profile_of(self.values["model"], self._half, self._costs)
        codecs = self._half.codecs.for_sender()
        return RobotPort(
            self, namespace, profile, codecs, check=self._half.check, ready=self._seat, refused=self._refuse
        )

    # Callbacks: none of them waits.

    def _seat(self, packet: WaitingPacket) -> None:
        worker = self._worker
        if worker is not None and worker.waiting.put(packet, packet.port.namespace) is not None:
            self._counters.overtaken += 1

    def _refuse(self, port: RobotPort, header: Header, reason: str, sequence: int) -> None:
        self._counters.refused += 1
        self._warn(f"packet of '{port.namespace or '/'}' refused: {reason}")
        port.results.publish(header, FrameResult(error=reason, sequence=sequence))

    # The worker: the newest packet of each robot, as one batch.

    def _work(self, packets: list[WaitingPacket]) -> None:
        from laim_ros.codec import CodecError

        began_s = time.perf_counter()
        decoded = []
        for packet in packets:
            waited_s = began_s - packet.arrived_s
            deadline_s = packet.stream.deadline_s
            age_s = packet.robot_s + waited_s  # without the link, which the edge cannot know
            if deadline_s and age_s > deadline_s:
                reason = f"{age_s:.3f} s old before its turn came, later than the deadline of {deadline_s:g} s"
                self._refuse(packet.port, packet.header, reason, packet.sequence)
                continue
            decoding_s = time.perf_counter()
            try:
                features = self._half.decode(packet.stream, packet.payload, packet.sequence, packet.port.codecs)
            except CodecError as error:
                self._refuse(packet.port, packet.header, str(error), packet.sequence)
                continue
            decoded.append(_Decoded(packet, features, waited_s, time.perf_counter() - decoding_s))
        if decoded:
            self._finish(decoded)

    def _finish(self, decoded: list[_Decoded]) -> None:
        from laim_ros.models import Generation

        tail_began_s = time.perf_counter()
        frames = [(each.packet.stream, each.features) for each in decoded]
        try:
            texts = self._half.finish(frames, Generation(*self._generation))
        except Exception as error:
            if len(decoded) == 1:
                self._on_work_failed([decoded[0].packet], error)
            # One robot's prompt must not cost the others their captions.
            for each in decoded if len(decoded) > 1 else ():
                self._finish([each])
            return
        tail_s = time.perf_counter() - tail_began_s
        self._counters.batches += 1
        for each, answer in zip(decoded, texts, strict=True):
            result = FrameResult(tuple(answer), wait_s=each.waited_s, decode_s=each.decode_s, tail_s=tail_s)
            self._publish(each.packet, result)

    def _publish(self, packet: WaitingPacket, result: FrameResult) -> None:
        plan = packet.stream.plan
        edge_s = time.perf_counter() - packet.arrived_s
        self._counters.finished += 1
        self._counters.last_edge_s = edge_s
        packet.port.results.publish(
            packet.header,
            replace(
                result,
                prompts=packet.stream.prompts,
                sequence=packet.sequence,
                split_point=plan.split_point,
                weight_bits=plan.weight_bits,
                feature_bits=plan.feature_bits,
                codec=plan.codec,
                packet_bytes=packet.packet_bytes,
                robot_s=packet.robot_s,
                link_s=packet.port.last_link_s,
                edge_s=edge_s,
            ),
        )

    def _on_work_failed(self, packets: list[WaitingPacket], error: Exception) -> None:
        for packet in packets:
            self._refuse(packet.port, packet.header, f"frame lost: {type(error).__name__}: {error}", packet.sequence)

    def diagnostics(self) -> tuple[bytes, str, Mapping[str, object]]:
        """Level, the robots served, and the counters."""
        counters, ports = self._counters, self._ports
        figures = {
            "robots": " ".join(namespace or "/" for namespace in ports),
            "finished": counters.finished,
            "batches": counters.batches,
            "overtaken": counters.overtaken,
            "refused": counters.refused,
            "unknown_stream": sum(port.unknown_stream for port in ports.values()),
            "probes": sum(port.probes for port in ports.values()),
            "edge_s": counters.last_edge_s,
            "weight_bytes": self._half.model.weight_bytes,
        }
        if not ports:
            return DiagnosticStatus.WARN, f"no robot publishes {_FEATURES_TOPIC} (domain? network?)", figures
        return DiagnosticStatus.OK, f"serving {len(ports)} robots", figures


def _normal(namespace: str) -> str:
    """`robot1`, `/robot1` and `/robot1/` name the same namespace; `/` is the root."""
    stripped = namespace.strip("/")
    return f"/{stripped}" if stripped else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the executable `edge_node`."""
    return run(EdgeNode, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
