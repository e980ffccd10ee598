"""What the kernel benchmarks share: taking turns, summing up, and the last line that programs read."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

Measure = Callable[[], Sequence[float]]
SHOWN_LINES = 60
REPEATS = 2


def take_turns(ours: Measure, peer: Measure, rounds: int) -> tuple[list[float], list[float]]:
    """Measure both sides alternately, so that what else the machine does falls on both."""
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        theirs += again_if_lost(peer)
        mine += ours()
    return mine, theirs


def again_if_lost(peer: Measure) -> Sequence[float]:
    """One round of the peer's; measured again when an ordinary kernel of it did not come up.

    Such a kernel is told its ports before it binds them, and now and then another process has one by then. The
    minute that is spent on waiting for it is not held against the peer. Of ours nothing is repeated.
    """
    for _ in range(REPEATS):
        try:
            return peer()
        except RuntimeError as error:
            if not str(error).startswith("Kernel "):  # jupyter_client's of a kernel that did not come up
                raise
            print(f"a round of the peer's is measured again: {error}", flush=True)
    return peer()


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
    """Print both sides and, last, one JSON object with every sample of each and the ratio of their medians."""
    print(f"machine: {machine()}")
    print(describe("ours", ours, unit))
    print(describe("peer", peer, unit))
    a, b = statistics.median(ours), statistics.median(peer)
    ratio = a / b if faster_is_more else b / a
    sides = {"ours": list(ours), "peer": list(peer), "ours_median": a, "peer_median": b}
    print(json.dumps({"name": name, "ratio": round(ratio, 2), "unit": unit, **sides, **more}))


@contextlib.contextmanager
def complaints_in(log: Path) -> Iterator[Path]:
    """Where programs may complain (an ordinary kernel does, by the page); shown if the benchmark fails."""
    log.touch()
    try:
        yield log
    except BaseException:
        print(*log.read_text(errors="replace").splitlines()[-SHOWN_LINES:], sep="\n", file=sys.stderr)
        raise


def complain_in(log: Path) -> None:
    """Have this process and those that it starts write their errors there; for the workers of a pool."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 2)
