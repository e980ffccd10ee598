"""`papermill --engine labwright` beside papermill's own engine: where it writes, when, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import papermill
import pytest
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from tests.kernels.running import make_notebook


@pytest.fixture
def folder(tmp_path, monkeypatch, fork_server):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABWRIGHT_KERNELS_DIRECTORY", str(fork_server.directory))
    return tmp_path


@pytest.fixture(params=["papermill's own", "labwright"])
def engine(request):
    return None if request.param == "papermill's own" else request.param


def execute(*sources: str, output: str = "out.ipynb", engine: str | None = "labwright", **options: object) -> None:
    nbformat.write(make_notebook(*sources), "in.ipynb")
    papermill.execute_notebook("in.ipynb", output, engine_name=engine, progress_bar=False, **options)


def shown(path: str = "out.ipynb") -> list[tuple[str, list[str]]]:
    """Of each cell what papermill noted of it, and which errors it shows."""
    cells = nbformat.read(path, as_version=4).cells
    errors = [[out.ename for out in cell.outputs if out.output_type == "error"] for cell in cells]
    return [(cell.metadata.papermill.status, names) for cell, names in zip(cells, errors, strict=True)]


def test_the_output_is_written_from_where_papermill_was_started(folder, engine):
    (folder / "sub").mkdir()
    (folder / "res").mkdir()
    execute("import os\nos.path.basename(os.getcwd())", output="res/out.ipynb", engine=engine, cwd="sub")
    (output,) = nbformat.read("res/out.ipynb", as_version=4).cells[0].outputs
    assert output.data["text/plain"] == "'sub'"
    assert list((folder / "sub").iterdir()) == []


def test_every_save_goes_to_where_papermill_was_started(folder):
    (folder / "sub").mkdir()
    execute("import json", "len(json.load(open('../out.ipynb'))['cells'])", "import os\nos.listdir()", cwd="sub")
    outputs = [cell.outputs for cell in nbformat.read("out.ipynb", as_version=4).cells]
    assert [output[0].data["text/plain"] for output in outputs[1:]] == ["3", "[]"]


def test_a_cell_whose_end_is_never_told_fails_and_says_why(folder):
    with pytest.raises(DeadKernelError, match="did not say how a cell ended"):
        execute("get_ipython().user_expressions = None", "2")
    assert [status for status, _ in shown()] == ["failed", "pending"]


@pytest.mark.parametrize("before", ["", "1\n"])
def test_a_group_of_errors_fails_the_first_cell(folder, before):
    raising = "async def fail(): raise ExceptionGroup('several', [ValueError('one')])\nawait fail()"
    with pytest.raises(PapermillExecutionError):
        execute(before + raising, "2")
    cells = json.loads(Path("out.ipynb").read_text())["cells"]
    text = "".join(line for cell in cells for output in cell.get("outputs", []) for line in output.get("text", []))
    assert "ValueError: one" in text
