"""Taking weights, heads, neurons and blocks out of the head before it is quantized."""

from laim_ros.quantization.pruning.blocks import block_change, block_influence, choose_blocks, weight_influences
from laim_ros.quantization.pruning.magnitude import prune_linear, prune_magnitude
from laim_ros.quantization.pruning.spec import Pruning
from laim_ros.quantization.pruning.structured import prune_block

__all__ = [
    "Pruning",
    "block_change",
    "block_influence",
    "choose_blocks",
    "prune_block",
    "prune_linear",
    "prune_magnitude",
    "weight_influences",
]
