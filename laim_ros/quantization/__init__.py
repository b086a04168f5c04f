"""The robot's half at b bits per weight: quantizers, pruning, packed storage, and engines that run it."""
