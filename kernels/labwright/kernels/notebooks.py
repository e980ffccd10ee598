"""Notebook documents on disk, written so that no reader ever sees half a file."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from nbformat import NotebookNode


def write_durably(text: str, path: Path) -> None:
    """Replace `path` by `text`, synced to disk: after a crash there is the old file or the new one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fdatasync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write `notebook` as papermill does, but durably and in one step."""
    write_durably(nbformat.writes(notebook), path)  # type: ignore[no-untyped-call]
