"""The tokenizer of laim-mini-blip2: one token per word of the scenes' language, special tokens numbered as OPT's."""

from __future__ import annotations

import re

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from laim_ros.scenes import captions, questions, sample_scene

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0..3, as in OPT; "</s>" both begins and ends a text
IMAGE_TOKEN = "<image>"
_WORD = re.compile(r"\w+|[^\w\s]")


def vocabulary(scenes: int = 4000) -> list[str]:
    """Every word that captions and questions use, sorted: gathered from training scenes."""
    words = {"question", "answer", ":", "?", ",", ".", *"0123456789"}
    for seed in range(scenes):
        scene = sample_scene(seed, "train")
        texts = captions(scene) + [text for q in questions(scene) for text in (q.text, q.answer)]
        words.update(word for text in texts for word in _WORD.findall(text.lower()))
    return sorted(words)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that `Blip2Processor` takes: tokenizer(text) starts with "</s>", unknown words become "<unk>"."""
    words = [*SPECIAL, *vocabulary(), IMAGE_TOKEN]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A", pair="</s> $A $B", special_tokens=[("</s>", SPECIAL.index("</s>"))]
    )
    tokenizer.add_special_tokens([*SPECIAL, AddedToken(IMAGE_TOKEN, normalized=False, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=64,
        clean_up_tokenization_spaces=False,
    )
