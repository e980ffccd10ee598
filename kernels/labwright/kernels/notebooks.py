"""Notebook documents on disk, written so that no reader ever sees half a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode, v4


def copy_notebook(node: Any) -> Any:
    """A copy of the containers; the (immutable) strings are shared, however large they are."""
    if isinstance(node, dict):
        return NotebookNode((key, copy_notebook(value)) for key, value in node.items())
    if isinstance(node, list):
        return [copy_notebook(item) for item in node]
    return node


def load_for_papermill(notebook: NotebookNode) -> NotebookNode:
    """A copy with papermill's metadata, as `papermill.iorw.load_notebook_node` makes it.

    A notebook of the newest format needs no trip through text and validation, which take 4 ms.
    """
    from papermill.iorw import load_notebook_node

    newest = (notebook.nbformat, notebook.nbformat_minor) == (v4.nbformat, v4.nbformat_minor)
    if not newest or "papermill" not in notebook.metadata:
        loaded: NotebookNode = load_notebook_node(notebook)
        return loaded
    copied: NotebookNode = copy_notebook(notebook)
    return copied


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
    write_durably(nbformat.writes(notebook), path)
