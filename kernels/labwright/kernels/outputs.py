"""Outputs of cells, cut where they are too large to store, with a visible mark (pure)."""

from __future__ import annotations

import json
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output

CELL_BYTES = 2 * 1024 * 1024


def capped(cell: NotebookNode, limit: int = CELL_BYTES) -> NotebookNode:
    """The cell itself when its outputs fit, else a copy that keeps as many as do."""
    outputs = cell.get("outputs") or []
    kept: list[Any] = []
    left = limit
    for output in outputs:
        size = _size(output)
        if size <= left:
            kept.append(output)
            left -= size
            continue
        if output.get("output_type") == "stream" and left > 0:
            kept.append({**output, "text": output["text"][:left]})
        break
    if len(kept) == len(outputs) and left >= 0 and all(a is b for a, b in zip(kept, outputs, strict=True)):
        return cell
    text = f"\n[Labwright cut the output here: a cell may show {limit / 2**20:g} MB.]\n"
    mark = new_output("stream", name="stderr", text=text)  # type: ignore[no-untyped-call]
    return NotebookNode({**cell, "outputs": [*kept, mark]})  # type: ignore[no-untyped-call]


def _size(output: Any) -> int:
    if output.get("output_type") == "stream":
        return len(output["text"])
    return len(json.dumps(output, default=str))
