"""What a built thing was built from, as a hash: built again only when that changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

IGNORED = {"__pycache__", ".mypy_cache", ".ruff_cache", "node_modules"}


def hash_of(paths: Iterable[Path], *more: str) -> str:
    """One hash over files (folders: every file below), their names and the words in `more`."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(_files(path)):
            digest.update(f"{file.relative_to(path.parent)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    for word in more:
        digest.update(f"{word}\0".encode())
    return digest.hexdigest()


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    return [p for p in path.rglob("*") if p.is_file() and not IGNORED & set(p.parts) and p.suffix != ".pyc"]


def is_current(folder: Path, key: str) -> bool:
    stamp = folder / ".key"
    return stamp.exists() and stamp.read_text() == key


def stamp(folder: Path, key: str) -> None:
    """Last of all: a build that was cut short has no stamp and starts again."""
    (folder / ".key").write_text(key)
