"""`HeadSwitch`: which wishes are loaded, that frames are served and spared meanwhile, and how it ends. No ROS."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from ros_harness import wait_for

from laim_ros.coinference import RobotHalf
from laim_ros.models.random_checkpoint import make_random_blip2
from laim_ros.models.source import find_source
from laim_ros.nodes.head_switch import HeadSwitch, open_half
from laim_ros.parameters import TABLES
from laim_ros.plan import Plan
from laim_ros.quantization import Heads, QuantizationError
from laim_ros.quantization.errors import GivenUpError
from laim_ros.quantization.storage.write import Packing

IMAGE = np.full((30, 40, 3), 90, np.uint8)
DEFAULTS = {entry.name: entry.default for entry in TABLES["robot"]}


class HeldHeads(Heads):
    """Heads that load only while the gate is open, and remember what was asked of them in which thread."""

    def __init__(self, model: str) -> None:
        super().__init__(model, device="cpu")
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[int] = []
        self.threads: list[int] = []
        self.niceness: list[int] = []
        self.given_up: list[int] = []

    def load(self, weight_bits: int, **choices: object):
        self.asked.append(weight_bits)
        self.threads.append(torch.get_num_threads())
        self.niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        assert self.gate.wait(100)
        try:
            return super().load(weight_bits, **choices)
        except GivenUpError:
            self.given_up.append(weight_bits)
            raise


class Bench:
    """A half whose heads can be held back, and its switch."""

    def __init__(self, model: str) -> None:
        self.heads = HeldHeads(model)
        self.half = RobotHalf(self.heads.load(32), "/robot", self.heads)
        self.heads.asked.clear()
        self.switched: list[float] = []
        self.failed: list[str] = []
        self.switch = HeadSwitch(self.half, self.switched.append, self.failed.append)

    def ran(self) -> int:
        """Bits that a frame went through."""
        return self.half.features(IMAGE, "qformer")[1].weight_bits


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(make_random_blip2(tmp_path_factory.mktemp("switch") / "model"))


@pytest.fixture
def bench(model):
    made = Bench(model)
    yield made
    made.heads.gate.set()
    made.switch.close()


def test_the_newest_wish_is_loaded_and_the_others_are_given_up_or_skipped(bench):
    bench.heads.gate.clear()
    bench.switch.want(4)
    wait_for(lambda: bench.heads.asked)
    for bits in (8, 16, 2):
        bench.switch.want(bits)
    assert bench.ran() == 32
    assert bench.switch.figures()["weight_bits"] == 32
    assert bench.switch.figures()["weight_bits_wanted"] == 2
    bench.heads.gate.set()
    wait_for(lambda: bench.switched)
    assert (bench.heads.asked, bench.heads.given_up, len(bench.switched)) == ([4, 2], [4], 1)
    assert bench.ran() == 2
    assert "weight_bits_wanted" not in bench.switch.figures()
    assert (bench.failed, bench.switch.trouble) == ([], "")


def test_a_wish_taken_back_while_it_is_loaded_ends_where_it_began(bench):
    bench.heads.gate.clear()
    bench.switch.want(4)
    wait_for(lambda: bench.heads.asked)
    bench.switch.want(32)
    bench.heads.gate.set()
    wait_for(lambda: bench.heads.given_up)
    assert bench.ran() == 32
    bench.switch.want(8)
    wait_for(lambda: bench.switched)
    assert (bench.heads.asked, bench.heads.given_up, len(bench.switched)) == ([4, 8], [4], 1)
    assert (bench.failed, bench.switch.trouble) == ([], "")


def test_the_bits_in_force_are_not_loaded_again(bench):
    bench.switch.want(32)
    bench.switch.close()
    assert bench.heads.asked == []


def test_frames_go_through_the_old_head_while_another_is_loaded(bench):
    bench.heads.gate.clear()
    bench.switch.want(8)
    wait_for(lambda: bench.heads.asked)
    assert {bench.ran() for _ in range(20)} == {32}
    bench.heads.gate.set()
    wait_for(lambda: bench.ran() == 8)
    wait_for(lambda: bench.switched)
    assert bench.switched[0] > 0


def test_a_wish_that_fails_is_told_and_the_next_one_is_tried(model, tmp_path):
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    weights = (folder / "model.safetensors").read_bytes()
    bench = Bench(str(folder))
    (folder / "model.safetensors").write_bytes(weights[:-4000])
    bench.switch.want(4)
    wait_for(lambda: bench.failed)
    assert "weight_bits stays 32, 4 could not be loaded" in bench.failed[0]
    assert "model.safetensors" in bench.failed[0]
    assert bench.switch.trouble == bench.failed[0]
    assert bench.switch.figures()["weight_bits_wanted"] == 4
    assert bench.ran() == 32
    (folder / "model.safetensors").write_bytes(weights)
    bench.switch.want(8)
    wait_for(lambda: bench.switched)
    assert bench.heads.asked == [4, 8]
    assert (bench.ran(), bench.switch.trouble, len(bench.failed)) == (8, "", 1)
    bench.switch.close()


def test_a_wish_that_failed_is_tried_again_when_it_is_uttered_again(model, tmp_path):
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    weights = (folder / "model.safetensors").read_bytes()
    bench = Bench(str(folder))
    (folder / "model.safetensors").write_bytes(weights[:-4000])
    for failures in (1, 2):
        bench.switch.want(4)
        wait_for(lambda expected=failures: len(bench.failed) == expected)
    (folder / "model.safetensors").write_bytes(weights)
    bench.switch.want(4)
    wait_for(lambda: bench.switched)
    assert (bench.heads.asked, bench.ran(), bench.switch.trouble) == ([4, 4, 4], 4, "")
    bench.switch.close()


def test_who_cannot_be_told_does_not_end_the_thread(bench):
    def raises(_: object) -> None:
        raise RuntimeError("nobody listens")

    switch = HeadSwitch(bench.half, raises, raises)
    switch.want(4)
    wait_for(lambda: switch.trouble.count("nobody listens") == 2)
    assert "weight_bits is 4, but telling so failed: RuntimeError: nobody listens" in switch.trouble
    assert bench.ran() == 4
    switch.want(2)
    wait_for(lambda: bench.ran() == 2)
    wait_for(lambda: switch.trouble.count("nobody listens") == 2)

    class Full(Heads):
        def load(self, weight_bits: int, **choices: object):
            raise MemoryError("no more")

    kind, bench.heads.__class__ = bench.heads.__class__, Full
    switch.want(8)
    wait_for(lambda: switch.trouble.endswith("telling so failed: RuntimeError: nobody listens"))
    assert "8 could not be loaded: MemoryError: no more" in switch.trouble
    bench.heads.__class__ = kind
    switch.want(8)
    wait_for(lambda: bench.ran() == 8)
    switch.close()


def test_32_bits_of_a_packed_folder_are_its_own(model, tmp_path):
    Packing(find_source(model), 8, "uniform").write(tmp_path / "packed")
    bench = Bench(str(tmp_path / "packed"))
    assert bench.ran() == 8
    bench.switch.want(32)
    assert "weight_bits_wanted" not in bench.switch.figures()
    for wanted, bits in ((4, 4), (32, 8)):
        bench.switch.want(wanted)
        wait_for(lambda expected=bits: bench.ran() == expected)
    bench.switch.close()
    assert bench.heads.asked[0] == 4
    assert "weight_bits_wanted" not in bench.switch.figures()
    assert (bench.failed, bench.switch.trouble) == ([], "")
    values = {**DEFAULTS, "model": str(tmp_path / "packed"), "device": "cpu"}
    assert open_half(values, Plan(weight_bits=32), "/robot").weight_bits == 8


def test_memory_that_does_not_suffice_costs_the_wish_alone(bench):
    class Full(Heads):
        def load(self, weight_bits: int, **choices: object):
            raise MemoryError("no more")

    bench.half._heads.__class__ = Full
    bench.switch.want(4)
    wait_for(lambda: bench.failed)
    assert "MemoryError: no more" in bench.switch.trouble
    assert bench.ran() == 32
    bench.switch.want(32)
    assert bench.switch.trouble == ""


def test_closing_gives_up_what_is_being_loaded_and_loads_nothing_more(bench):
    bench.heads.gate.clear()
    bench.switch.want(4)
    wait_for(lambda: bench.heads.asked)
    bench.switch.want(8)
    closing = threading.Thread(target=bench.switch.close)
    closing.start()
    assert bench.ran() == 32
    bench.heads.gate.set()
    closing.join(100)
    assert not closing.is_alive()
    assert bench.heads.asked == [4]
    assert (bench.ran(), bench.switched, bench.failed) == (32, [], [])
    bench.switch.want(2)
    assert not [thread for thread in threading.enumerate() if thread.name == "laim-head-switch"]
    bench.switch.close()
    assert bench.heads.asked == [4]


def test_loading_takes_one_core_and_leaves_the_others_theirs(bench):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        bench.heads.threads.clear()
        bench.heads.niceness.clear()
        bench.heads.gate.clear()
        bench.switch.want(4)
        wait_for(lambda: bench.heads.threads)
        newcomers: list[int] = []
        newcomer = threading.Thread(target=lambda: newcomers.append(torch.get_num_threads()))
        newcomer.start()
        newcomer.join()
        assert bench.heads.threads == [1]
        assert (torch.get_num_threads(), newcomers) == (2, [2])
        if sys.platform == "linux":
            assert bench.heads.niceness[0] > own or own == 19
            assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
    finally:
        torch.set_num_threads(before)


def test_a_half_opens_as_the_parameters_say(model):
    values = {**DEFAULTS, "model": model, "device": "cpu", "engine": "torch", "prune": "heads:0.5"}
    half = open_half(values, Plan(weight_bits=4), "/robot")
    assert (half.weight_bits, half.model.engine, half.model.last) == (4, "torch", "qformer")
    unpruned = open_half({**values, "prune": ""}, Plan(weight_bits=4), "/robot")
    assert half.model.head_bytes < unpruned.model.head_bytes
    whole = open_half({**values, "last_split": "output", "prune": ""}, Plan("output", 32), "/robot")
    assert (whole.weight_bits, whole.model.engine, whole.model.last) == (32, "transformers", "output")


@pytest.mark.parametrize(
    ("changed", "bits", "reason"),
    [
        ({"prune": "heads:2"}, 8, "prune"),
        ({"prune": "magnitude:0.5", "quantizer": "exponential"}, 4, "exponential"),
        ({"last_split": "vit.9"}, 4, "vit.9"),
    ],
)
def test_what_cannot_be_opened_says_why(model, changed, bits, reason):
    with pytest.raises((QuantizationError, ValueError), match=reason):
        open_half({**DEFAULTS, "model": model, "device": "cpu", **changed}, Plan(weight_bits=bits), "/robot")


def test_the_table_names_what_quantization_knows():
    from laim_ros.parameters import ENGINES, QUANTIZERS
    from laim_ros.quantization import ENGINES as known_engines
    from laim_ros.quantization import QUANTIZER_CHOICES

    assert (QUANTIZER_CHOICES, known_engines) == (QUANTIZERS, ENGINES)
