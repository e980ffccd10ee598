"""The GPUs of this machine: how many there are, and which of them a process gets to see.

NVIDIA's driver lists its GPUs below /proc/driver/nvidia/gpus, with a number of the device file and a UUID by which CUDA
knows it whatever order it counts in; AMD's lists them as nodes of /sys/class/kfd.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_NVIDIA = re.compile(r"nvidia(\d+)")
_FACT = re.compile(r"^(.+?):\s*(.+?)\s*$", re.MULTILINE)
# By which libraries know the GPUs that they may use; an empty value hides all.
VARIABLES = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "ROCR_VISIBLE_DEVICES"}


@dataclass(frozen=True)
class Gpu:
    """`id` is what its vendor's variable names it by: a UUID, or a place in the vendor's order."""

    vendor: str
    id: str

    @property
    def key(self) -> str:
        return f"{self.vendor}:{self.id}"


def find_gpus(root: Path = Path("/")) -> list[Gpu]:
    """The NVIDIA and AMD GPUs that have a driver here."""
    numbers = sorted(int(found[1]) for device in _listed(root / "dev") if (found := _NVIDIA.fullmatch(device.name)))
    uuids = _uuids(root)
    nvidia = [Gpu("nvidia", uuids.get(number, str(place))) for place, number in enumerate(numbers)]
    nodes = _listed(root / "sys/class/kfd/kfd/topology/nodes")
    amd = sum(1 for node in nodes if _gpu_id(node) > 0)
    return nvidia + [Gpu("amd", str(place)) for place in range(amd)]


def count_gpus(root: Path = Path("/")) -> int:
    """How many NVIDIA and AMD GPUs have a driver here."""
    return len(find_gpus(root))


def least_used(gpus: Sequence[Gpu], used: Iterable[str], count: int) -> list[Gpu]:
    """The `count` GPUs that the fewest hold; `used` has the key of one for each that holds it.

    The ledger gives no more than there are. What it has taken back may still be held for moments by a process that
    ends, and then two have the same one rather than the second none.
    """
    holders = Counter(used)
    return sorted(gpus, key=lambda gpu: holders[gpu.key])[:count]


def visible(gpus: Iterable[Gpu], given: Iterable[Gpu]) -> dict[str, str]:
    """The variables by which a process sees `given` alone of the machine's `gpus`; empty on a machine without any."""
    shown = list(given)
    vendors = dict.fromkeys(gpu.vendor for gpu in gpus)
    variables = {VARIABLES[name]: ",".join(gpu.id for gpu in shown if gpu.vendor == name) for name in vendors}
    if "nvidia" in vendors:
        variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts, and the driver's files
    return variables


def _uuids(root: Path) -> dict[int, str]:
    """Number of the device file to UUID, as far as the driver tells it."""
    found = {}
    for folder in _listed(root / "proc/driver/nvidia/gpus"):
        try:
            facts = dict(_FACT.findall((folder / "information").read_text()))
        except OSError:
            continue
        number, uuid = facts.get("Device Minor", ""), facts.get("GPU UUID", "")
        if number.isdecimal() and uuid.startswith("GPU-") and "?" not in uuid:
            found[int(number)] = uuid
    return found


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
