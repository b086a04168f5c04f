"""A half whose bit-width changes: frames go on through it, nothing else changes, and failures cost nothing."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from test_coinference import GENERATION, PROMPTS, finished, picture, plan_at, sent

from laim_ros.coinference import EdgeHalf, RobotHalf
from laim_ros.models import ModelError, load
from laim_ros.models.identity import find_whole
from laim_ros.models.source import find_source
from laim_ros.plan import Plan
from laim_ros.quantization import QuantizationError
from laim_ros.quantization.errors import GivenUpError
from laim_ros.quantization.storage.write import Packing

BITS = (4, 8, 16, 2, 32)


def features_at_each_width(checkpoint, engine):
    """Features of one picture at each bit-width, of halves that never had another."""
    halves = {bits: RobotHalf.open(checkpoint, "/robot", weight_bits=bits, engine=engine) for bits in BITS}
    return {bits: half.features(picture(1), "qformer")[0] for bits, half in halves.items()}


@pytest.fixture(scope="module")
def expected(checkpoint):
    return features_at_each_width(checkpoint, "auto")


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_frames_go_on_while_another_thread_changes_the_bits(checkpoint, engine):
    """Widths are taken up again and again, so that kept heads come back while a frame may still be on them."""
    expected = features_at_each_width(checkpoint, engine)
    half = RobotHalf.open(checkpoint, "/robot", engine=engine)
    failures: list[BaseException] = []

    def change() -> None:
        try:
            for bits in BITS * 3 + (2, 4) * 150 + (32,):
                half.set_weight_bits(bits)
        except BaseException as error:
            failures.append(error)

    changing = threading.Thread(target=change)
    changing.start()
    ran = []
    while changing.is_alive():
        features, timings = half.features(picture(1), "qformer")
        np.testing.assert_allclose(features, expected[timings.weight_bits], rtol=1e-3, atol=1e-3)
        ran.append(timings.weight_bits)
    changing.join()
    assert not failures
    # Which widths a frame meets is chance on a busy machine; that it meets several is not.
    assert len(set(ran)) >= 2, "too few frames to tell"
    assert half.weight_bits == 32
    assert half.features(picture(1), "vit.1")[1].weight_bits == 32


def test_widths_differ_or_equality_above_would_prove_nothing(expected):
    values = list(expected.values())
    for number, one in enumerate(values):
        for other in values[:number]:
            assert not np.allclose(one, other, rtol=1e-3, atol=1e-3)


def test_the_same_width_again_loads_nothing(checkpoint):
    half = RobotHalf.open(checkpoint, "/robot", weight_bits=8)
    before = half.model
    half.set_weight_bits(8)
    assert half.model is before


def test_an_edge_finishes_frames_of_every_width(checkpoint):
    half, edge = RobotHalf.open(checkpoint, "/robot"), EdgeHalf(load(checkpoint))
    for bits in BITS:
        half.set_weight_bits(bits)
        plan = Plan("vit.2", weight_bits=bits, feature_bits=32)
        stream, payload = sent(half, picture(2), plan, PROMPTS)
        assert stream.plan.weight_bits == bits
        assert all(finished(edge, (stream, payload))[0])


def test_the_tail_stays_where_the_robot_runs_it(checkpoint, unsplit):
    half = RobotHalf.open(checkpoint, "/robot", last="output")
    tail, tail_bytes = half.model.tail, half.model.tail_bytes
    for bits in (4, 16, 32):
        half.set_weight_bits(bits)
        assert half.model.tail is tail
        assert (half.model.last, half.model.tail_bytes) == ("output", tail_bytes)
        half.check(Plan("output", weight_bits=bits))
        features, _ = half.features(picture(3), "qformer")
        texts = half.finish(features, PROMPTS, GENERATION)
        assert all(texts)
    assert texts == unsplit.texts(picture(3), PROMPTS)


def test_a_failure_leaves_the_old_head(checkpoint, tmp_path, expected):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    half = RobotHalf.open(str(folder), "/robot", weight_bits=8)
    before = half.model
    for damage in (_cut_short, Path.unlink):
        damage(folder / "model.safetensors")
        for bits in (4, 16):
            with pytest.raises((ModelError, QuantizationError)):
                half.set_weight_bits(bits)
        assert half.model is before
    features, timings = half.features(picture(1), "qformer")
    assert timings.weight_bits == 8
    np.testing.assert_allclose(features, expected[8], rtol=1e-3, atol=1e-3)
    shutil.copy(Path(checkpoint) / "model.safetensors", folder)
    half.set_weight_bits(4)
    assert half.weight_bits == 4


def test_loading_ends_when_it_is_no_longer_wanted(checkpoint):
    half = RobotHalf.open(checkpoint, "/robot")
    before, asked = half.model, []

    def wanted() -> bool:
        asked.append(True)
        return len(asked) < 3

    with pytest.raises(GivenUpError, match="4 bits is no longer wanted"):
        half.set_weight_bits(4, wanted)
    assert len(asked) == 3
    assert half.model is before


def test_impossible_widths_are_refused_with_what_is_possible(checkpoint):
    half = RobotHalf.open(checkpoint, "/robot", weight_bits=8)
    for bits in (0, 9, 64):
        with pytest.raises(QuantizationError, match=f"weight_bits {bits} is none of 1, 2, 3, 4, 5, 6, 7, 8, 16, 32"):
            half.set_weight_bits(bits)
    fixed = RobotHalf(load(checkpoint, last="qformer"), "/robot")
    fixed.check(plan_at("vit.1"))
    with pytest.raises(QuantizationError, match=r"weight_bits 8: .*nothing to load another from; use RobotHalf\.open"):
        fixed.check(Plan("vit.1", weight_bits=8))


def test_a_packed_folder_opens_at_the_bits_that_it_has(checkpoint, tmp_path):
    for bits, quantizer in ((4, "exponential"), (8, "uniform")):
        folder = tmp_path / f"{quantizer}{bits}"
        Packing(find_source(checkpoint), bits, quantizer).write(folder)
        half = RobotHalf.open(str(folder), "/robot")
        assert half.weight_bits == bits
        edge = EdgeHalf(load(checkpoint))
        texts = finished(edge, sent(half, picture(1), Plan("qformer", bits, 16), PROMPTS))
        assert texts[0]
        if quantizer == "exponential":
            with pytest.raises(QuantizationError, match=r"weights of 4 bits, not 8; pack .* again"):
                half.check(Plan("qformer", 8))
        else:
            half.set_weight_bits(3)
            assert half.features(picture(1), "qformer")[1].weight_bits == 3
        with pytest.raises(QuantizationError, match="use the model that it was made of"):
            half.check(Plan("qformer", 16))
        half.set_weight_bits(32)
        assert half.weight_bits == bits, "32 is the model as it is"


def test_the_model_of_a_packed_head_is_found_and_known_again(checkpoint, other_checkpoint, tmp_path):
    assert find_whole(checkpoint).folder == Path(checkpoint)
    source, folder = tmp_path / "source", str(tmp_path / "packed")
    shutil.copytree(checkpoint, source)
    Packing(find_source(str(source)), 2, "uniform").write(Path(folder))
    assert find_whole(folder).folder == source
    shutil.rmtree(source)
    with pytest.raises(ModelError, match=f"'{folder}' is a quantized head .* not found here: .*'{source}'"):
        find_whole(folder)
    shutil.copytree(other_checkpoint, source)
    with pytest.raises(ModelError, match="is another model by now"):
        find_whole(folder)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
