"""Caption metrics: how texts are split into words, and what scores more than what."""

from __future__ import annotations

import sys

import pytest

from laim_ros.evaluation.errors import EvaluationError
from laim_ros.evaluation.metrics import cider_d, cider_d_against, has_cider, plain_words, score_captions
from laim_ros.scenes import captions, sample_scene

SCENES = [sample_scene(seed, "held_out") for seed in range(20)]
PERFECT = [captions(scene)[0] for scene in SCENES]


def test_words_are_lower_case_without_punctuation() -> None:
    assert plain_words(" A Red\tball, left-of\n the  CUBE!  ") == "a red ball left of the cube"
    assert plain_words("Nº 7: naïve") == "nº 7 naïve"
    assert plain_words("...") == ""


def test_a_perfect_caption_beats_others() -> None:
    pytest.importorskip("pycocoevalcap")
    other_wording = [captions(scene)[1] for scene in SCENES]
    shouted = [f"  {text.upper()}!" for text in PERFECT]
    half = [text.split(" to the ")[0] for text in PERFECT]
    strangers = PERFECT[1:] + PERFECT[:1]
    exactly = [[text] for text in PERFECT]
    # A quarter of 10 for each length of word groups, 1 to 4, that it has: three words have no groups of four.
    highest = sum(2.5 * min(4, len(text.split())) for text in PERFECT) / len(PERFECT)
    assert cider_d_against(exactly, PERFECT) == pytest.approx(highest)
    assert cider_d_against(exactly, shouted) == pytest.approx(highest)
    scores = [cider_d_against(exactly, said) for said in (PERFECT, half, strangers, [""] * len(PERFECT))]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == 0
    # Against all wordings none gets everything, and each that is true gets more than one that is not.
    assert min(cider_d(SCENES, PERFECT), cider_d(SCENES, other_wording)) > 2 * cider_d(SCENES, strangers)


def test_shares_of_true_captions() -> None:
    incomplete = [f"a {scene.objects[0].kind}" for scene in SCENES]
    assert score_captions(SCENES, PERFECT)["true_and_complete"] == 1
    assert score_captions(SCENES, incomplete)["true"] == 1
    assert score_captions(SCENES, incomplete)["true_and_complete"] == 0
    mixed = score_captions(SCENES, PERFECT[:5] + ["a flying carpet"] * 15)
    assert (mixed["scenes"], mixed["true"], mixed["true_and_complete"]) == (20, 0.25, 0.25)
    ones = [len(scene.objects) == 1 for scene in SCENES]
    assert mixed["true_and_complete_1_objects"] == round(sum(ones[:5]) / sum(ones), 4)


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    assert not has_cider()
    with pytest.raises(EvaluationError, match=r"laim_ros\[study\]"):
        cider_d(SCENES, PERFECT)
