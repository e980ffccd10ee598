"""Whether the disk that holds the workbench's state is full."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

# Below this no database takes another row.
FULL_BYTES = 1 << 20
# How SQLite and PostgreSQL say it, themselves or through MLflow.
_WORDS = ("disk is full", "no space left on device")


def is_full(folder: Path) -> bool:
    """Whether nothing more can be stored in `folder`."""
    try:
        return shutil.disk_usage(folder).free < FULL_BYTES
    except OSError:
        return False


def says_full(text: str) -> bool:
    return any(word in text.lower() for word in _WORDS)


def caused(error: BaseException) -> bool:
    """Whether a full disk is why this was raised."""
    return any(
        (isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT)) or says_full(str(one))
        for one in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
