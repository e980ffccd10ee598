"""The document of a run is the one that nbformat writes."""

from __future__ import annotations

import copy

import nbformat
import pytest
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from labwright.kernels.record import Record

BUNDLE = {
    "text/plain": "a\nb\n",
    "text/html": "<b>\u2028é</b>\n",
    "application/json": {"b": [1, 2.5, None, True], "a": {}, "c": [[], float("nan")]},
    "application/javascript": "1;\n2;",
    "image/svg+xml": "<svg>\n</svg>",
    "image/png": "iVBORw0KGgo=\n",
    "text/latex": ["in", "pieces"],
}
CELLS = {
    "source": new_code_cell('x = 1\n\nprint("ä\\t\x00")\n'),
    "nothing": new_code_cell(""),
    "markdown": new_markdown_cell("# T\nText", attachments={"a.png": {"image/png": "iVBO\n", "text/plain": "a\nb"}}),
    "raw": new_raw_cell("as it is\n"),
    "streams": new_code_cell("x", outputs=[new_output("stream", name="stderr", text="a\r\nb\fc")]),
    "displays": new_code_cell("x", outputs=[new_output("display_data", BUNDLE, metadata={"image/png": {"width": 3}})]),
    "result": new_code_cell("x", outputs=[new_output("execute_result", BUNDLE, execution_count=3)], execution_count=3),
    "error": new_code_cell("x", outputs=[new_output("error", ename="E", evalue="e\nf", traceback=["a\nb", "c"])]),
    "trusted": new_code_cell("x", metadata={"trusted": True, "tags": ["a"], "deep": {"trusted": False}}),
    "other_names": new_code_cell("x", metadata={"numbers": {1: "a", 2: 1e300}, "big": 10**30}),
}


def document(*cells: NotebookNode) -> NotebookNode:
    return from_dict(new_notebook(cells=copy.deepcopy(list(cells)), metadata={"title": "T", "signature": "x"}))


def written(notebook: NotebookNode) -> str:
    return Record(notebook, None, lambda progress: None).serialise()


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_written_as_nbformat_writes_it_and_stays_as_it_is(name):
    notebook = document(CELLS[name], new_code_cell("after"))
    before = copy.deepcopy(notebook)
    assert written(notebook) == nbformat.writes(notebook)
    assert repr(notebook) == repr(before)


def test_a_notebook_without_cells_is_written_as_nbformat_writes_it():
    assert written(document()) == nbformat.writes(document())
