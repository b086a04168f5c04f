"""Times the stages of BLIP-2 at its real size, as robot and edge run them, on a machine that does nothing else.

The head is the checkpoint of random weights that `bench/head.py` makes; it runs through `RobotHalf`, stage by stage.
The language model is OPT of 2.7 billion random bfloat16 weights, made in memory, behind the product's own tail. Times
do not depend on what the weights are.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bench.real_size_profile_form import MODEL, NEW_TOKENS, SHAPES, SPLIT_POINTS

if TYPE_CHECKING:
    from laim_ros.coinference import RobotHalf
    from laim_ros.models.text import LanguageTail

THREADS = 2

CODES = {"input": "jpeg90"}
"""Codec by split point; elsewhere `plain` at 8 bits. Both are the defaults."""

MOST_BY_OTHERS = 0.1
"""Of one core: a run during which others used more does not count."""

MOST_WHOLE_RUNS = 5
LONGEST_WAIT_S = 1800.0
_PAUSE_S = 2.0
_HIGHEST = -20

T = TypeVar("T")
Seconds = dict[str, float]


@dataclass(frozen=True, slots=True)
class HeadRuns:
    """What was measured of one head.

    Attributes:
        engine: what ran it.
        stage_s: one dict by split point per run, up to `qformer`.
        whole_s: the same through `RobotHalf.features` in one go, one per run.
        code_s, decode_s: one dict by split point per run; empty unless asked for.
    """

    engine: str
    stage_s: list[Seconds]
    whole_s: list[float]
    code_s: list[Seconds]
    decode_s: list[Seconds]


@dataclass(frozen=True, slots=True)
class TailRuns:
    """Seconds per run for the first new token alone, and for `NEW_TOKENS`."""

    first_s: list[float]
    all_s: list[float]


def head_runs(model: Path, picture: Path, bits: int, runs: int, code_runs: int) -> HeadRuns:
    """Loads the head at so many bits and measures it."""
    import torch

    from laim_ros.coinference import RobotHalf

    torch.set_num_threads(THREADS)
    half = RobotHalf.open(str(model), "bench", weight_bits=bits, last="qformer", device="cpu")
    if half.model.split_points != SPLIT_POINTS:
        raise RuntimeError(f"{model} has other stages than {MODEL}: {half.model.split_points}")
    image = np.load(picture)
    stages = partial(_timed_stages, half, image)
    whole = partial(_timed, lambda: half.features(image, "qformer"))
    coding = partial(_timed_coding, half, image)
    stages()
    coded = quiet_runs(coding, code_runs)
    return HeadRuns(
        engine=half.model.engine,
        stage_s=quiet_runs(stages, runs),
        whole_s=quiet_runs(whole, min(runs, MOST_WHOLE_RUNS)),
        code_s=[code_s for code_s, _ in coded],
        decode_s=[decode_s for _, decode_s in coded],
    )


def _timed(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _timed_stages(half: RobotHalf, image: np.ndarray) -> Seconds:
    """Seconds of each stage of one frame."""
    import torch

    model, stage_s = half.model, {}
    began_s = time.perf_counter()
    x = torch.from_numpy(model.resize(image)[None])
    stage_s["input"] = time.perf_counter() - began_s
    for before, name in pairwise(SPLIT_POINTS[:-1]):
        began_s = time.perf_counter()
        x = model.run(x, before, name)
        stage_s[name] = time.perf_counter() - began_s
    return stage_s


def _timed_coding(half: RobotHalf, image: np.ndarray) -> tuple[Seconds, Seconds]:
    """Seconds to make the packet at each split point of one frame, and to read it."""
    import torch

    from laim_ros.codec import codec_for, unpack
    from laim_ros.plan import Plan

    code_s, decode_s = {}, {}
    x = torch.from_numpy(half.model.resize(image)[None])
    for before, name in pairwise(("", *SPLIT_POINTS[:-1])):
        if before:
            x = half.model.run(x, before, name)
        features = x[0].numpy()
        stream = half.describe(Plan(name, half.weight_bits, 8, CODES.get(name, "plain")))
        codec = codec_for(stream)
        half.pack(stream, 0, features, 0.0)  # the first packet of a stream makes its codec
        began_s = time.perf_counter()
        packet = half.pack(stream, 0, features, began_s)
        coded_s = time.perf_counter()
        codec.decode(unpack(packet).payload)
        code_s[name], decode_s[name] = coded_s - began_s, time.perf_counter() - coded_s
    return code_s, decode_s


def tail_runs(checkpoint: Path, runs: int) -> TailRuns:
    """Makes the language model at its real size and measures the text of one caption."""
    import torch

    torch.set_num_threads(THREADS)
    tail = random_tail(checkpoint)
    features = torch.randn(1, *SHAPES["qformer"], generator=torch.Generator().manual_seed(0))

    def seconds(tokens: int) -> float:
        return _timed(partial(_generate, tail, features, tokens))

    seconds(2)
    return TailRuns(
        first_s=quiet_runs(partial(seconds, 1), runs),
        all_s=quiet_runs(partial(seconds, NEW_TOKENS), runs),
    )


def _generate(tail: LanguageTail, features: object, tokens: int) -> None:
    import torch

    from laim_ros.models import Generation

    with torch.inference_mode():
        (ids,) = tail.generate_ids(features, [""], Generation(num_beams=1, max_new_tokens=tokens))
        tail.decode(ids)
    if len(ids) != tokens:
        raise RuntimeError(f"the text has {len(ids)} tokens, not {tokens}")


def random_tail(checkpoint: Path) -> LanguageTail:
    """OPT of 2.7 billion parameters in bfloat16 behind the Q-Former, which never ends its text by itself.

    Args:
        checkpoint: whose tokenizer it takes.
    """
    import torch
    from transformers import AutoTokenizer, OPTForCausalLM

    from laim_ros.models.random_checkpoint import BLIP2_OPT_2_7B, random_config
    from laim_ros.models.text import LanguageTail

    tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    with torch.device("meta"):
        config = random_config(BLIP2_OPT_2_7B, tokenizer).text_config
        model = OPTForCausalLM(config).to(torch.bfloat16).eval().requires_grad_(False)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.uniform_(-0.03, 0.03, generator=generator)
    model.generation_config.eos_token_id = None
    width, queries = SHAPES["qformer"][1], SHAPES["qformer"][0]
    projection = torch.nn.Linear(width, BLIP2_OPT_2_7B.text_width).to(torch.bfloat16)
    return LanguageTail(projection, model, tokenizer, None, queries)


def quiet_runs(measure: Callable[[], T], count: int) -> list[T]:
    """Results of so many runs during which nobody else used more than `MOST_BY_OTHERS` of a core.

    While they last, this process goes before all others, where the system lets it.

    Raises:
        RuntimeError: the machine does not come to rest within `LONGEST_WAIT_S`.
    """
    kept: list[T] = []
    give_up_s = time.monotonic() + LONGEST_WAIT_S
    while len(kept) < count:
        if time.monotonic() > give_up_s:
            raise RuntimeError(f"other processes keep using this machine: {len(kept)} of {count} runs were undisturbed")
        with _precedence():
            before_s, began_s = _cpu_of_others_s(), time.perf_counter()
            result = measure()
            share = (_cpu_of_others_s() - before_s) / (time.perf_counter() - began_s)
        if share <= MOST_BY_OTHERS:
            kept.append(result)
        else:
            time.sleep(_PAUSE_S)
    return kept


@contextlib.contextmanager
def _precedence() -> Iterator[None]:
    """Gives all threads of this process the highest priority for a while."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        _set_priority(_HIGHEST)
        yield
    finally:
        _set_priority(usual)


def _set_priority(priority: int) -> None:
    # Linux keeps it for each thread by itself, and OpenMP's were started before.
    with contextlib.suppress(PermissionError, ProcessLookupError):
        for thread in os.listdir("/proc/self/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), priority)


def _cpu_of_others_s() -> float:
    """CPU time of all processes but this one since the machine started, and what its host took away."""
    ticks = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    user, nice, system, _, _, interrupts, soft_interrupts, stolen = map(int, ticks)
    busy = user + nice + system + interrupts + soft_interrupts + stolen
    return busy / os.sysconf("SC_CLK_TCK") - time.process_time()
