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

    A notebook that needs no repair needs no trip through text and validation, which take 4 ms.
    """
    from papermill import __version__
    from papermill.iorw import load_notebook_node

    if not is_orderly(notebook):
        loaded: NotebookNode = load_notebook_node(notebook)
        return loaded
    copied: NotebookNode = copy_notebook(notebook)
    if "papermill" not in copied.metadata:
        empty = {name: NotebookNode() for name in ("default_parameters", "parameters", "environment_variables")}
        copied.metadata["papermill"] = NotebookNode(**empty, version=__version__)
    for cell in copied.cells:
        cell.metadata.setdefault("tags", [])
        cell.metadata.setdefault("papermill", NotebookNode())
    return copied


def is_orderly(notebook: NotebookNode) -> bool:
    """Whether it is of the newest format, its text in one piece and its cells told apart by ids."""
    if (notebook.nbformat, notebook.nbformat_minor) != (v4.nbformat, v4.nbformat_minor):
        return False
    ids = {cell.get("id") for cell in notebook.cells}
    return (
        len(ids) == len(notebook.cells) and None not in ids and all(isinstance(c.source, str) for c in notebook.cells)
    )


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
