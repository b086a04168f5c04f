"""Scores of captions: are they true of the scene, and how close are they to the references?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec

from laim_ros.evaluation.errors import EvaluationError
from laim_ros.scenes import Scene, caption_truth, captions


def share(truths: Iterable[bool]) -> float:
    """How many of them are true, 0 to 1, to four digits; 0 for none at all."""
    truths = list(truths)
    return round(sum(truths) / max(1, len(truths)), 4)


def score_captions(scenes: Sequence[Scene], said: Sequence[str]) -> dict[str, float]:
    """Shares of captions that are true, and true and complete, over all scenes and by number of objects."""
    truths = [caption_truth(text, scene) for text, scene in zip(said, scenes, strict=True)]
    scores = {
        "scenes": len(scenes),
        "true": share(truth.true for truth in truths),
        "true_and_complete": share(truth.true and truth.complete for truth in truths),
    }
    for count in (1, 2):
        chosen = [t.true and t.complete for t, scene in zip(truths, scenes, strict=True) if len(scene.objects) == count]
        scores[f"true_and_complete_{count}_objects"] = share(chosen)
    return scores


def has_cider() -> bool:
    """Whether CIDEr-D can be had here: pycocoevalcap is an extra."""
    return find_spec("pycocoevalcap") is not None


def cider_d(scenes: Sequence[Scene], said: Sequence[str]) -> float:
    """CIDEr-D against all wordings of the scenes' captions; see `cider_d_against`."""
    return cider_d_against([captions(scene) for scene in scenes], said)


def cider_d_against(references: Sequence[Sequence[str]], said: Sequence[str]) -> float:
    """CIDEr-D (Vedantam et al. 2015: clipped counts, penalty on length) by pycocoevalcap's class, 0 to 10.

    Words are split by `plain_words`, as the library's own tokenizer needs Java. Document frequencies come from these
    references: scores over other frames cannot be compared, and one frame alone scores 0.

    Args:
        references: of each text; at least one.
        said: the texts.

    Raises:
        EvaluationError: pycocoevalcap is not installed.
    """
    if not has_cider():
        raise EvaluationError("CIDEr-D needs pycocoevalcap, which is not installed; it comes with laim_ros[study]")
    from pycocoevalcap.cider.cider import Cider

    given = {number: [plain_words(text) for text in texts] for number, texts in enumerate(references)}
    candidates = {number: [plain_words(text)] for number, text in enumerate(said)}
    return round(float(Cider().compute_score(given, candidates)[0]), 4)


def plain_words(text: str) -> str:
    """Lower case, no punctuation, single spaces."""
    return " ".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())
