"""What this machine calls itself, and how much memory it has to spare."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path

import torch


def machine_name(device: torch.device) -> str:
    """Processor, or graphics processor, and PyTorch's threads: `AMD EPYC 7B13, 2 threads`."""
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    threads = torch.get_num_threads()
    return f"{processor[:150]}, {threads} thread{'s' if threads > 1 else ''}"


def free_bytes(device: torch.device) -> int:
    """Bytes of memory that can be had; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError, ValueError, StopIteration):
        return 1024 * int(_line_of("/proc/meminfo", "MemAvailable").removesuffix("kB"))
    return 0


def _processor() -> str:
    with suppress(OSError, StopIteration):
        return _line_of("/proc/cpuinfo", "model name")
    with suppress(OSError):  # Arm processors have no name there, but the board has
        return Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    return platform.machine()


def _line_of(path: str, name: str) -> str:
    """What follows `name:` in a file of /proc.

    Raises:
        OSError: no such file.
        StopIteration: no such line.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(name))
