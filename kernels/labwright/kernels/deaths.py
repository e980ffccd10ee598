"""Why a kernel ended, as a sentence with a remedy."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from labwright.kernels.client import Exit

GIB = 1024**3
# The limit counts ticks of the clock, what a process has used is measured: 0.85 s at a limit of 1 s was seen.
MEASURED_AT_LIMIT = 0.7

REMEDIES: Mapping[int, str] = {
    signal.SIGSEGV: "A compiled library crashed: update the package that was running, or report it to its authors.",
    signal.SIGABRT: "A compiled library gave up: look at what it printed last.",
    signal.SIGBUS: "A memory-mapped file shrank, or a disk or /dev/shm is full.",
    signal.SIGILL: "A compiled library uses instructions that this processor lacks: install another build.",
    signal.SIGFPE: "A compiled library divided by zero.",
    signal.SIGTERM: "Something asked it to end: an admin, or a machine that was shutting down.",
}


def explain(exit: Exit, out_of_memory: bool = False) -> str:
    """Say why a kernel that nobody stopped is gone."""
    if out_of_memory:
        return explain_memory(exit.peak_memory_bytes)
    if exit.lost is not None:
        return f"The kernel was lost, because {exit.lost}. Run it again."
    if used_up_processor_time(exit):
        return explain_processor_time(exit)
    if os.WIFSIGNALED(exit.status):
        return explain_signal(os.WTERMSIG(exit.status), exit.peak_memory_bytes)
    code = os.waitstatus_to_exitcode(exit.status)
    if code == 0:
        return "The notebook ended its own kernel (exit or quit) before its last cell."
    return f"The kernel ended itself with exit status {code} (os._exit, or a library that calls exit)."


def used_up_processor_time(exit: Exit) -> bool:
    """Whether it was ended at its limit: with SIGXCPU, or with SIGKILL where no more than that is allowed."""
    number = os.WTERMSIG(exit.status) if os.WIFSIGNALED(exit.status) else None
    if number != signal.SIGKILL or exit.cpu_limit_seconds is None or exit.cpu_seconds is None:
        return number == signal.SIGXCPU
    return exit.cpu_seconds >= MEASURED_AT_LIMIT * exit.cpu_limit_seconds


def explain_processor_time(exit: Exit) -> str:
    used = "" if exit.cpu_seconds is None else f"{exit.cpu_seconds:.1f} s of "
    limit = "" if exit.cpu_limit_seconds is None else f"{exit.cpu_limit_seconds} s of "
    return (
        f"The kernel was ended when it had used {used}the {limit}processor time that it was allowed. "
        "Do less at a time, or have the limit raised (ulimit -t, RLIMIT_CPU)."
    )


def explain_memory(peak_memory_bytes: int | None) -> str:
    used = f" after it had used {peak_memory_bytes / GIB:.1f} GiB" if peak_memory_bytes else ""
    return (
        f"The kernel ran out of memory{used} and was killed. "
        "Choose a profile with more memory, or work on less data at a time."
    )


def explain_memory_of_server(limit: int | None) -> str:
    """As `explain_memory`, for a kernel that shares its memory with a person's server."""
    has = f" of {limit / GIB:.1f} GiB" if limit else ""
    return (
        f"The kernel was killed: it needed more memory than this server has{has}. Its variables are gone. "
        "Load less data at a time, or start a server of a larger profile."
    )


def explain_signal(number: int, peak_memory_bytes: int | None) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if number == signal.SIGKILL:
        used = f" It had used {peak_memory_bytes / GIB:.1f} GiB of memory at most." if peak_memory_bytes else ""
        return f"The kernel was killed ({name}) from outside.{used} If nobody did it on purpose, run it again."
    remedy = REMEDIES.get(number, "")
    return f"The kernel crashed with {name}. {remedy}".strip()


CGROUPS = Path("/sys/fs/cgroup")
KILL_COUNTS = ("memory.events", "memory.oom_control")


def memory_cgroup(mounted: Path = CGROUPS, process: Path = Path("/proc/self/cgroup")) -> Path | None:
    """The memory control group of this process, in version 1 or 2; in a container, that of the container.

    A container often sees its group at the mount itself, while /proc names a path of the machine that is not there.
    """
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return None
    entries = [line.split(":", 2) for line in lines]
    old = [mounted / "memory" / path.lstrip("/") for _, kinds, path in entries if "memory" in kinds.split(",")]
    new = [mounted / path.lstrip("/") for number, _, path in entries if number == "0"]
    folders = [*old, *new, mounted / "memory", mounted]
    return next((folder for folder in folders if any((folder / name).exists() for name in KILL_COUNTS)), None)


def count_oom_kills(group: Path | None) -> int:
    """How many processes the kernel has killed in this group for want of memory."""
    if group is None:
        return 0
    for name in KILL_COUNTS:
        try:
            lines = (group / name).read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def limit_bytes(group: Path | None) -> int | None:
    """What the group may use; None where nothing limits it."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        if group and (group / name).exists():
            text = (group / name).read_text().strip()
            # Version 1 writes 'no limit' as the largest number of pages.
            return int(text) if text.isdigit() and int(text) < 2**60 else None
    return None


class OomWatch:
    """Tells whether the machine has killed something for want of memory since it was last asked."""

    def __init__(self) -> None:
        self.group = memory_cgroup()
        self.seen = count_oom_kills(self.group)

    def struck(self) -> bool:
        now = count_oom_kills(self.group)
        before, self.seen = self.seen, now
        return now > before
