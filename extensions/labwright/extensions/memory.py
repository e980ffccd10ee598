"""Whether the machine has killed a kernel for want of memory, as this server's control group tells it."""

from __future__ import annotations

from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
GIB = 2**30


def own_group(membership: str, root: Path = CONTROL_GROUPS) -> Path | None:
    """The folder of this process's memory group, of version 1 or 2. `membership`: /proc/self/cgroup.

    In a container the path is the host's, and the container's own group is mounted as the root.
    """
    for line in sorted(membership.splitlines(), reverse=True):
        _number, controllers, path = line.split(":", 2)
        base = root / "memory" if controllers == "memory" else root
        if controllers in ("memory", ""):
            for folder in (base / path.lstrip("/"), base):
                if _counter(folder) is not None:
                    return folder
    return None


def count_kills(folder: Path | None) -> int:
    """How many processes of the group the machine has killed for want of memory."""
    counter = _counter(folder) if folder else None
    if counter is None:
        return 0
    for line in counter.read_text().splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def limit_bytes(folder: Path | None) -> int | None:
    """What the group may use; None where nothing limits it."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        if folder and (folder / name).exists():
            text = (folder / name).read_text().strip()
            # Version 1 writes 'no limit' as the largest number of pages.
            return int(text) if text.isdigit() and int(text) < 2**60 else None
    return None


def describe_kill(limit: int | None) -> str:
    has = f" of {limit / GIB:.1f} GiB" if limit else ""
    return (
        f"The kernel was killed: it needed more memory than this server has{has}. Its variables are gone. "
        "Load less data at a time, or start a server of a larger profile.\n"
    )


def _counter(folder: Path) -> Path | None:
    for name in ("memory.events", "memory.oom_control"):
        if (folder / name).is_file():
            return folder / name
    return None
