"""Packets on their way out, each after the description of its stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header, String

from laim_ros.codec.prediction import References
from laim_ros.nodes import messages, qos
from laim_ros.nodes.ledger import Ledger, Question, SentFrame
from laim_ros.nodes.robot_power import EnergySpan
from laim_ros.nodes.robot_settings import RobotSettings
from laim_ros.plan import Plan

if TYPE_CHECKING:  # PyTorch takes seconds to import, and nodes are on the graph before
    from laim_ros.coinference import RobotHalf

_SEQUENCES = 1 << 32


@dataclass(frozen=True, slots=True)
class Turn:
    """A frame's turn in the worker. Times are of the robot's steady clock, in seconds.

    Attributes:
        header: of the image.
        received_s, began_s: arrival of the image, beginning of the work on it.
        energy: what that work takes.
    """

    header: Header
    received_s: float
    began_s: float
    energy: EnergySpan

    def done(self, sequence: int, plan: Plan, packet_bytes: int = 0, questions: Sequence[Question] = ()) -> SentFrame:
        """The frame, of which now a packet, or the result itself, goes out."""
        return SentFrame(
            sequence,
            messages.stamp_of(self.header),
            self.received_s,
            time.perf_counter(),
            packet_bytes,
            tuple(questions),
            plan,
            self.began_s - self.received_s,
            *self.energy.spent(),
        )


class PacketSender:
    """Publishes packets of one robot, and the description of their stream before the first that needs it.

    Attributes:
        references: to be told what becomes of the frames.
    """

    def __init__(self, node: Node) -> None:
        events = qos.publisher_events(node, "laim/features")
        self._packets = node.create_publisher(
            CompressedImage, "laim/features", qos.FEATURES_OUT, event_callbacks=events
        )
        self._streams = node.create_publisher(String, "laim/stream", qos.STREAM)
        self._published_stream_id: int | None = None
        # Not from 0: an edge that remembers frames of this robot's life before must not take them for newer ones.
        self._sequence = secrets.randbelow(_SEQUENCES)
        self.references = References()

    def begin(self) -> None:
        """Begins anew: whoever listens now may not have what another edge has decoded."""
        self.references = References()

    @property
    def topic(self) -> str:
        """Name of the packets' topic."""
        return self._packets.topic_name

    @property
    def readers(self) -> int:
        """How many edges listen."""
        return self._packets.get_subscription_count()

    def next_sequence(self) -> int:
        """A number for the next frame; it goes on over activations, so that late results fit no newer frame."""
        sequence = self._sequence
        self._sequence = (sequence + 1) % _SEQUENCES
        return sequence

    def send(
        self,
        half: RobotHalf,
        ledger: Ledger,
        turn: Turn,
        features: np.ndarray,
        prompts: Sequence[str],
        settings: RobotSettings,
        questions: Sequence[Question],
    ) -> int:
        """Publishes one frame and enters it in the ledger; returns its sequence number.

        Raises:
            CodecError: the features cannot be coded, or not in as few bytes as are allowed.
        """
        stream = half.describe(settings.plan, prompts, settings.deadline_s, settings.predictive)
        stream_id, sequence, references = stream.stream_id, self.next_sequence(), self.references
        reference = references.next(stream_id) if stream.predictive else None
        packet = half.pack(
            stream, sequence, features, turn.received_s, reference=reference, most_bytes=settings.max_packet_bytes
        )
        if stream.predictive:
            references.sent(stream_id, sequence, reference)
        if stream_id != self._published_stream_id:
            # Also when an older stream is taken up again, so that the latest kept one is always the one in use.
            self._streams.publish(String(data=stream.to_json()))
            self._published_stream_id = stream_id
        ledger.add(turn.done(sequence, settings.plan, len(packet), questions))
        self._packets.publish(messages.packet_message(turn.header, packet))
        return sequence
