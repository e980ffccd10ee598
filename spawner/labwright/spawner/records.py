"""What the launcher remembers of the processes it started, kept in a file so that its restart loses none."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

KEEP_ENDED = 500  # so that a restarted hub can still ask how its servers ended


@dataclass
class Record:
    id: str
    principal: str
    name: str
    started: float
    pid: int = 0
    start_ticks: int = 0
    enforced: str = "none"
    cgroups: list[str] = field(default_factory=list)
    gpus: list[str] = field(default_factory=list)  # keys of those that it was given
    ended: bool = False
    stopping: bool = False
    exit_code: int | None = None
    reason: str | None = None
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    peak_memory_bytes: int = 0

    @classmethod
    def new(cls, principal: str, name: str) -> Record:
        return cls(secrets.token_hex(8), principal, name, time.time())


class Records:
    """The launches of one workbench. Every change that matters after a restart is on disk before it is answered."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: dict[str, Record] = {}
        self.instance = secrets.token_hex(4)
        if path.exists():
            try:
                stored = json.loads(path.read_text())
                self.instance = stored["instance"]
                self._records = {item["id"]: Record(**item) for item in stored["processes"]}
            except (ValueError, KeyError, TypeError):
                path.rename(path.with_suffix(f".unreadable-{int(time.time())}"))
        self.save()

    def add(self, record: Record) -> None:
        self._records[record.id] = record
        ended = [known for known in self._records.values() if known.ended]
        for old in ended[: max(0, len(ended) - KEEP_ENDED)]:
            del self._records[old.id]
        self.save()

    def get(self, id: str) -> Record | None:
        return self._records.get(id)

    def by_pid(self, pid: int) -> Record | None:
        return next((record for record in self._records.values() if record.pid == pid and not record.ended), None)

    def all(self) -> list[Record]:
        return list(self._records.values())

    def save(self) -> None:
        text = json.dumps({"instance": self.instance, "processes": [asdict(record) for record in self.all()]})
        partial = self._path.with_suffix(".new")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        partial.replace(self._path)


def describe_exit(exit_code: int | None, *, out_of_memory: bool, stopping: bool) -> str:
    """A sentence for the person whose process ended."""
    if out_of_memory:
        return "It ran out of memory and was ended. Choose a larger profile, or load less at a time."
    if exit_code is None:
        return "It ended while the launcher restarted, so its exit code is not known."
    if stopping:
        return "It was stopped."
    if exit_code == -signal.SIGKILL:
        return (
            "It was killed, most likely because the machine ran out of memory. Choose a smaller job or ask your admin."
        )
    if exit_code < 0:
        return f"It crashed ({signal.Signals(-exit_code).name}). Its log says more."
    if exit_code == 0:
        return "It ended by itself."
    return f"It failed with exit code {exit_code}. Its log says why."
