"""The GPUs of this machine."""

from __future__ import annotations

import re
from pathlib import Path

_NVIDIA = re.compile(r"nvidia\d+")


def count_gpus(root: Path = Path("/")) -> int:
    """How many NVIDIA and AMD GPUs have a driver here."""
    nvidia = sum(1 for device in _listed(root / "dev") if _NVIDIA.fullmatch(device.name))
    amd = sum(1 for node in _listed(root / "sys/class/kfd/kfd/topology/nodes") if _gpu_id(node) > 0)
    return nvidia + amd


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _gpu_id(node: Path) -> int:
    """0 is a processor."""
    try:
        return int((node / "gpu_id").read_text())
    except (OSError, ValueError):
        return 0
