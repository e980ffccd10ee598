"""Fork a person's process: everything between `fork` and `exec` is here, and nothing of it needs a library.

The caller must have one thread only: a lock held by another thread would stay locked in the child for ever.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from labwright.api.errors import InvalidRequest
from labwright.spawner.launcher import Limits

_PR_SET_NO_NEW_PRIVS = 38
_LIBC = ctypes.CDLL(None, use_errno=True)
OOM_SCORE = 500  # the kernel ends people's processes before the services


@dataclass(frozen=True)
class Command:
    """What to run and as whom; `uid` None keeps the present one."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path | None
    uid: int | None
    gid: int
    limits: Limits
    cgroups: Sequence[Path] = field(default_factory=tuple)
    limit_memory: bool = False  # by resource limit, since no control group does


def start(command: Command) -> int:
    """The pid of the new process, once it runs the command; `InvalidRequest` says at which step it failed."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        enter(command, writing)
        _run(command, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        failure = pipe.read().decode()
    if failure:
        os.waitpid(pid, 0)
        raise InvalidRequest(f"'{command.argv[0]}' could not be started: {failure}.")
    return pid


def enter(command: Command, report: int) -> None:
    """Become the process that the command describes, all but the program. A failure is told to `report` and ends it."""
    step = "the start"
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        step = "joining its control group"
        for folder in command.cgroups:
            (folder / "cgroup.procs").write_text(str(os.getpid()))
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
        step = "setting its limits"
        _set_limits(command)
        step = "switching to its user"
        if command.uid is not None:
            os.setgroups([])
            os.setresgid(command.gid, command.gid, command.gid)
            os.setresuid(command.uid, command.uid, command.uid)
            _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.umask(0o077)
        step = f"opening the folder {command.cwd}"
        os.chdir(command.cwd)
        step = "opening its log"
        _redirect(command.log)
    except BaseException as error:  # noqa: BLE001 - the child must never return into the parent's code
        _give_up(report, step, error)


def _run(command: Command, report: int) -> NoReturn:
    try:
        os.execve(_find(command), list(command.argv), dict(command.env))  # noqa: S606 - the point of it
    except BaseException as error:  # noqa: BLE001 - as above
        _give_up(report, "running it", error)


def _give_up(report: int, step: str, error: BaseException) -> NoReturn:
    why = error.strerror if isinstance(error, OSError) else type(error).__name__
    os.write(report, f"{step} failed ({why})".encode())
    os._exit(127)


def _set_limits(command: Command) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the person's data and tokens
    if command.limit_memory and command.limits.memory_bytes:
        # DATA, not AS: Java and Arrow reserve far more address space than they ever touch.
        resource.setrlimit(resource.RLIMIT_DATA, (command.limits.memory_bytes,) * 2)
    if command.limits.processes and not command.cgroups:
        resource.setrlimit(resource.RLIMIT_NPROC, (command.limits.processes,) * 2)


def _redirect(log: Path | None) -> None:
    """stdin from nowhere, stdout and stderr to the log; opened as the person, so that no link leads astray."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    target = nowhere
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        os.set_blocking(target, True)
    os.dup2(nowhere, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    for fd in {nowhere, target} - {0, 1, 2}:
        os.close(fd)


def _find(command: Command) -> str:
    program = command.argv[0]
    if "/" in program:
        return program
    for folder in command.env.get("PATH", os.defpath).split(":"):
        candidate = os.path.join(folder, program)  # noqa: PTH118 - between fork and exec
        if os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(2, "no such program on its PATH")


def become_subreaper() -> None:
    """Orphans of our children become our children, so that none escapes unseen and all are reaped."""
    _LIBC.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
