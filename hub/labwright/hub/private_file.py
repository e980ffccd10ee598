"""Files that their owner alone may read: written whole or not at all, also when the machine stops."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """0600, owned by whoever owns the folder. A file that has the text already is left alone."""
    if path.exists() and path.read_bytes() == text.encode():
        return
    partial = path.with_name(path.name + ".new")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)  # else an empty file could stand under the name after the machine stopped
    owner = path.parent.stat()
    if os.geteuid() == 0:
        os.chown(partial, owner.st_uid, owner.st_gid)
    partial.replace(path)
