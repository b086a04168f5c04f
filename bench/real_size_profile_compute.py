"""Computes what BLIP-2 costs on a Jetson robot and a desktop-GPU edge from specifications; for `real_size_profile`.

A roofline: a stage takes the longer of operations / reached throughput and bytes / reached bandwidth.

Model (sizes as in `laim_ros.models.random_checkpoint.BLIP2_OPT_2_7B`): counted here, a multiplication and an addition
being two operations. Up to `qformer` that is 533.3 GFLOP; the paper states 533.66 GFLOP "to the first token" [P in
theory.md section 3]. OPT-2.7b: 2 operations per parameter and token, 5.3 GB in half precision.

Jetson AGX Orin 64 GB:
    NVIDIA Jetson AGX Orin Series Technical Brief v1.2 - 8 TPC of 2 SM, 2048 CUDA cores with 5.3 TFLOPS in float32,
    64 tensor cores with 170 sparse, so 85 dense TOPS in int8; Ampere does half of that in half precision; 204.8 GB/s.
    nvpmodel_p3701_0000.conf of Jetson Linux - the modes: TPCs that have power, greatest clock of GPU and memory.
    NVIDIA developer forum, "Maximum power consumption bounds for Orin AGX" - measured power of the rail VDD_GPU_SOC
    under a GPU stress test: 40.4 W in MAXN, 18.4 W at 50W, 7.6 W at 30W, 5.2 W at 15W (a 32 GB developer kit).
    As a check of the modes: a user of llama.cpp reports MAXN against 30W to be 3.9 times as fast in prefill and 3.2
    times in generation; `slowdown` gives 3.9.
GeForce RTX 3090:
    NVIDIA Ampere GA102 GPU Architecture whitepaper v2, appendix A - 71 TFLOPS dense in half precision with float32
    sums, 936 GB/s, 350 W of board power.

Efficiencies are assumed: what eager PyTorch at batch 1 reaches of the peak, where small kernels wait to be started.
With 30 % of the bandwidth the Jetson makes 12 tokens of OPT-2.7b per second and the RTX 3090 53. int8 gets less, as
activations are quantized around each product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.real_size_profile_form import (
    BLOCKS,
    EDGE_BITS,
    MODEL,
    MODEL_ID,
    NEW_TOKENS,
    RADIO_W,
    SHAPES,
    SPLIT_POINTS,
    WEIGHT_BITS,
    rounded,
    rounded_codes,
)
from laim_ros.planning.profiles import MachineProfile, PowerMode, StageTimes

TOKENS, WIDTH = SHAPES["vision"]
QUERIES, QFORMER_WIDTH = SHAPES["qformer"]
MLP = 6144
PATCH_INPUTS = 3 * 14 * 14
QFORMER_LAYERS, CROSS_LAYERS, QFORMER_MLP = 12, 6, 3072
TEXT_LAYERS, TEXT_WIDTH, TEXT_MLP, VOCABULARY, POSITIONS = 32, 2560, 10240, 50304, 2050

HALF_BYTES = 2
JETSON_CPU_SLOWDOWN = 3.0
"""Assumed: a Cortex-A78AE of 2.2 GHz next to one core of the measured server, for resizing and coding."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one stage does.

    Attributes:
        operations: multiplications and additions.
        weights: numbers that are read once.
        activations: numbers that go into or come out of products, from and to memory.
    """

    operations: float
    weights: float
    activations: float

    def __add__(self, other: Work) -> Work:
        return Work(
            self.operations + other.operations, self.weights + other.weights, self.activations + other.activations
        )

    def __mul__(self, times: float) -> Work:
        return Work(times * self.operations, times * self.weights, times * self.activations)


@dataclass(frozen=True, slots=True)
class Machine:
    """Peaks of a processor, and what of them is reached.

    Attributes:
        peak_flops: operations per second, by bits of what is multiplied: 8 (integers), 16, 32.
        bandwidth_bps: of the memory, in BYTES per second.
        efficiency: share of `peak_flops` that is reached, by the same bits.
        bandwidth_efficiency: share of the bandwidth.
    """

    peak_flops: dict[int, float]
    bandwidth_bps: float
    efficiency: dict[int, float]
    bandwidth_efficiency: float

    def seconds(self, work: Work, weight_bits: int) -> float:
        """The roofline: weights move at their own width, activations in half precision (float32 at 32 bits)."""
        bits = next(each for each in (8, 16, 32) if weight_bits <= each)
        moved_bytes = work.weights * weight_bits / 8 + work.activations * max(bits // 8, HALF_BYTES)
        compute_s = work.operations / (self.peak_flops[bits] * self.efficiency[bits])
        return max(compute_s, moved_bytes / (self.bandwidth_bps * self.bandwidth_efficiency))


@dataclass(frozen=True, slots=True)
class JetsonMode:
    """One of the Jetson's power modes: TPCs in use, clock of the GPU and the memory, power of the GPU's rail."""

    name: str
    tpcs: int
    gpu_hz: float
    memory_hz: float
    gpu_w: float


EFFICIENCY = {8: 0.25, 16: 0.30, 32: 0.30}
BANDWIDTH_EFFICIENCY = 0.30

ORIN = Machine({8: 85e12, 16: 42.5e12, 32: 5.3e12}, 204.8e9, EFFICIENCY, BANDWIDTH_EFFICIENCY)
RTX_3090 = Machine({16: 71e12}, 936e9, EFFICIENCY, BANDWIDTH_EFFICIENCY)

ORIN_MODES = (
    JetsonMode("MAXN", 8, 1.3005e9, 3.199e9, 40.4),
    JetsonMode("50W", 8, 0.816e9, 3.199e9, 18.4),
    JetsonMode("30W", 4, 0.612e9, 3.199e9, 7.6),
    JetsonMode("15W", 3, 0.408e9, 2.133e9, 5.2),
)

RTX_3090_W = 350.0
RTX_3090_IDLE_W = 30.0
"""Assumed; the board's power is a limit, so the difference is the most that it draws above idle."""


def linear(rows: int, inputs: int, outputs: int) -> Work:
    """A product of (rows, inputs) with a weight (outputs, inputs)."""
    return Work(2 * rows * inputs * outputs, inputs * outputs, rows * (inputs + outputs))


def attention(queries: int, keys: int, width: int) -> Work:
    """Scores and mixing of all heads; the scores stay on the chip."""
    return Work(4 * queries * keys * width, 0, 2 * (queries + keys) * width)


def block_work() -> Work:
    """A block of ViT-g."""
    return (
        linear(TOKENS, WIDTH, 3 * WIDTH)
        + attention(TOKENS, TOKENS, WIDTH)
        + linear(TOKENS, WIDTH, WIDTH)
        + linear(TOKENS, WIDTH, MLP)
        + linear(TOKENS, MLP, WIDTH)
    )


def qformer_work() -> Work:
    """12 layers over the queries; every second one looks at the image."""
    own = (
        linear(QUERIES, QFORMER_WIDTH, QFORMER_WIDTH) * 4
        + attention(QUERIES, QUERIES, QFORMER_WIDTH)
        + linear(QUERIES, QFORMER_WIDTH, QFORMER_MLP)
        + linear(QUERIES, QFORMER_MLP, QFORMER_WIDTH)
    )
    cross = (
        linear(QUERIES, QFORMER_WIDTH, QFORMER_WIDTH) * 2
        + linear(TOKENS, WIDTH, QFORMER_WIDTH) * 2
        + attention(QUERIES, TOKENS, QFORMER_WIDTH)
    )
    return own * QFORMER_LAYERS + cross * CROSS_LAYERS


def head_work() -> dict[str, Work]:
    """Of the stages `vit.1` to `qformer`."""
    block = block_work()
    work = {f"vit.{number}": block for number in range(1, BLOCKS + 1)}
    work["vit.1"] = linear(TOKENS - 1, PATCH_INPUTS, WIDTH) + block
    work["vision"] = Work(8 * TOKENS * WIDTH, 2 * WIDTH, 2 * TOKENS * WIDTH)
    work["qformer"] = qformer_work()
    return work


def text_weights() -> float:
    """Parameters of OPT-2.7b; what comes out shares the embedding's."""
    layer = 4 * TEXT_WIDTH**2 + 2 * TEXT_WIDTH * TEXT_MLP
    return TEXT_LAYERS * layer + (VOCABULARY + POSITIONS) * TEXT_WIDTH


def text_s(machine: Machine) -> float:
    """A caption in half precision: one pass over the image's places and a first token, then one per further token."""
    weights = text_weights()

    def forward(tokens: int) -> Work:
        return Work(2 * weights * tokens, weights, 0)

    return machine.seconds(forward(QUERIES + 1), 16) + (NEW_TOKENS - 1) * machine.seconds(forward(1), 16)


def stage_times(machine: Machine, weight_bits: int, resize_s: float | None) -> StageTimes:
    """Computed seconds of all stages; without `input` where nothing is resized."""
    stage_s = {} if resize_s is None else {"input": resize_s}
    stage_s |= {name: machine.seconds(work, weight_bits) for name, work in head_work().items()}
    return StageTimes(weight_bits, rounded(stage_s | {"output": text_s(machine)}), "computed")


def in_mode(mode: JetsonMode) -> Machine:
    """The Jetson in this mode."""
    full = ORIN_MODES[0]
    share = mode.tpcs * mode.gpu_hz / (full.tpcs * full.gpu_hz)
    return Machine(
        {bits: share * flops for bits, flops in ORIN.peak_flops.items()},
        ORIN.bandwidth_bps * mode.memory_hz / full.memory_hz,
        ORIN.efficiency,
        ORIN.bandwidth_efficiency,
    )


def head_s(machine: Machine, weight_bits: int) -> float:
    """Seconds from the resized picture to `qformer`."""
    return sum(machine.seconds(work, weight_bits) for work in head_work().values())


def slowdown(mode: JetsonMode) -> float:
    """Of the head in half precision, against MAXN."""
    return head_s(in_mode(mode), 16) / head_s(ORIN, 16)


def computed_profiles(measured_robot: MachineProfile, measured_edge: MachineProfile) -> dict[str, MachineProfile]:
    """Robot and edge, by the names of their files.

    Args:
        measured_robot, measured_edge: where resizing and coding, which a GPU does not do, are taken from.
    """
    resize_s = JETSON_CPU_SLOWDOWN * measured_robot.times_at(8).stage_s["input"]
    code_s = {
        point: {codec: JETSON_CPU_SLOWDOWN * seconds for codec, seconds in by_codec.items()}
        for point, by_codec in measured_robot.code_s.items()
    }
    return {"jetson_robot": jetson_profile(resize_s, code_s), "gpu_edge": gpu_profile(measured_edge.code_s)}


def jetson_profile(resize_s: float, code_s: Mapping[str, dict[str, float]]) -> MachineProfile:
    """The robot's."""
    modes = tuple(
        PowerMode(clock_hz=mode.gpu_hz, slowdown=round(slowdown(mode), 4), active_w=mode.gpu_w, name=mode.name)
        for mode in ORIN_MODES
    )
    here_s = head_s(ORIN, 16) + text_s(ORIN)
    return MachineProfile(
        machine="Jetson AGX Orin 64 GB (computed)",
        model=MODEL,
        model_id=MODEL_ID,
        engine="eager PyTorch, assumed: int8 tensor cores up to 8 bits, half precision at 16, CUDA cores at 32",
        split_points=SPLIT_POINTS,
        shapes=SHAPES,
        times=tuple(stage_times(ORIN, bits, resize_s) for bits in WEIGHT_BITS),
        modes=modes,
        code_s=rounded_codes(code_s),
        radio_w=RADIO_W,
        power_source="computed",
        notes=(
            "Nothing here is measured on a Jetson: a roofline from specifications (bench/real_size_profile_compute.py "
            "names them), in MAXN, with 30 % of the peak throughput (25 % in int8) and of the bandwidth, as eager "
            "PyTorch at batch 1. Weights at b bits move b/8 bytes each and are multiplied as int8: fewer than 8 bits "
            "save memory traffic, not operations. The language model is in half precision at every bit-width. "
            f"slowdown is that of the head in half precision, which computes; the text waits for memory, so slower "
            "modes hurt it less than it says. active_w is the GPU's rail under a stress test as a developer measured "
            "it (32 GB kit), its idle share included, the CPU and the memory not. Resizing and coding: "
            f"{JETSON_CPU_SLOWDOWN:g} times what the measured server core takes. radio_w: a Wi-Fi station that sends. "
            f"All on this robot in half precision takes {here_s:.2f} s and {here_s * ORIN_MODES[0].gpu_w:.0f} J in "
            "MAXN. The paper's testbed of the same machines (theory.md section 4) needs about 2.5 s and 165 J per "
            f"inference, {2.5 / here_s:.1f} times as long and {165 / (here_s * ORIN_MODES[0].gpu_w):.1f} times the "
            "energy, both with Wi-Fi and edge (66 W are more than a Jetson may draw): take ratios of this profile, not "
            "its absolute figures."
        ),
    )


def gpu_profile(decode_s: Mapping[str, dict[str, float]]) -> MachineProfile:
    """The edge's."""
    return MachineProfile(
        machine="GeForce RTX 3090 (computed)",
        model=MODEL,
        model_id=MODEL_ID,
        engine="eager PyTorch in half precision, assumed",
        split_points=SPLIT_POINTS,
        shapes=SHAPES,
        times=(stage_times(RTX_3090, EDGE_BITS, None),),
        modes=(PowerMode(active_w=RTX_3090_W - RTX_3090_IDLE_W, name="default"),),
        code_s=rounded_codes(decode_s),
        power_source="computed",
        notes=(
            "Nothing here is measured on this GPU: a roofline from specifications (bench/real_size_profile_compute.py "
            "names them) with 30 % of the peak throughput and of the bandwidth, as eager PyTorch at batch 1. No "
            "`input`: pictures arrive at the model's size. Decoding of packets as measured on one core of a server "
            f"(cpu_edge.json). active_w: the board's limit of {RTX_3090_W:g} W less {RTX_3090_IDLE_W:g} W of idling, "
            "the most it can be."
        ),
    )
