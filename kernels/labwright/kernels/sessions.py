"""The sessions of running kernels, on disk, so that the next fork server can end what a killed one left.

Each kernel leads a session of its own; what its notebook starts stays in that session unless it takes steps
to leave. The operating system kills the kernel together with its server, but not the kernel's subprocesses.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from labwright.api import names

DYING_SECONDS = 1.0
# A resource tracker of Python's takes some 10 ms to clean up; it has longer than it could need.
TRACKER_SECONDS = 5.0


class SessionBook:
    """A file of fixed-width entries, one slot per kernel: a write of 16 bytes opens or closes a session."""

    width = 16

    def __init__(self, path: Path) -> None:
        self.path = path
        self.slots: dict[int, int] = {}
        self.free: list[int] = []
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def open(self, session: int) -> None:
        slot = self.free.pop() if self.free else len(self.slots)
        self.slots[session] = slot
        self.write(slot, str(session))

    def close(self, session: int) -> None:
        slot = self.slots.pop(session)
        self.free.append(slot)
        self.write(slot, "")

    def write(self, slot: int, text: str) -> None:
        os.pwrite(self.fd, text.ljust(self.width - 1).encode() + b"\n", slot * self.width)

    def end_all(self) -> None:
        """End what an earlier server left behind, and start with an empty book."""
        left = {int(line) for line in self.path.read_text().split()}
        # The operating system is killing their leaders at this moment; one that stays has a number that was reused.
        deadline = time.monotonic() + DYING_SECONDS
        while any(map(is_alive, left)) and time.monotonic() < deadline:
            time.sleep(0.01)
        if left:
            end_sessions(left)
        os.ftruncate(self.fd, 0)


def end_sessions(sessions: set[int]) -> None:
    """End every process of this user whose session is in `sessions` and has lost its leader.

    Resource trackers have some seconds to clean up, which they do as soon as they are alone.
    """
    deadline = time.monotonic() + TRACKER_SECONDS
    while members := members_of(sessions):
        late = time.monotonic() >= deadline
        for pid in members:
            if late or not is_resource_tracker(pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        if late:
            return
        time.sleep(0.01)


def members_of(sessions: set[int]) -> list[int]:
    """Living processes of sessions that have lost their leader. Reads all of /proc."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            # A living leader means that the number has been given to somebody else since.
            if entry.name.isdigit() and (session := os.getsid(int(entry.name))) in sessions and not is_alive(session):
                found.append(int(entry.name))
    return [pid for pid in found if is_alive(pid)]


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return parse_stat(Path(f"/proc/{pid}"))[0] not in "ZX"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """Direct children of the process. Reads all of /proc: for rare occasions."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError, ValueError):
            if entry.name.isdigit() and int(parse_stat(entry)[1]) == pid:
                found.append(int(entry.name))
    return found


def parse_stat(process: Path) -> list[str]:
    """The fields after the name, which may itself hold spaces and parentheses: state, parent, …"""
    return (process / "stat").read_text().rpartition(")")[2].split()


def has_children() -> bool:
    """Whether this process has any child, dead or alive. One system call."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def is_resource_tracker(pid: int) -> bool:
    """Whether it is one of Python's (or loky's) own, see `names.RESOURCE_TRACKER`."""
    try:
        return names.RESOURCE_TRACKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def has_children_in(group: int) -> bool:
    """Whether this process has a child, dead or alive, in the process group. One system call."""
    try:
        os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def end_group_but_trackers(group: int) -> None:
    """Kill the processes of a group, but leave resource trackers to their work. Reads all of /proc."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError):
            if entry.name.isdigit() and int(parse_stat(entry)[2]) == group and not is_resource_tracker(int(entry.name)):
                os.kill(int(entry.name), signal.SIGKILL)


def end_adopted(pid: int) -> None:
    """Kill and reap a child that this process got from a parent that died."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
