"""`laim calibrate`: what it writes and shows, how it goes on after an interruption, and what it refuses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from laim_ros.cli import main
from laim_ros.codec import Codecs
from laim_ros.codec.calibration import read_calibrations
from laim_ros.evaluation.quality import Meter
from laim_ros.models.identity import model_id
from laim_ros.models.random_checkpoint import make_random_blip2
from laim_ros.models.source import find_source
from laim_ros.planning.quality import QualityTable, find_quality

SMALL = ["--split-points", "qformer,input,output", "--feature-bits", "2,8", "--codecs", "jpeg50"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_blip2(tmp_path_factory.mktemp("checkpoint") / "random")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (20, 30, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), noise)
    return folder


def test_the_help_says_what_it_costs_and_imports_nothing_heavy() -> None:
    script = (
        "import contextlib, sys\n"
        "from laim_ros.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main(['calibrate', '--help'])\n"
        "print('HEAVY', [name for name in ('torch', 'numpy', 'rich', 'cv2') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert "How long it takes: rows × frames" in done.stdout


def test_scenes_are_judged_by_their_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "table.json"
    words = ["--scenes", "4", "--split-points", "output,vit.4", "--feature-bits", "1", "--weight-bits", "32,2"]
    assert main(["calibrate", *words, "--engine", "float", "--out", str(out)]) == 0
    table = QualityTable.read(out)
    assert (table.model, table.frames, table.source) == ("laim-mini-blip2", 4, "held-out scenes")
    assert (table.quantizer, table.engine) == ("uniform", "float")
    assert [row.key for row in table.rows] == [
        *(("vit.4", 2, 1, "klt"), ("vit.4", 32, 1, "klt"), ("output", 2), ("output", 32))
    ]
    assert table.rows[-1].same_share == 1
    assert table.rows[-1].true_share == table.float_true_share
    assert table.rows[-1].cider_d == table.float_cider_d
    assert table.rows[0].distortion > table.rows[1].distortion > 0
    shown = capsys.readouterr().out
    assert shown.startswith("codec klt as calibrated in ")
    assert f"; kept (--new-codec makes it anew)\n4 rows on 4 frames (held-out scenes), for {out}\n" in shown
    row = table.rows[0]
    shares = [f"{100 * share:.{digits}f} %" for share, digits in ((row.distortion, 2), (row.same_share, 1))]
    line = f"vit.4 2 1 klt {row.packet_bytes:,.0f} {row.packet_bytes_p95:,.0f} {' '.join(shares)} "
    assert f"{line}{100 * row.true_share:.1f} % {row.cider_d:.3f}" in [
        " ".join(each.split()) for each in shown.splitlines()
    ]
    assert shown.endswith(f"written to {out}\n")


def test_pictures_without_truth_and_the_table_beside_the_model(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(model, tmp_path / "own")
    words = ["calibrate", "--model", str(own), "--pictures", str(pictures), *SMALL]
    assert main([*words, "--weight-bits", "4"]) == 0
    shown = capsys.readouterr()
    assert "true" not in shown.out
    assert "codec klt calibrated at qformer on 4 frames (pictures of " in shown.out
    assert re.search(r"bytes per frame at +6 dB +12 dB .*\n  qformer +[0-9.]+ +[0-9.]+ ", shown.out)
    assert "calibrated on 4 frames; it takes fewer bytes with 300 or more" in shown.err
    assert len(Codecs.find(str(own), model_id(find_source(str(own)))).calibrations) == 1
    table, told = find_quality(str(own), model_id(find_source(str(own))))
    assert told == f"quality as measured on 4 frames (pictures of {pictures.name})"
    assert table.measure == "captions changed"
    assert [row.codec for row in table.rows] == ["jpeg50", "klt", "klt", "plain"]
    assert {(row.true_share, row.cider_d) for row in table.rows} == {(None, None)}
    assert main([*words, "--weight-bits", "8"]) == 0
    assert ", in the place of the table there\n" in capsys.readouterr().out
    assert find_quality(str(own), table.model_id)[0].rows[-1].weight_bits == 8


def test_an_interrupted_run_goes_on(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def calibrate(name: str, *more: str) -> int:
        words = ["--model", str(model), "--pictures", str(pictures), "--out", str(tmp_path / name)]
        return main(["calibrate", *words, *SMALL, "--weight-bits", "2,4", *more])

    rows = Meter.rows
    measured = []

    def interrupted(self: Meter, plans: object) -> Iterator:
        yield from islice(rows(self, plans), 3)
        raise KeyboardInterrupt

    def counted(self: Meter, plans: object) -> Iterator:
        for row in rows(self, plans):
            measured.append(row)
            yield row

    assert calibrate("whole.json") == 0
    monkeypatch.setattr(Meter, "rows", interrupted)
    assert calibrate("table.json") == 130
    part = tmp_path / "table.json.part"
    assert f"interrupted; 3 rows are kept in {part}: the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "table.json").exists()
    monkeypatch.setattr(Meter, "rows", counted)
    assert calibrate("table.json", "--quantizer", "exponential") == 1
    assert "quantizer 'uniform', this one has 'exponential'" in capsys.readouterr().err
    # As if it had been interrupted with --new-codec: rows go on with the calibration that they began with.
    assert calibrate("table.json", "--new-codec") == 0
    assert "3 of 7 rows are kept" in capsys.readouterr().err
    assert len(measured) == 4
    assert (tmp_path / "table.json").read_text() == (tmp_path / "whole.json").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"whole.json", "table.json"}


def test_the_codec_is_calibrated_where_it_is_not_yet_and_the_rest_stays(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(model, tmp_path / "own", ignore=shutil.ignore_patterns("codec*"))
    identity = model_id(find_source(str(own)))

    def calibrated(*words: str) -> dict[str, str]:
        assert main(["calibrate", "--model", str(own), "--codec-only", *words]) == 0
        return {name: each.digest for name, each in read_calibrations(own / "codec.safetensors", identity).items()}

    first = calibrated("--pictures", str(pictures), "--split-points", "qformer")
    assert list(first) == ["qformer"]
    assert not (own / "quality.json").exists()
    both = calibrated("--codec-scenes", "5", "--split-points", "input,qformer,vit.2,output")
    assert sorted(both) == ["qformer", "vit.2"]
    assert both["qformer"] == first["qformer"]
    capsys.readouterr()
    assert calibrated("--codec-scenes", "5", "--split-points", "vit.2") == both
    assert capsys.readouterr().out.endswith("; kept (--new-codec makes it anew)\n")
    anew = calibrated("--codec-scenes", "5", "--split-points", "qformer", "--new-codec")
    assert anew["qformer"] != first["qformer"]
    assert anew["vit.2"] == both["vit.2"]
    assert "codec klt calibrated at qformer on 5 frames (training scenes)" in capsys.readouterr().out


def test_rows_of_two_calibrations_are_not_mixed(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(model, tmp_path / "own", ignore=shutil.ignore_patterns("codec*"))
    words = ["calibrate", "--model", str(own), "--pictures", str(pictures), *SMALL, "--weight-bits", "4"]
    rows = Meter.rows

    def interrupted(self: Meter, plans: object) -> Iterator:
        yield from islice(rows(self, plans), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Meter, "rows", interrupted)
    assert main(words) == 130
    monkeypatch.undo()
    assert main(["calibrate", "--model", str(own), "--codec-only", "--new-codec", "--codec-scenes", "4"]) == 0
    capsys.readouterr()
    assert main(words) == 1
    assert "2 rows of a run with calibrations {'qformer': " in capsys.readouterr().err


def test_one_picture_calibrates_nothing(
    model: Path, tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(model, tmp_path / "own", ignore=shutil.ignore_patterns("codec*"))
    (tmp_path / "one").mkdir()
    shutil.copy(pictures / "0.png", tmp_path / "one")
    words = ["calibrate", "--model", str(own), "--pictures", str(tmp_path / "one"), *SMALL, "--weight-bits", "4"]
    assert main(words) == 0
    assert (
        "codec klt is not calibrated: every second picture is for it, and that makes not even two"
        in capsys.readouterr().err
    )
    assert [row.codec for row in QualityTable.read(own / "quality.json").rows] == ["jpeg50", "plain", "plain", "plain"]
    assert not (own / "codec.safetensors").exists()


def test_a_packed_head_is_measured_as_it_is_against_what_it_was_made_of(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(model, tmp_path / "source", ignore=shutil.ignore_patterns("codec*"))
    head = tmp_path / "head"
    packing = ["--bits", "3", "--quantizer", "exponential", "--prune", "neurons:0.25"]
    assert main(["quantize", str(source), *packing, "--out", str(head)]) == 0
    words = ["calibrate", "--model", str(head), "--pictures", str(pictures), *SMALL]
    assert main(words) == 0
    assert (head / "codec.safetensors").read_bytes() == (source / "codec.safetensors").read_bytes()
    table = QualityTable.read(head / "quality.json")
    assert (table.quantizer, table.prune) == ("exponential", "neurons:0.25")
    assert [(row.split_point, row.weight_bits) for row in table.rows] == [
        *(("input", 32), ("qformer", 3), ("qformer", 3), ("output", 3))
    ]
    assert table.rows[-1].distortion > 0.05
    capsys.readouterr()
    (head / "codec.safetensors").unlink()
    assert main([*words, "--codec-only"]) == 0
    assert f"copied to {head / 'codec.safetensors'}\n" in capsys.readouterr().out
    assert Codecs.find(str(head), table.model_id).calibrations.keys() == {"qformer"}
    assert main([*words, "--weight-bits", "4"]) == 1
    assert "has weights of 3 bits" in capsys.readouterr().err
    assert main([*words, "--edge-model", "laim-mini-blip2"]) == 1
    assert "edge model 'laim-mini-blip2' is not what" in capsys.readouterr().err
    shutil.rmtree(source)
    assert main(words) == 1
    assert "name it with --edge-model" in capsys.readouterr().err
    assert main([*words, "--edge-model", str(model)]) == 0


def test_a_packed_head_carries_the_codec_along(model: Path, pictures: Path, tmp_path: Path) -> None:
    source = shutil.copytree(model, tmp_path / "source", ignore=shutil.ignore_patterns("codec*"))
    words = ["--pictures", str(pictures), "--split-points", "qformer,vit.1", "--codec-only"]
    assert main(["calibrate", "--model", str(source), *words]) == 0
    identity = model_id(find_source(str(source)))
    assert main(["quantize", str(source), "--bits", "4", "--out", str(tmp_path / "head")]) == 0
    carried = Codecs.find(str(tmp_path / "head"), identity).calibrations
    calibrated = Codecs.find(str(source), identity).calibrations
    assert {name: each.digest for name, each in carried.items()} == {
        name: each.digest for name, each in calibrated.items()
    }
    assert len(carried) == 2
    (source / "codec.safetensors").write_bytes(b"torn")
    assert main(["quantize", str(source), "--bits", "4", "--out", str(tmp_path / "other")]) == 0
    assert not (tmp_path / "other" / "codec.safetensors").exists()


def test_without_the_cider_library_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    out = tmp_path / "table.json"
    words = ["--scenes", "2", "--split-points", "qformer", "--feature-bits", "2,8", "--weight-bits", "32"]
    assert main(["calibrate", *words, "--out", str(out)]) == 0
    assert capsys.readouterr().err.count("pycocoevalcap is not installed") == 1
    table = QualityTable.read(out)
    assert table.float_true_share is not None
    assert {table.float_cider_d, *(row.cider_d for row in table.rows)} == {None}


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--weight-bits", "4,9"], 2, "'9' is none of 1,2,3,4,5,6,7,8,16,32"),
        (["--feature-bits", ""], 2, "'' is none of"),
        (["--codecs", "plain,png9"], 2, "'png9' is neither klt, klt1 to klt60 or plain nor a picture format"),
        (["--codecs", "klt", "--feature-bits", "8,16"], 2, "feature_bits 16 is more than codec klt takes"),
        (["--codecs", "plain", "--codec-only"], 2, "--codec-only: --codecs plain needs no calibration"),
        (["--codec-scenes", "1"], 2, "--codec-scenes"),
        (["--scenes", "0"], 2, "--scenes"),
        (["--scenes", "5"], 2, "not allowed with argument"),
        (["--split-points", "vit.9"], 1, "split point 'vit.9' is none of this model's: input, vit.1"),
        (["--pictures", "no/such"], 1, "pictures 'no/such': there is no such folder"),
        (["--prune", "heads:2"], 1, "prune"),
        (["--model", "no/such/model"], 1, "model 'no/such/model' is neither"),
        (["--device", "abacus"], 1, "device 'abacus' is none of"),
        (["--out", "."], 2, "--out . is a folder; name a file"),
        (["--out", "/dev/null/table.json"], 1, "/dev/null cannot be written: "),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], status: int, told: str, model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "--model", str(model), "--pictures", str(pictures), *SMALL, *words]) == status
    shown = capsys.readouterr().err
    assert shown.startswith("laim calibrate: ")
    assert told in shown
    assert shown.count("\n") == 1
    assert not list(model.glob("quality*"))
