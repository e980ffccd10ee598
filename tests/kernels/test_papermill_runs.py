"""`papermill --engine labwright` beside papermill's own engine: where it writes."""

from __future__ import annotations

import nbformat
import papermill
import pytest

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
