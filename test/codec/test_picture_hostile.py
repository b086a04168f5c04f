"""Pictures that someone made up: only ever a CodecError or a wrong picture of the right shape, and little memory."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutation import mutated
from picture_making import FORMATS, av1_frame, avif_with, codec_as, content_of, payload_as, sequence_header

from laim_ros.codec import CodecError
from laim_ros.codec.picture import picture_formats_here

pytestmark = pytest.mark.skipif(picture_formats_here() != FORMATS, reason="this OpenCV lacks a format")

BEGINNINGS = {
    "jpeg": payload_as("jpeg50", 64, 96)[:400],
    "webp": payload_as("webp50", 64, 96)[:30],
    "avif": payload_as("avif50", 64, 96)[:287] if "avif" in picture_formats_here() else b"",
}


def decodes(codec, payload):
    """True if the payload decoded; whatever it decoded to has the shape."""
    try:
        array = codec.decode(payload)
    except CodecError:
        return False
    assert array.shape == codec.shape
    assert array.dtype == np.uint8
    return True


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("quality", [1, 50, 100])
def test_mutated_pictures_are_refused_or_decode_to_the_right_shape(name, quality):
    dice = random.Random(quality)
    codec, good = codec_as(f"{name}{quality}", 64, 96), payload_as(f"{name}{quality}", 64, 96)
    outcomes = [decodes(codec, mutated(good, dice)) for _ in range(200)]
    assert decodes(codec, good)
    assert not all(outcomes)


@given(st.sampled_from(FORMATS), st.booleans(), st.binary(max_size=600))
@settings(max_examples=200)
def test_any_bytes_are_refused_or_decode_to_the_right_shape(name, begun, data):
    decodes(codec_as(f"{name}50", 64, 96), (BEGINNINGS[name] if begun else b"") + data)


@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_that_is_cut_or_extended_is_refused(name):
    codec, good = codec_as(f"{name}50", 64, 96), payload_as(f"{name}50", 64, 96)
    assert not any(decodes(codec, good[:length]) for length in range(len(good)))
    assert not any(decodes(codec, good + more) for more in (b"\0", b"\0\0", b"\xff\xd9", good))


@pytest.mark.parametrize("name", FORMATS)
def test_a_picture_of_another_format_is_refused(name):
    codec = codec_as(f"{name}50", 64, 96)
    assert [other for other in FORMATS if decodes(codec, payload_as(f"{other}50", 64, 96))] == [name]


def lies():
    """A good picture of each format whose header claims 65535 pixels or the format's most a side."""
    good = {name: payload_as(f"{name}50", 64, 96) for name in FORMATS}
    size = good["jpeg"].index(b"\xff\xc0") + 5
    yield "jpeg", good["jpeg"][:size] + b"\xff\xff\xff\xff" + good["jpeg"][size + 4 :]
    yield "webp", good["webp"][:26] + b"\xff\x3f\xff\x3f" + good["webp"][30:]
    frame = content_of(good["avif"], b"mdat")[13:]
    huge = av1_frame(sequence_header(16000, 16000), frame)
    huge_box = {"ispe": bytes(4) + (16000).to_bytes(4, "big") * 2}
    yield "avif", avif_with(good["avif"], huge)
    yield "avif", avif_with(good["avif"], **huge_box)
    yield "avif", avif_with(good["avif"], huge, **huge_box)


def noisy_ends(name, count):
    """Pictures whose headers are right and whose pixels are not, so that they get as far as the decoder."""
    good, dice = payload_as(f"{name}50", 64, 96), random.Random(0)
    start = len(BEGINNINGS[name])
    for _ in range(count):
        damaged = bytearray(good)
        for _ in range(dice.choice((1, 3, 20))):
            damaged[dice.randrange(start, len(good) - 2)] = dice.choice((0, 1, 0x7F, 0xFE))
        yield name, bytes(damaged)


WITHIN_ITS_MEMORY = """
import sys
sys.path.insert(0, sys.argv[1])
import test_picture_hostile as hostile

def peak_kib(since_now=False):
    if since_now:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # proc(5): the peak of resident memory begins anew
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

codecs = {name: hostile.codec_as(f"{name}50", 64, 96) for name in hostile.FORMATS}
attacks = [attack for name in hostile.FORMATS for attack in hostile.noisy_ends(name, 60)]
lies = list(hostile.lies())
for name, codec in codecs.items():  # what is loaded at first use does not count
    assert hostile.decodes(codec, hostile.payload_as(f"{name}50", 64, 96))
before_kib = peak_kib(since_now=True)
assert not any(hostile.decodes(codecs[name], lie) for name, lie in lies)
outcomes = [hostile.decodes(codecs[name], attack) for name, attack in attacks]
assert any(outcomes)
assert not all(outcomes)
print(peak_kib() - before_kib)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_attacks_take_less_than_8_mib():
    """tracemalloc sees Python's and NumPy's memory only; this is the decoders' own, too. One lie let through in AVIF
    would take 3 GB."""
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": str(here.parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WITHIN_ITS_MEMORY, str(here)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8 * 1024
