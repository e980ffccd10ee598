"""What an engine is handed is what papermill would have loaded."""

from __future__ import annotations

import copy

import pytest
from nbformat import from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbformat.warnings import DuplicateCellId
from papermill.iorw import load_notebook_node

from labwright.kernels.notebooks import is_orderly, load_for_papermill


def make(**changes):
    cells = [new_markdown_cell("# T"), new_code_cell("x = 1\nx", metadata={"tags": ["parameters"]}), new_code_cell("x")]
    return from_dict({**new_notebook(cells=cells, metadata={"title": "T"}), **changes})


def without_ids():
    notebook = make(nbformat_minor=4)
    for cell in notebook.cells:
        del cell["id"]
    return notebook


def loaded_before():
    return load_for_papermill(make())


@pytest.mark.parametrize(("notebook", "orderly"), [(make(), True), (loaded_before(), True), (without_ids(), False)])
def test_it_is_loaded_as_papermill_loads_it(notebook, orderly):
    before = copy.deepcopy(notebook)
    assert is_orderly(notebook) is orderly
    ours, theirs = load_for_papermill(notebook), load_notebook_node(copy.deepcopy(notebook))
    for loaded in (ours, theirs):
        if not orderly:  # ids are made up
            for cell in loaded.cells:
                del cell["id"]
    assert ours == theirs
    assert notebook == before


def test_text_in_pieces_and_cells_of_one_id_are_repaired():
    pieces = make()
    pieces.cells[1]["source"] = ["x = 1\n", "x"]
    twins = make()
    twins.cells[2]["id"] = twins.cells[1]["id"]
    assert load_for_papermill(pieces).cells[1].source == "x = 1\nx"
    with pytest.warns(DuplicateCellId):
        ids = [cell.id for cell in load_for_papermill(twins).cells]
    assert len(set(ids)) == 3
