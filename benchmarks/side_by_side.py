"""What the kernel benchmarks share: taking turns, summing up, and the last line that programs read."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence

Measure = Callable[[], Sequence[float]]


def take_turns(ours: Measure, peer: Measure, rounds: int) -> tuple[list[float], list[float]]:
    """Measure both sides alternately, so that what else the machine does falls on both."""
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        theirs += peer()
        mine += ours()
    return mine, theirs


def describe(name: str, values: Sequence[float], unit: str) -> str:
    middle = statistics.median(values)
    return f"{name:>10}: median {middle:.4g} {unit}, n {len(values)}, from {min(values):.4g} to {max(values):.4g}"


def machine() -> str:
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, load {load:.1f}"


def report(
    name: str, ours: Sequence[float], peer: Sequence[float], unit: str, faster_is_more: bool, **more: object
) -> None:
    """Print both sides and, last, one JSON object."""
    print(f"machine: {machine()}")
    print(describe("ours", ours, unit))
    print(describe("peer", peer, unit))
    a, b = statistics.median(ours), statistics.median(peer)
    ratio = a / b if faster_is_more else b / a
    print(json.dumps({"name": name, "ratio": round(ratio, 2), "unit": unit, "ours": a, "peer": b, **more}))
