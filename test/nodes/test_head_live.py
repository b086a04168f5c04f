"""What `bench/head.py --switch` measures: the switch that the robot node uses, and which heads were only kept."""

from __future__ import annotations

import subprocess
import sys
import threading
from multiprocessing import Pipe

import numpy as np
import pytest

from bench.head_live import SWITCHES, switch
from laim_ros.coinference import RobotHalf
from laim_ros.models.random_checkpoint import make_random_blip2
from laim_ros.quantization import Heads


class LoadedBy(Heads):
    """Heads that remember which threads asked for them."""

    def __init__(self, model: str) -> None:
        super().__init__(model, device="cpu")
        self.threads: list[str] = []

    def load(self, weight_bits: int, **choices: object):
        self.threads.append(threading.current_thread().name)
        return super().load(weight_bits, **choices)


class Small:
    """A runner (see bench/head_worker.py) of a model that takes no time."""

    def __init__(self, model: str) -> None:
        self.heads = LoadedBy(model)

    def imports(self) -> None:
        pass

    def load(self) -> None:
        self.half = RobotHalf(self.heads.load(8), "/bench", self.heads)
        self.heads.threads.clear()

    def infer(self) -> np.ndarray:
        return self.half.features(np.zeros((30, 40, 3), np.uint8), "qformer")[0]


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads memory from /proc")
def test_switches_are_measured_in_the_robots_own_thread_and_kept_heads_are_marked(tmp_path):
    runner = Small(str(make_random_blip2(tmp_path / "model")))
    here, there = Pipe()
    switch(runner, there)
    rows = here.recv()
    assert set(runner.heads.threads) == {"laim-head-switch"}
    assert [row["bits_after"] for row in rows] == list(SWITCHES) == [4, 8, 2, 8]
    assert [row["kept"] for row in rows] == [False, True, False, True]
    assert all(row["switch_s"] > 0 for row in rows)


def test_the_switch_needs_no_ros():
    code = "import sys, laim_ros.nodes.head_switch; assert not {'rclpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
