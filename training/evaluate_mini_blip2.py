"""Scores a laim-mini-blip2 folder on held-out scenes and writes scores.json beside the weights.

    python -m training.evaluate_mini_blip2 --folder checkpoints/laim-mini-blip2

Greedy decoding through `Blip2ForConditionalGeneration.generate`, pictures through the folder's own processor. A caption
is judged against the scene, not against a wording. The blind score of a question is that of the best guess without the
picture: the commonest answer to the very same words among the questions of 20,000 training scenes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from laim_ros.evaluation.metrics import cider_d, score_captions, share
from laim_ros.scenes import (
    QUESTION_KINDS,
    Question,
    Scene,
    SceneStream,
    caption_truth,
    questions,
    render,
    sample_scene,
)

Picture = Callable[[Scene], np.ndarray]
_BATCH = 50


class Candidate:
    """The checkpoint under test."""

    def __init__(self, folder: Path) -> None:
        self.processor = Blip2Processor.from_pretrained(folder)
        self.model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()

    def pixels(self, images: Iterable[np.ndarray]) -> torch.Tensor:
        """uint8 RGB pictures of any size -> what the model is given, float (N, 3, 96, 96)."""
        return torch.cat([self.processor(images=image, return_tensors="pt")["pixel_values"] for image in images])

    @torch.no_grad()
    def say(self, pixels: torch.Tensor, prompts: list[str]) -> list[str]:
        """One greedy text for each picture and prompt; "" asks for a caption."""
        token = self.processor.tokenizer
        prefix = [self.model.config.image_token_index] * self.model.config.num_query_tokens
        by_length: dict[int, list[int]] = defaultdict(list)  # prompts of one length share a batch: no padding
        ids = [prefix + token(prompt)["input_ids"] for prompt in prompts]
        for row, each in enumerate(ids):
            by_length[len(each)].append(row)
        texts = [""] * len(prompts)
        for length, rows in by_length.items():
            for start in range(0, len(rows), _BATCH):
                part = rows[start : start + _BATCH]
                given = torch.tensor([ids[row] for row in part])
                said = self.model.generate(
                    pixel_values=pixels[part], input_ids=given, max_new_tokens=24, do_sample=False, num_beams=1
                )
                for row, tokens in zip(part, said[:, length:], strict=True):
                    texts[row] = token.decode(tokens, skip_special_tokens=True).strip()
        return texts


def score_answers(
    asked: list[Question], said: list[str], guess: Callable[[Question], str]
) -> dict[str, dict[str, float]]:
    """For each kind of question: how many, share answered right, and the share that blind guessing gets."""
    scores = {}
    for kind in QUESTION_KINDS:
        rows = [row for row, question in enumerate(asked) if question.kind == kind]
        scores[kind] = {
            "questions": len(rows),
            "right": share(said[row] == asked[row].answer for row in rows),
            "blind": share(guess(asked[row]) == asked[row].answer for row in rows),
        }
    return scores


def blind_guess(training_scenes: int) -> Callable[[Question], str]:
    """The best answer to a question's words alone, learned from training scenes."""
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for seed in range(training_scenes):
        for question in questions(sample_scene(seed, "train")):
            by_text[question.text][question.answer] += 1
            by_kind[question.kind][question.answer] += 1
    return lambda question: (by_text.get(question.text) or by_kind[question.kind]).most_common(1)[0][0]


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


OTHER_CAMERAS: dict[str, Picture] = {
    "jpeg_quality_50_at_480x640": lambda scene: _jpeg(render(scene, 480, 640).image, 50),
    "240x320": lambda scene: render(scene, 240, 320).image,
    "wide_720x1280": lambda scene: render(scene, 720, 1280).image,
}


def contact_sheet(rows: list[tuple[Scene, str]], path: Path) -> None:
    """Pictures with what was said of them, four side by side."""
    tiles = []
    for scene, text in rows:
        tile = np.full((270, 320, 3), 255, np.uint8)
        tile[:240] = render(scene, 240, 320).image[..., ::-1]
        cv2.putText(tile, text[:52], (4, 259), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(tile)
    while len(tiles) % 4 or not tiles:
        tiles.append(np.full((270, 320, 3), 255, np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack([np.hstack(tiles[i : i + 4]) for i in range(0, len(tiles), 4)]))


def evaluate(arguments: argparse.Namespace) -> dict:
    """All scores of the folder."""
    torch.set_num_threads(arguments.threads)
    candidate, began = Candidate(arguments.folder), time.monotonic()
    scenes = [sample_scene(seed, "held_out") for seed in range(arguments.scenes)]
    if arguments.pixels and arguments.pixels.exists():
        pixels = torch.from_numpy(np.load(arguments.pixels))[: len(scenes)]
    else:
        pixels = candidate.pixels(render(scene, 480, 640).image for scene in scenes)
        if arguments.pixels:
            np.save(arguments.pixels, pixels.numpy())
    said = candidate.say(pixels, [""] * len(scenes))
    asked = [(number, question) for number, scene in enumerate(scenes) for question in questions(scene)]
    answers = candidate.say(
        pixels[[number for number, _ in asked]], [f"Question: {question.text} Answer:" for _, question in asked]
    )
    scores = {
        "split": "held_out",
        "picture": "480x640, resized by the model's own processor",
        "decoding": "greedy, float32",
        "captions": score_captions(scenes, said) | {"cider_d": cider_d(scenes, said)},
        "answers": score_answers([each for _, each in asked], answers, blind_guess(arguments.blind_scenes)),
        "other_cameras": {},
    }
    few = scenes[: arguments.other_scenes]
    for name, picture in OTHER_CAMERAS.items():
        heard = candidate.say(candidate.pixels(map(picture, few)), [""] * len(few))
        scores["other_cameras"][name] = score_captions(few, heard)
    stream = SceneStream(0, "held_out")
    times = [1.37 * number for number in range(len(few))]
    frames = [stream.frame(time_s) for time_s in times]
    heard = candidate.say(candidate.pixels(image for image, _ in frames), [""] * len(few))
    scores["other_cameras"]["stream_480x640"] = score_captions([scene for _, scene in frames], heard)
    scores["wall_s"] = round(time.monotonic() - began)
    if arguments.sheets:
        wrong = [(s, t) for s, t in zip(scenes, said, strict=True) if not caption_truth(t, s).complete]
        contact_sheet(list(zip(scenes[:24], said[:24], strict=True)), arguments.sheets / "captions.png")
        contact_sheet(wrong[:40], arguments.sheets / "failures.png")
        missed = [(scenes[n], q, a) for (n, q), a in zip(asked, answers, strict=True) if a != q.answer]
        contact_sheet([(s, f"{q.text} {a} ({q.answer})") for s, q, a in missed[:40]], arguments.sheets / "answers.png")
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("checkpoints/laim-mini-blip2"))
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--other-scenes", type=int, default=200, help="scenes for each of the other cameras")
    parser.add_argument("--blind-scenes", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pixels", type=Path, help="keep the drawn pictures in this .npy file between runs")
    parser.add_argument("--sheets", type=Path, help="write contact sheets of captions and failures here")
    parser.add_argument("--output", type=Path, help="default: scores.json in the folder")
    arguments = parser.parse_args()
    scores = evaluate(arguments)
    text = json.dumps(scores, indent=2) + "\n"
    (arguments.output or arguments.folder / "scores.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
