"""The output notebook of a run: papermill's bookkeeping, serialised once per cell and written durably.

The text is the one that `nbformat.writes` makes, byte for byte; but a cell that did not change is not
serialised again, so that writing after each cell costs what that cell costs.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4.rwbase import split_lines
from papermill.engines import NotebookExecutionManager
from papermill.log import logger

from labwright.kernels.execution import CellProgress
from labwright.kernels.notebooks import write_durably

CONSTANTS = {None: "null", True: "true", False: "false"}
TRANSIENT = ("orig_nbformat", "orig_nbformat_minor", "signature")


def render(value: Any, indent: str) -> str:
    """JSON as `nbformat.writes` lays it out: one space a level, keys sorted, characters as they are.

    The standard library has no compiled encoder for indented JSON; this is six times as fast as its own.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or value is True or value is False:
        return CONSTANTS[value]
    if isinstance(value, dict):
        if not value:
            return "{}"
        inner = indent + " "
        items = [f"{render_key(key)}: {render(value[key], inner)}" for key in sorted(value)]
        return f"{{{inner}{f',{inner}'.join(items)}{indent}}}"
    if isinstance(value, list | tuple):
        if not value:
            return "[]"
        inner = indent + " "
        return f"[{inner}{f',{inner}'.join([render(item, inner) for item in value])}{indent}]"
    return int.__repr__(value) if isinstance(value, int) else json.dumps(value)


def render_key(key: Any) -> str:
    """A name, which JSON wants as text whatever it is."""
    return encode_basestring(key) if isinstance(key, str) else json.dumps({key: 0})[1:-4]


def serialise_cell(cell: NotebookNode) -> str:
    """The cell as it stands in the file, indented by the two levels that it is nested in."""
    return render(split_lines(NotebookNode(cells=[apart(cell)])).cells[0], "\n  ")


def apart(cell: NotebookNode) -> NotebookNode:
    """A copy of the cell as deep as `split_lines` changes it."""
    parts = {**cell, "metadata": {name: value for name, value in cell.metadata.items() if name != "trusted"}}
    if "attachments" in cell:
        parts["attachments"] = {name: dict(bundle) for name, bundle in cell.attachments.items()}
    if "outputs" in cell:
        parts["outputs"] = [
            NotebookNode({**output, "data": dict(output.data)} if "data" in output else output)
            for output in cell.outputs
        ]
    return NotebookNode(parts)


class Record(NotebookExecutionManager):  # type: ignore[misc]
    """Papermill's record of a run, for engines that execute without papermill's own client."""

    def __init__(
        self,
        notebook: NotebookNode,
        output_path: Path | None,
        on_cell: Callable[[CellProgress], None],
        progress_bar: bool | dict[str, Any] = False,
    ) -> None:
        super().__init__(notebook, output_path=output_path, progress_bar=progress_bar)
        self.output_path: Path | None = output_path
        self.on_cell = on_cell
        self.texts: dict[int, str] = {}
        self.running: int | None = None
        # Whether cells of the run may read its document, and are to find it as papermill keeps it.
        self.is_read = False

    def touch(self, index: int) -> None:
        """Cell `index` has changed since it was written."""
        self.texts.pop(index, None)

    def save(self, **_: object) -> None:
        if self.output_path:
            write_durably(self.serialise(), self.output_path)
        self.last_save_time = self.now()

    def save_progress(self) -> None:
        """Write what a long cell has shown so far."""
        if self.running is not None:
            self.touch(self.running)
            self.save()
            self.touch(self.running)

    def serialise(self) -> str:
        cells = self.nb.cells
        for index in range(len(cells)):
            if index not in self.texts:
                self.texts[index] = serialise_cell(cells[index])
        body = ",\n  ".join(self.texts[index] for index in range(len(cells)))
        rest = {key: value for key, value in self.nb.items() if key != "cells"}
        rest["metadata"] = {k: v for k, v in self.nb.metadata.items() if k not in TRANSIENT}
        listed = f"[\n  {body}\n ]" if cells else "[]"
        return f'{{\n "cells": {listed},{render(rest, chr(10))[1:]}'

    # -- what papermill calls -------------------------------------------------------------------------

    def autosave_cell(self, **_: object) -> None:
        """Not by message: the engine saves the progress of long cells by the clock."""

    def cell_start(self, cell: NotebookNode, cell_index: int, **_: object) -> None:
        self.running = cell_index
        self.touch(cell_index)
        written = self.output_path
        try:
            # Most cells end before anybody could read that they run: the engine writes for those that do not.
            self.output_path = written if self.is_read else None
            super().cell_start(cell, cell_index)
        finally:
            self.output_path = written
        self.on_cell(CellProgress(cell_index, len(self.nb.cells), cell, "started"))

    def began(self, cell: NotebookNode, seconds: float) -> None:
        """The kernel was given the running cell at this time, which may be before `cell_start` was called."""
        cell.metadata.papermill["start_time"] = datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()

    def cell_complete(self, cell: NotebookNode, cell_index: int, **_: object) -> None:
        self.running = None
        self.close(cell, cell_index)
        # Text that did not run needs no write of its own, and the last cell is written with the notebook's end.
        if cell.get("outputs") is not None and cell_index < len(self.nb.cells) - 1:
            self.save()
        self.on_cell(CellProgress(cell_index, len(self.nb.cells), cell, "finished"))

    def close(self, cell: NotebookNode, index: int) -> None:
        """As papermill's cell_complete, which spends its time on parsing the start time with dateutil."""
        self.touch(index)
        if self.log_output:
            logger.info(f"Ending Cell {index + 1:-<43}")
        noted, now = cell.metadata.papermill, self.now()
        noted["end_time"] = now.isoformat()
        noted["duration"] = (now - datetime.datetime.fromisoformat(noted["start_time"])).total_seconds()
        if noted["status"] != self.FAILED:
            noted["status"] = self.COMPLETED
        if self.pbar:
            self.pbar.update(1)

    def notebook_complete(self, **_: object) -> None:
        for index, cell in enumerate(self.nb.cells):
            if cell.metadata.papermill["status"] != self.COMPLETED:
                self.touch(index)
        super().notebook_complete()

    def start_over(self) -> None:
        """Cells have come or gone: nothing that was serialised can be used again."""
        self.texts.clear()
