"""Shared memory and semaphores that a kernel made go with it, however it ends.

Python leaves that to a process of its own, the resource tracker, which outlives whoever it works for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from workbench import eventually

from labwright.kernels.client import ForkServer
from labwright.kernels.engine import ForkServerEngine
from tests.kernels.running import Run

MAKE = """
import multiprocessing, multiprocessing.shared_memory, os, pathlib, signal
before = set(os.listdir("/dev/shm"))
memory = multiprocessing.shared_memory.SharedMemory(create=True, size=1 << 20)
semaphore = multiprocessing.get_context("spawn").Semaphore()
made = set(os.listdir("/dev/shm")) - before
assert len(made) >= 2, made
pathlib.Path("made").write_text(" ".join(made))
"""


def left_of(folder: Path) -> list[str]:
    return [name for name in (folder / "made").read_text().split() if (Path("/dev/shm") / name).exists()]


@pytest.mark.parametrize(
    "end",
    ["pass", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()", "os._exit(3)", "raise KeyError('end')"],
)
def test_of_a_run_nothing_is_left(
    fork_server_engine: ForkServerEngine, make_run: Callable[..., Run], tmp_path: Path, end: str
) -> None:
    make_run(fork_server_engine, MAKE, end)()
    eventually(lambda: not left_of(tmp_path), seconds=20, what="the end of its shared memory")


def test_of_a_run_that_was_cancelled_by_force_nothing_is_left(
    fork_server_engine: ForkServerEngine, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    stubborn = "while True:\n    try:\n        signal.pause()\n    except KeyboardInterrupt:\n        pass"
    run = make_run(fork_server_engine, MAKE, stubborn)
    run.on_cell = lambda progress: run.cancelled.set() if progress.index == 1 else None
    assert run().state == "cancelled"
    eventually(lambda: not left_of(tmp_path), seconds=20, what="the end of its shared memory")


def test_of_a_run_whose_fork_server_was_killed_nothing_is_left(make_run: Callable[..., Run], tmp_path: Path) -> None:
    server = ForkServer(tmp_path / "server", idle_seconds=60)
    kill_server = """
parent = pathlib.Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1]
os.kill(int(parent), signal.SIGKILL)
signal.pause()
"""
    assert make_run(ForkServerEngine(server), MAKE, kill_server)().state == "died"
    eventually(lambda: not left_of(tmp_path), seconds=20, what="the end of its shared memory")
    server.stop()


def test_of_a_kernel_whose_parent_was_killed_after_it_nothing_is_left(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """Python's tracker of an ended kernel is its parent's for some moments, and the server's when that dies too."""
    server = ForkServer(tmp_path / "server", idle_seconds=60)
    hold_tracker = """
import multiprocessing.resource_tracker
tracker = multiprocessing.resource_tracker._resource_tracker._pid
pathlib.Path("tracker").write_text(f"{tracker} {os.getppid()}")
os.kill(tracker, signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert make_run(ForkServerEngine(server), MAKE, hold_tracker)().state == "died"
    tracker, parent = map(int, (tmp_path / "tracker").read_text().split())
    above = psutil.Process(parent).ppid()
    os.kill(parent, signal.SIGKILL)
    eventually(lambda: psutil.Process(tracker).ppid() == above, seconds=20, what="the server's turn")
    os.kill(tracker, signal.SIGCONT)
    eventually(lambda: not left_of(tmp_path), seconds=20, what="the end of its shared memory")
    eventually(lambda: not psutil.pid_exists(tracker), seconds=20, what="the end of its tracker")
    server.stop()
