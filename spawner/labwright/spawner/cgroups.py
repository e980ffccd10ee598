"""Control groups of version 1 and 2, used where this process may make its own.

A group is used only below a place that is ours: the root of the hierarchy as we see it (a container), or a systemd
unit that was delegated. Elsewhere another manager owns the tree, and resource limits take its place.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from labwright.spawner.launcher import Limits

MOUNT = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "cpu", "pids")
_PERIOD_MICROSECONDS = 100_000


@dataclass(frozen=True)
class Usage:
    memory_bytes: int
    peak_bytes: int
    killed_for_memory: int


@dataclass(frozen=True)
class Cgroups:
    """The folders under which groups are made: one for version 2, one per controller for version 1."""

    version: int
    parents: dict[str, Path] = field(default_factory=dict)  # controller -> folder that we own

    def create(self, name: str, limits: Limits) -> list[Path]:
        """Make the groups of one launch and set its limits; the folders to join, maybe none."""
        made: dict[Path, set[str]] = {}
        for controller, parent in self.parents.items():
            made.setdefault(parent / name, set()).add(controller)
        folders = []
        for folder, controllers in made.items():
            try:
                folder.mkdir(exist_ok=True)
                for file, value in settings_for(self.version, controllers, limits).items():
                    with contextlib.suppress(FileNotFoundError):  # kernels without swap accounting, and the like
                        (folder / file).write_text(value)
            except OSError:
                continue
            folders.append(folder)
        return folders

    @property
    def limits_memory(self) -> bool:
        return "memory" in self.parents


def settings_for(version: int, controllers: set[str], limits: Limits) -> dict[str, str]:
    """The files of a group and what to write into them."""
    files: dict[str, str] = {}
    if "memory" in controllers and limits.memory_bytes:
        if version == 2:
            files |= {"memory.max": str(limits.memory_bytes), "memory.swap.max": "0", "memory.oom.group": "0"}
        else:
            files |= {"memory.limit_in_bytes": str(limits.memory_bytes)}
            files |= {"memory.memsw.limit_in_bytes": str(limits.memory_bytes)}
    if "cpu" in controllers and limits.cpu:
        quota = int(limits.cpu * _PERIOD_MICROSECONDS)
        if version == 2:
            files["cpu.max"] = f"{quota} {_PERIOD_MICROSECONDS}"
        else:
            files |= {"cpu.cfs_period_us": str(_PERIOD_MICROSECONDS), "cpu.cfs_quota_us": str(quota)}
    if "pids" in controllers and limits.processes:
        files["pids.max"] = str(limits.processes)
    return files


def members(folders: list[Path]) -> set[int]:
    found: set[int] = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            found |= {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    return found


def usage(folders: list[Path]) -> Usage | None:
    """Memory of a group now and at most, and how many of its processes the kernel killed for it."""
    for folder in folders:
        if (folder / "memory.current").exists():
            events = dict(line.split() for line in (folder / "memory.events").read_text().splitlines())
            return Usage(_number(folder, "memory.current"), _number(folder, "memory.peak"), int(events["oom_kill"]))
        if (folder / "memory.usage_in_bytes").exists():
            control = dict(line.split() for line in (folder / "memory.oom_control").read_text().splitlines())
            peak = _number(folder, "memory.max_usage_in_bytes")
            return Usage(_number(folder, "memory.usage_in_bytes"), peak, int(control.get("oom_kill", 0)))
    return None


def _number(folder: Path, file: str) -> int:
    try:
        return int((folder / file).read_text())
    except (OSError, ValueError):
        return 0


def remove(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def detect(name: str, *, mount: Path = MOUNT, own: str | None = None) -> Cgroups | None:
    """The control groups that we may use, with our folder `name` made in them; None where there are none."""
    text = own if own is not None else Path("/proc/self/cgroup").read_text()
    memberships = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    if (mount / "cgroup.controllers").exists():
        path = next((path for number, _, path in memberships if number == "0"), "/")
        return _version_two(mount / path.lstrip("/"), path, name)
    parents: dict[str, Path] = {}
    for _, controllers, path in memberships:
        for controller in set(controllers.split(",")) & set(CONTROLLERS):
            folder = mount / controller / name
            if path == "/" and _make(folder):
                parents[controller] = folder
    return Cgroups(1, parents) if parents else None


def _version_two(own: Path, path: str, name: str) -> Cgroups | None:
    delegated = path == "/" or path.rstrip("/").endswith((".service", ".scope"))
    if not delegated or not _make(own / name):
        return None
    try:
        # A group with processes of its own cannot hand out controllers, so ours move into a leaf first.
        if path != "/":
            leaf = own / f"{name}-services"
            leaf.mkdir(exist_ok=True)
            for pid in (own / "cgroup.procs").read_text().split():
                (leaf / "cgroup.procs").write_text(pid)
        available = set((own / "cgroup.controllers").read_text().split()) & set(CONTROLLERS)
        switch = " ".join(f"+{controller}" for controller in sorted(available))
        (own / "cgroup.subtree_control").write_text(switch)
        (own / name / "cgroup.subtree_control").write_text(switch)
    except OSError:
        return None
    return Cgroups(2, dict.fromkeys(sorted(available), own / name))


def _make(folder: Path) -> bool:
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
