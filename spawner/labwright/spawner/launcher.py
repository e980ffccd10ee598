"""The one way to start a process that runs a person's code: under that person's operating-system user, or in a pod.

`Launcher` is the seam. The embedded implementation talks over a Unix socket to a small privileged process
(`labwright.spawner.launcherd`), which alone keeps root when the workbench is started by root; processes are its
children, so they outlive hub and core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PATH = "/usr/local/bin:/usr/bin:/bin"  # of a process whose environment has none


@dataclass(frozen=True)
class Principal:
    """Whose process it is: the workbench's name of a person, not that of the operating system."""

    name: str


@dataclass(frozen=True)
class Limits:
    """What a process and its children may use together; None means no limit.

    Enforced by a cgroup where the machine permits it, otherwise by resource limits of each process
    (`Launched.enforced` says which).
    """

    cpu: float | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    # So many of the machine's GPUs are chosen for it, and named to it in CUDA_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES,
    # which hide the others from libraries; None names none and hides none.
    gpus: int | None = None


@dataclass(frozen=True)
class Launched:
    """A process that was started. `id` is stable over restarts of the launcher and never used twice."""

    id: str
    pid: int
    enforced: str  # "cgroup", "rlimit" or "none"


@dataclass(frozen=True)
class Status:
    """What is known of a process now."""

    running: bool
    exit_code: int | None = None  # negative: killed by that signal
    reason: str | None = None  # a sentence, with the remedy: out of memory, killed, crashed
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    peak_memory_bytes: int = 0


class Launcher(Protocol):
    """Start, watch and end people's processes. Every call fails within 30 s with `Unavailable`."""

    async def prepare(self, principal: Principal) -> Path:
        """Make sure that the person's account and home exist; returns the home. Idempotent."""
        ...

    async def launch(
        self,
        principal: Principal,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        limits: Limits,
        cwd: Path | None = None,
        name: str,
        log: Path | None = None,
    ) -> Launched:
        """Start `argv` with exactly `env` (HOME, USER, LOGNAME, SHELL and PATH are added when absent).

        `cwd` defaults to the person's home. `name` is for people who read lists ("server", "runner", "dask-worker").
        stdout and stderr go to `log` (below the person's home, created 0600), or nowhere.
        The process leads a new session; ending it ends all of its children.
        """
        ...

    async def status(self, id: str) -> Status: ...

    async def signal(self, id: str, number: int) -> None:
        """Send a signal to the process group. No error when it has already ended."""
        ...

    async def stop(self, id: str, *, grace_seconds: float = 10.0) -> Status:
        """SIGTERM, then SIGKILL after the grace; returns when nothing of it is left."""
        ...
