"""Taking weights, heads, neurons and blocks out of the head before it is quantized."""

from laim_ros.quantization.pruning.blocks import block_change, block_influence, choose_blocks, weight_influences
from laim_ros.quantization.pruning.calibrated import prune_block_with, run_block
from laim_ros.quantization.pruning.magnitude import prune_linear, prune_magnitude
from laim_ros.quantization.pruning.spec import Pruning
from laim_ros.quantization.pruning.structured import prune_block
from laim_ros.quantization.pruning.tower import influences, prune_tower

__all__ = [
    "Pruning",
    "block_change",
    "block_influence",
    "choose_blocks",
    "influences",
    "prune_block",
    "prune_block_with",
    "prune_linear",
    "prune_magnitude",
    "prune_tower",
    "run_block",
    "weight_influences",
]
