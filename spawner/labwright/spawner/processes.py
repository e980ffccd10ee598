"""What /proc tells of processes: whether one still is the one we started, its family, what it uses."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labwright.api import names

MARKER = names.LAUNCH  # set in every process we start, so that children in other sessions are found
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
PROC = Path("/proc")


@dataclass(frozen=True)
class Stat:
    pid: int
    state: str
    parent: int
    session: int
    cpu_seconds: float
    start_ticks: int
    memory_bytes: int


def read_stat(pid: int) -> Stat | None:
    """One process as the kernel sees it now, or None when it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the command in parentheses may hold anything
    return Stat(
        pid=pid,
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        cpu_seconds=sum(int(value) for value in fields[11:15]) / _TICKS,
        start_ticks=int(fields[19]),
        memory_bytes=int(fields[21]) * _PAGE,
    )


def is_running(pid: int, start_ticks: int) -> bool:
    """Whether the process started then under this pid is alive (a pid may have been given away again)."""
    stat = read_stat(pid)
    return stat is not None and stat.start_ticks == start_ticks and stat.state not in "ZX"


def everything() -> list[Stat]:
    found = (read_stat(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit())
    return [stat for stat in found if stat is not None and stat.state not in "ZX"]


def family(leader: int, launch_id: str, known: Iterable[int] = ()) -> list[Stat]:
    """The living processes of a launch: its session, its descendants, those that carry its marker, and `known`."""
    mark = f"{MARKER}={launch_id}".encode()
    stats = everything()
    members = {leader, *known}
    while True:
        more = {stat.pid for stat in stats if stat.session == leader or stat.parent in members} - members
        if not more:
            break
        members |= more
    return [stat for stat in stats if stat.pid in members or _carries(stat.pid, mark)]


def is_resource_tracker(pid: int) -> bool:
    """Whether it is one of Python's (or loky's) own, see `names.RESOURCE_TRACKER`."""
    try:
        return names.RESOURCE_TRACKER in (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False


def _carries(pid: int, mark: bytes) -> bool:
    try:
        return mark in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
