"""Which preload set a kernel is forked from: what a notebook imports, and what a parent may know of its run."""

from __future__ import annotations

import nbformat
import pytest

from labwright.kernels.environment import identity, import_time_variables
from labwright.kernels.preload import BASE, choose_set, imports_in, imports_in_file, imports_of, installed, propose_set
from tests.kernels.running import make_notebook

SETS = {BASE: (), "data": ("numpy", "pandas"), "models": ("numpy", "pandas", "sklearn.ensemble", "mlflow")}


def test_imports_are_found_in_cells_with_magics():
    assert imports_in("%matplotlib inline\nimport pandas as pd\nfrom sklearn.svm import SVC") == {"pandas", "sklearn"}
    assert imports_in("import os, numpy") == {"os", "numpy"}


def test_what_cannot_be_parsed_is_looked_at_line_by_line():
    assert imports_in("import numpy\nimport os, sys\nx = " + "-" * 100_000 + "1") == {"numpy", "os"}


@pytest.mark.parametrize(
    ("imports", "name"),
    [((), BASE), (("json",), BASE), (("pandas",), "data"), (("pandas", "sklearn"), "models"), (("mlflow",), "models")],
)
def test_the_smallest_set_that_helps_most_is_chosen(imports, name):
    assert choose_set(SETS, imports) == name


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['OMP_NUM_THREADS'] = '1'",
        "%env MPLBACKEND=agg",
        "os.environ.update({\n    'OPENBLAS_NUM_THREADS': '1',\n})",
    ],
)
def test_nothing_is_imported_ahead_of_a_notebook_that_sets_what_libraries_read_at_import(source):
    assert imports_of(make_notebook("import numpy, pandas")) == {"numpy", "pandas"}
    assert imports_of(make_notebook(source, "import numpy, pandas")) == frozenset()


@pytest.mark.parametrize("source", ["import os\nos.environ['HOME']", "TF_IDF = 1", "%env MLFLOW_TRACKING_URI=x"])
def test_other_variables_do_not_keep_libraries_from_being_imported_ahead(source):
    assert imports_of(make_notebook(source, "import pandas")) >= {"pandas"}


def test_the_imports_of_a_file_are_those_of_a_notebook_that_can_be_read(tmp_path):
    file = tmp_path / "a.ipynb"
    nbformat.write(make_notebook("# Title", "import torch\nfrom pandas import DataFrame"), file)
    assert imports_in_file(str(file)) == {"torch", "pandas"}
    assert imports_in_file(str(file), most_bytes=10) == frozenset()
    for text in ("", "[]", "{}", '{"cells": [1]}', '{"cells": [{"cell_type": "code"}], "metadata": {}}'):
        file.write_text(text)
        assert imports_in_file(str(file)) == frozenset()
    file.write_bytes(b"\xff")
    assert imports_in_file(str(file)) == imports_in_file(str(tmp_path / "none.ipynb")) == imports_in_file("")


def test_of_the_usual_sets_those_are_taken_whose_packages_are_there():
    sets = {"a": ("json", "os.path"), "b": ("json", "os.path", "no_such_package.part"), "c": ("no_such_package",)}
    assert installed(sets) == {"a": ("json", "os.path")}


def test_a_set_is_proposed_from_what_notebooks_import():
    notebooks = [make_notebook("import pandas, os"), make_notebook("import pandas"), make_notebook("import duckdb")]
    assert propose_set(notebooks, least_share=0.5) == ("pandas",)


def test_tokens_never_reach_a_parent():
    env = {
        "PATH": "/bin",
        "JUPYTER_TOKEN": "t",
        "JUPYTERHUB_API_TOKEN": "t",
        "MLFLOW_TRACKING_TOKEN": "t",
        "HOME": "/h",
    }
    assert import_time_variables({**env, "PYTHON_API_KEY": "k"}) == {"PATH": "/bin", "HOME": "/h"}


def test_variables_that_matter_at_import_ask_for_another_parent():
    assert identity(BASE, {"OMP_NUM_THREADS": "1"}) != identity(BASE, {"OMP_NUM_THREADS": "2"})
