"""Loading half of a large checkpoint never takes the memory of the other half, not even for a moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from laim_ros.models.random_checkpoint import Blip2Sizes, make_random_blip2

MEASURE = """
import json, sys, torch
from laim_ros.models import Generation, load

def memory_bytes(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024

def robot(folder):
    model = load(folder, last="qformer")
    model.run(torch.zeros(1, *model.boundary_shape("input"), dtype=torch.uint8), "input", "qformer")

def edge(folder):
    model = load(folder, first="qformer")
    model.generate(torch.zeros(1, *model.boundary_shape("qformer")), [""], Generation(1, 2))

def growth_bytes(half, folder):
    before = memory_bytes("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
    half(folder)
    return memory_bytes("VmHWM") - before

small, wide_text, wide_vision = sys.argv[1:]
robot(small), edge(small)  # what the first use of a library takes is not the model's
print(json.dumps({
    "robot of wide_text": growth_bytes(robot, wide_text),
    "edge of wide_vision": growth_bytes(edge, wide_vision),
    "edge of wide_text": growth_bytes(edge, wide_text),
    "robot of wide_vision": growth_bytes(robot, wide_vision),
}))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of peak memory")
def test_a_half_takes_no_memory_for_the_other(checkpoint, tmp_path):
    wide_text = make_random_blip2(tmp_path / "text", Blip2Sizes(vocabulary=100_000, text_width=256))
    wide_vision = make_random_blip2(tmp_path / "vision", Blip2Sizes(vision_mlp=400_000, vision_blocks=1))
    size = min((folder / "model.safetensors").stat().st_size for folder in (wide_text, wide_vision))
    assert size > 100_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(checkpoint), str(wide_text), str(wide_vision)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    growth_bytes = json.loads(done.stdout.splitlines()[-1])
    print(growth_bytes)
    assert growth_bytes["robot of wide_text"] < 0.2 * size
    assert growth_bytes["edge of wide_vision"] < 0.2 * size
    # The measure sees what is really held.
    assert growth_bytes["edge of wide_text"] > 0.9 * size
    assert growth_bytes["robot of wide_vision"] > 0.9 * size
