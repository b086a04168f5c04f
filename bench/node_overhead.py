"""What do ROS, the packet and the codec add to the bare model?

Four ways to caption the same frames, interleaved frame by frame in one run, so that a busy machine disturbs all alike:

    unsplit   transformers' Blip2ForConditionalGeneration on the decoded image, without this package
    halves    RobotHalf's and EdgeHalf's model calls in this process, the tensor handed over as it is
    packed    as `halves`, with the codec and the packet in between
    nodes     the running nodes: camera image published → result received, one frame in flight

for images of 640 × 480 and 1920 × 1080, published raw and as JPEG. The image is decoded outside the clock in the first
three; in `nodes` it is part of what is measured, as is every copy of it.

    python bench/node_overhead.py [--frames 100] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

# A ROS graph of its own, before anything of ROS is imported.
os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randrange(1, 102))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from bench.circumstances import circumstances  # noqa: E402
from laim_ros.codec import unpack  # noqa: E402
from laim_ros.coinference import EdgeHalf, RobotHalf  # noqa: E402
from laim_ros.models import Generation, load, shipped_models  # noqa: E402
from laim_ros.models.random_checkpoint import make_random_blip2  # noqa: E402
from laim_ros.parameters import DEFAULT_MODEL  # noqa: E402
from laim_ros.paths import checkpoints_directory  # noqa: E402
from laim_ros.plan import Plan  # noqa: E402
from laim_ros.scenes import render, sample_scene  # noqa: E402

SIZES = {"640x480": (480, 640), "1920x1080": (1080, 1920)}
TRANSPORTS = ("raw", "compressed")
WAYS = ("unsplit", "halves", "packed", "nodes")
PARTS = ("robot_s", "link_s", "edge_s")
DISTINCT_FRAMES = 8
START_TIMEOUT_S = 300.0
FRAME_TIMEOUT_S = 60.0


@dataclass
class Measured:
    """Seconds per frame of one size and transport, by way; and the parts that the nodes themselves report."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    parts: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    packet_bytes: list[int] = field(default_factory=list)
    image_bytes: list[int] = field(default_factory=list)
    same_text: list[bool] = field(default_factory=list)
    lost: int = 0


class Bare:
    """The model without ROS."""

    def __init__(self, folder: str, plan: Plan, generation: Generation) -> None:
        from transformers import AutoTokenizer, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil

        self._plan, self._generation = plan, generation
        self._whole = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        queries = self._whole.config.num_query_tokens
        self._processor = Blip2Processor(
            BlipImageProcessorPil.from_pretrained(folder), tokenizer, num_query_tokens=queries
        )
        self._robot = RobotHalf(load(folder, last="qformer"), "/bench")
        self._edge = EdgeHalf(load(folder))
        self._stream = self._robot.describe(plan)

    def unsplit(self, image: np.ndarray) -> str:
        """As a user of transformers does it."""
        inputs = self._processor(images=image, text="", return_tensors="pt")
        with torch.inference_mode():
            out = self._whole.generate(**inputs, **asdict(self._generation), do_sample=False)
        new = out[0, inputs["input_ids"].shape[1] :]
        return self._processor.tokenizer.decode(new, skip_special_tokens=True).strip()

    def halves(self, image: np.ndarray) -> str:
        """Both halves, nothing coded."""
        features, _ = self._robot.features(image, self._plan.split_point)
        return self._edge.finish([(self._stream, features)], self._generation)[0][0]

    def packed(self, image: np.ndarray) -> str:
        """Both halves with codec and packet between them."""
        began_s = time.perf_counter()
        features, _ = self._robot.features(image, self._plan.split_point)
        packet = unpack(self._robot.pack(self._stream, 0, features, began_s))
        decoded = self._edge.decode(self._stream, packet.payload)
        return self._edge.finish([(self._stream, decoded)], self._generation)[0][0]


class Camera:
    """Publishes images to one running robot and waits for their results."""

    def __init__(self, transport: str) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from sensor_msgs.msg import CompressedImage, Image

        from laim_ros.nodes import images, qos
        from laim_ros.nodes.dds import give_images_room

        give_images_room()
        self._context = Context()
        self._context.init(args=[])
        self._node = Node(f"bench_{transport}", context=self._context, enable_rosout=False)
        kind, topic = (Image, "image") if transport == "raw" else (CompressedImage, "image/compressed")
        self.make = images.rgb_message if transport == "raw" else images.compressed_message
        self.decode = images.to_rgb if transport == "raw" else images.compressed_to_rgb
        self._images = self._node.create_publisher(kind, f"/{transport}/{topic}", qos.IMAGE)
        self._node.create_subscription(DiagnosticArray, f"/{transport}/laim/results", self._on_result, qos.RESULTS)
        self._node.create_subscription(DiagnosticArray, f"/{transport}/laim/link", self._on_link, qos.RESULTS)
        self._numbers = itertools.count(1)
        self._awaited, self._result, self._arrived_s = 0, None, 0.0
        self._came = threading.Event()
        self._links: dict[int, object] = {}
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        threading.Thread(target=self._executor.spin, daemon=True).start()

    def _on_result(self, message: object) -> None:
        now_s = time.perf_counter()
        if message.header.stamp.sec == self._awaited:
            from laim_ros.nodes.messages import result_from

            self._arrived_s, self._result = now_s, result_from(message)
            self._came.set()

    def _on_link(self, message: object) -> None:
        from laim_ros.nodes.messages import link_from

        self._links[message.header.stamp.sec] = link_from(message)

    def message(self, image: np.ndarray) -> object:
        """The image as a message with a stamp of its own."""
        from builtin_interfaces.msg import Time

        return self.make(image, Time(sec=next(self._numbers)), "camera")

    def caption(self, message: object, timeout_s: float = FRAME_TIMEOUT_S) -> tuple[float, object] | None:
        """Seconds from publishing to the result, and the result; None if it never came."""
        self._came.clear()
        self._awaited = message.header.stamp.sec
        began_s = time.perf_counter()
        self._images.publish(message)
        if not self._came.wait(timeout_s):
            return None
        if self._result.error:
            raise RuntimeError(f"the nodes refused a frame: {self._result.error}")
        return self._arrived_s - began_s, self._result

    def link_of(self, message: object) -> object | None:
        """What the robot reported about the frame, once it has."""
        deadline_s = time.monotonic() + 1.0
        while time.monotonic() < deadline_s:
            if message.header.stamp.sec in self._links:
                return self._links.pop(message.header.stamp.sec)
            time.sleep(0.001)
        return None

    def wait_until_answered(self, image: np.ndarray) -> None:
        """Publishes images until the first result."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while self.caption(self.message(image), 1.0) is None:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"no result within {START_TIMEOUT_S:g} s after the start of the nodes")

    def close(self) -> None:
        """Leaves the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()


@contextlib.contextmanager
def running_nodes(folder: str, plan: Plan, generation: Generation, threads: int) -> Iterator[None]:
    """One robot per transport, in a namespace of its name, and the edge that serves both."""
    common = {"model": folder, "num_threads": threads}
    robot = {**common, "split_point": plan.split_point, "feature_bits": plan.feature_bits}
    commands = [node_command("edge", "", {**common, **asdict(generation)})]
    commands += [node_command("robot", transport, {**robot, "image_transport": transport}) for transport in TRANSPORTS]
    with contextlib.ExitStack() as stack:
        for command in commands:
            log = stack.enter_context(tempfile.TemporaryFile())
            node = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(end, node, log)
        yield


def node_command(node: str, namespace: str, parameters: dict) -> list[str]:
    """Command line of a node."""
    command = [sys.executable, "-m", f"laim_ros.nodes.{node}_node", "--ros-args", "-r", f"__ns:=/{namespace}"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={json.dumps(value)}"]
    return command


def end(node: subprocess.Popen, log: object) -> None:
    """Ends a node; shows what it wrote if it did not end well."""
    node.terminate()
    try:
        node.wait(20)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()
    if node.returncode:
        log.seek(0)
        print(log.read().decode(errors="replace"), file=sys.stderr)


def measure(bare: Bare, camera: Camera, pictures: list[np.ndarray], frames: int, warm_up: int) -> Measured:
    """Captions the pictures in turn, each in all four ways, the order of the ways rotating from frame to frame."""
    measured = Measured()
    ways: dict[str, Callable[[np.ndarray], str]] = {
        "unsplit": bare.unsplit,
        "halves": bare.halves,
        "packed": bare.packed,
    }
    for number in range(-warm_up, frames):
        message = camera.message(pictures[number % len(pictures)])
        image = camera.decode(message)
        texts: dict[str, str] = {}
        seconds: dict[str, float] = {}
        for step in range(len(WAYS)):
            way = WAYS[(number + step) % len(WAYS)]
            if way == "nodes":
                answer = camera.caption(message)
                if answer is None:
                    break
                seconds[way], texts[way] = answer[0], answer[1].texts[0]
                result, link = answer[1], camera.link_of(message)
            else:
                began_s = time.perf_counter()
                texts[way] = ways[way](image)
                seconds[way] = time.perf_counter() - began_s
        if len(seconds) < len(WAYS):
            measured.lost += 1
        elif number >= 0:
            for way in WAYS:
                measured.seconds[way].append(seconds[way])
            for part in PARTS if link else ():
                measured.parts[part].append(getattr(link, part))
            measured.packet_bytes.append(result.packet_bytes)
            measured.image_bytes.append(len(message.data))
            measured.same_text.append(texts["nodes"] == texts["packed"])
    return measured


def summary(measured: Measured) -> dict:
    """p50 and p95 of each way in milliseconds, and what the nodes add, frame by frame."""
    columns = {way: np.array(seconds) * 1e3 for way, seconds in measured.seconds.items()}
    added = {
        "codec_and_packet_ms": columns["packed"] - columns["halves"],
        "ros_ms": columns["nodes"] - columns["packed"],
        "all_ms": columns["nodes"] - columns["halves"],
    }
    return {
        "frames": len(columns["nodes"]),
        "frames_lost": measured.lost,
        "ways_ms": {way: quantiles(values) for way, values in columns.items()},
        "added": {name: quantiles(values) for name, values in added.items()},
        "ratio_to_halves": quantiles(columns["nodes"] / columns["halves"]),
        "ratio_to_unsplit": quantiles(columns["nodes"] / columns["unsplit"]),
        "reported_by_nodes_ms": {part: quantiles(np.array(values) * 1e3) for part, values in measured.parts.items()},
        "packet_bytes": statistics.mean(measured.packet_bytes),
        "image_bytes": statistics.mean(measured.image_bytes),
        "same_text_share": statistics.mean(measured.same_text),
    }


def quantiles(values: np.ndarray) -> dict[str, float]:
    """p50 and p95."""
    if not len(values):
        return {"p50": float("nan"), "p95": float("nan")}
    return {"p50": float(np.percentile(values, 50)), "p95": float(np.percentile(values, 95))}


def print_table(results: dict[str, dict]) -> None:
    """The results for people."""
    heads = [*WAYS, "codec adds", "ROS adds", "all adds", "nodes/halves"]
    print(f"{'p50 / p95 in ms':22}" + "".join(f"{head:>16}" for head in heads))
    for case, result in results.items():
        cells = [*result["ways_ms"].values(), *result["added"].values()]
        row = [f"{cell['p50']:.1f} / {cell['p95']:.1f}" for cell in cells]
        ratio = result["ratio_to_halves"]
        row.append(f"{ratio['p50']:.2f} / {ratio['p95']:.2f}")
        print(f"{case:22}" + "".join(f"{cell:>16}" for cell in row))
    for case, result in results.items():
        parts = ", ".join(f"{part[:-2]} {cell['p50']:.1f} ms" for part, cell in result["reported_by_nodes_ms"].items())
        print(
            f"{case}: {result['frames']} frames, {result['frames_lost']} lost; the nodes report {parts} (p50); "
            f"{result['packet_bytes']:.0f} bytes per packet, {result['image_bytes']:.0f} per image; same text as "
            f"packed in {100 * result['same_text_share']:.0f} %"
        )


def main() -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100, help="frames per size and transport (default 100)")
    parser.add_argument("--warm-up", type=int, default=8, help="frames before those (default 8)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of PyTorch, everywhere")
    parser.add_argument("--split-point", default="qformer")
    parser.add_argument("--feature-bits", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=30)
    parser.add_argument("--model", default="", help=f"folder; default {DEFAULT_MODEL}, or a random one without it")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    asked = parser.parse_args()

    torch.set_num_threads(asked.threads)
    plan = Plan(asked.split_point, feature_bits=asked.feature_bits)
    generation = Generation(max_new_tokens=asked.max_new_tokens)
    with contextlib.ExitStack() as stack:
        folder = asked.model
        if not folder and DEFAULT_MODEL in shipped_models():
            folder = str(checkpoints_directory() / DEFAULT_MODEL)
        elif not folder:
            folder = str(make_random_blip2(stack.enter_context(tempfile.TemporaryDirectory())))
            print(f"{DEFAULT_MODEL} is not there: a small random model stands in")
        facts = circumstances(asked.threads, Path(folder).name, plan, generation)
        stack.enter_context(running_nodes(folder, plan, generation, asked.threads))
        pictures = {
            size: [render(sample_scene(seed, "held_out"), *shape).image for seed in range(DISTINCT_FRAMES)]
            for size, shape in SIZES.items()
        }
        bare = Bare(folder, plan, generation)
        cameras = {transport: Camera(transport) for transport in TRANSPORTS}
        results = {}
        for transport, camera in cameras.items():
            stack.callback(camera.close)
            camera.wait_until_answered(pictures["640x480"][0])
            for size, images in pictures.items():
                results[f"{size} {transport}"] = summary(measure(bare, camera, images, asked.frames, asked.warm_up))
        facts["load_average_after"] = os.getloadavg()[0]

    print_table(results)
    print(
        f"model {facts['model']}, split {plan.split_point} at {plan.feature_bits} bits, {facts['threads']} threads on "
        f"{facts['cpus']} × {facts['cpu']}; load average {facts['load_average_before']:.1f} before, "
        f"{facts['load_average_after']:.1f} after"
        + (" (BUSY: the figures say little)" if facts["load_average_before"] > 0.5 * facts["cpus"] else "")
    )
    if asked.json:
        asked.json.write_text(json.dumps({"results": results, **facts}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
