"""Trains laim-mini-blip2 from nothing on synthetic scenes: captions and visual question answering, on a CPU.

    python -m training.train_mini_blip2 --steps 4500

`--workers` single-threaded processes share each batch and average their gradients: on few and busy cores that beats
one process with as many threads. The vision tower and the Q-Former run once for each picture; the language model learns
several texts on their output. Two helper losses, whose small heads are thrown away afterwards, say early what the
pictures show: colour and kind of each patch, and colour and kind of the objects from left to right on the first two
queries.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional as F
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerFast

from laim_ros.scenes.vocabulary import COLOURS, KINDS
from training import mini_blip2, render_cache
from training.data import PAD, Batch, Examples
from training.tokenizer import build_tokenizer


class Trainee(nn.Module):
    """The model and the heads of its helper losses."""

    def __init__(self, model: Blip2ForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        model.set_attn_implementation("eager")  # the fused attention of CPUs is twice as slow backwards
        self.patch_head = nn.Linear(mini_blip2.WIDTH, len(COLOURS) + len(KINDS) + 2)
        self.slot_head = nn.Linear(mini_blip2.WIDTH, len(COLOURS) + len(KINDS) + 2)

    def see(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vision tokens (B, 145, D) and query tokens (B, 8, D) of pictures (B, 3, 96, 96)."""
        seen = self.model.vision_model(pixels).last_hidden_state
        queries = self.model.query_tokens.expand(len(pixels), -1, -1)
        return seen, self.model.qformer(query_embeds=queries, encoder_hidden_states=seen).last_hidden_state

    def read(self, told: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (B * T, L, words) for T texts on each picture's query tokens (B, 8, D): what follows each token."""
        prefix = self.model.language_projection(told).repeat_interleave(len(tokens) // len(told), dim=0)
        words = self.model.language_model.get_input_embeddings()(tokens)
        mask = F.pad(tokens != PAD, (prefix.shape[1], 0), value=True).long()
        embedded = torch.cat([prefix.to(words.dtype), words], dim=1)
        logits = self.model.language_model(inputs_embeds=embedded, attention_mask=mask, use_cache=False).logits
        return logits[:, prefix.shape[1] :]

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The losses by name."""
        seen, told = self.see(batch.pixels)
        logits = self.read(told, batch.tokens[:, :-1]).float()
        targets = batch.tokens[:, 1:]
        place = torch.arange(targets.shape[1]) + 1
        wanted = (place[None] >= batch.answer_start[:, None]) & (targets != PAD)
        loss = F.cross_entropy(logits[wanted], targets[wanted], reduction="none")
        is_caption = (torch.arange(len(targets)) % (len(targets) // len(told)) == 0)[:, None].expand_as(wanted)[wanted]
        patch, slot = self.patch_head(seen[:, 1:]).float(), self.slot_head(told[:, :2]).float()
        return {
            "caption": loss[is_caption].mean(),
            "answer": loss[~is_caption].mean(),
            "patch": _two_losses(patch, batch.patch_colour, batch.patch_kind),
            "slot": _two_losses(slot, batch.slot_colour, batch.slot_kind),
        }


WEIGHTS = {"caption": 1.0, "answer": 1.0, "patch": 1.0, "slot": 0.5}


def _two_losses(logits: torch.Tensor, colour: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
    """Cross entropy of colour (first columns) and kind (the rest); background counts little where it is most."""
    first, second = logits.flatten(0, 1).split([len(COLOURS) + 1, len(KINDS) + 1], dim=1)
    emphasis = torch.where(colour.flatten() > 0, 1.0, 0.3)
    losses = F.cross_entropy(first, colour.flatten(), reduction="none")
    losses = losses + F.cross_entropy(second, kind.flatten(), reduction="none")
    return (losses * emphasis).sum() / emphasis.sum()


def rate_at(step: int, steps: int, peak: float) -> float:
    """One cycle: up over the first 6 %, then a cosine down to nearly nothing."""
    rise = max(1, int(0.06 * steps))
    if step < rise:
        return peak * (step + 1) / rise
    return peak * (0.002 + 0.998 * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise))))


@torch.no_grad()
def probe(trainee: Trainee, examples: Examples, rows: np.ndarray) -> dict[str, float]:
    """Share of fully right captions and answers on `rows`, each word given the right ones before it."""
    batch = examples.batch(rows, np.random.default_rng(0))
    with torch.autocast("cpu", torch.bfloat16):
        logits = trainee.read(trainee.see(batch.pixels)[1], batch.tokens[:, :-1])
    targets = batch.tokens[:, 1:]
    wanted = (torch.arange(targets.shape[1])[None] + 1 >= batch.answer_start[:, None]) & (targets != PAD)
    right = ((logits.argmax(-1) == targets) | ~wanted).all(dim=1).view(len(rows), -1)
    return {"captions_right": right[:, 0].float().mean().item(), "answers_right": right[:, 1:].float().mean().item()}


def train(arguments: argparse.Namespace) -> None:
    """The whole run; writes the model and `training_log.jsonl` into arguments.folder."""
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    if not arguments.no_render:
        render_cache.fill(arguments.cache, arguments.shards, arguments.workers)
    examples = Examples(arguments.cache, arguments.shards, tokenizer, arguments.workers)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.multiprocessing.start_processes(
        _worker, (arguments, tokenizer, examples), nprocs=arguments.workers, start_method="fork"
    )


def _worker(rank: int, arguments: argparse.Namespace, tokenizer: PreTrainedTokenizerFast, examples: Examples) -> None:
    """One of the processes: its part of every batch; the first one also logs and saves."""
    torch.set_num_threads(1)
    meeting = f"file://{(arguments.folder / f'meeting_{os.getppid()}').absolute()}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=arguments.workers)
    distributed.barrier()
    Path(meeting.removeprefix("file://")).unlink(missing_ok=True)
    held = np.arange(len(examples) - 256, len(examples))  # training scenes kept aside to watch progress
    if arguments.start:
        torch.manual_seed(arguments.seed)
        trainee = Trainee(Blip2ForConditionalGeneration.from_pretrained(arguments.start)).train()
    else:
        trainee = Trainee(mini_blip2.build_model(tokenizer, arguments.seed)).train()
    processor = mini_blip2.build_processor(tokenizer)
    shuffle = np.random.default_rng(arguments.seed)  # the same in all workers
    rng = np.random.default_rng([arguments.seed, rank])
    optimizer = _optimizer(trainee)
    log = (arguments.folder / "training_log.jsonl").open("w") if rank == 0 else None
    order, start, means = np.empty(0, int), time.monotonic(), {}
    for step in range(arguments.steps):
        if len(order) < arguments.batch:
            order = shuffle.permutation(len(examples) - len(held))
        rows, order = order[: arguments.batch], order[arguments.batch :]
        rate = rate_at(step, arguments.steps, arguments.rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            losses = trainee(examples.batch(rows[rank :: arguments.workers], rng))
        optimizer.zero_grad(set_to_none=True)
        sum(WEIGHTS[name] * value for name, value in losses.items()).backward()
        _average_gradients(trainee, arguments.workers)
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        optimizer.step()
        for name, value in losses.items():
            means[name] = 0.98 * means.get(name, value.item()) + 0.02 * value.item()
        last = step + 1 == arguments.steps
        if log and ((step + 1) % arguments.log_every == 0 or last):
            row = {"step": step + 1, "wall_s": round(time.monotonic() - start, 1), "rate": float(f"{rate:.3g}")}
            row |= {name: round(value, 4) for name, value in means.items()}
            row |= {name: round(value, 4) for name, value in probe(trainee, examples, held).items()}
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(json.dumps(row), flush=True)
        if log and ((step + 1) % arguments.save_every == 0 or last):
            mini_blip2.save(trainee.model, processor, arguments.folder)
    distributed.barrier()
    distributed.destroy_process_group()


def _optimizer(trainee: Trainee) -> torch.optim.AdamW:
    matrices = [p for p in trainee.parameters() if p.ndim >= 2]
    others = [p for p in trainee.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _average_gradients(trainee: Trainee, workers: int) -> None:
    """Replaces each worker's gradients by their mean, in one message."""
    gradients = [p.grad for p in trainee.parameters() if p.grad is not None]
    flat = torch.cat([each.flatten() for each in gradients])
    distributed.all_reduce(flat)
    flat /= workers
    for gradient, mean in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("out/laim-mini-blip2"), help="where the model is written")
    parser.add_argument("--cache", type=Path, default=Path("out/train_cache"), help="where the pictures are kept")
    parser.add_argument("--start", type=Path, help="go on from this folder's weights instead of from nothing")
    parser.add_argument("--no-render", action="store_true", help="the cache is complete: do not look for gaps")
    parser.add_argument("--shards", type=int, default=48, help="thousands of training scenes")
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=64, help="pictures in a step")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--log-every", type=int, default=150)
    parser.add_argument("--save-every", type=int, default=500)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
