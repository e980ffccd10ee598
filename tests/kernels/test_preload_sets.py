"""Which preload set a kernel is forked from: what a notebook imports, and what a parent may know of its run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from labwright.kernels.environment import identity, import_time_variables
from labwright.kernels.notebook_imports import imports_in, imports_in_file, imports_of, propose_set
from labwright.kernels.preload import BASE, MODELS, choose_set, installed
from tests.kernels.running import make_notebook

SETS = {BASE: (), "data": ("numpy", "pandas"), "models": ("numpy", "pandas", "sklearn.ensemble", "mlflow")}

# Prints the names of the variables that an import looks up, but for whoever looks at all of them.
WATCHING = """
import importlib, json, os, sys
looked, ask = set(), type(os.environ).__getitem__
def note(environ, name):
    frame = sys._getframe(1)
    while frame and frame.f_code.co_filename.endswith(("os.py", "_collections_abc.py", "<frozen os>", ">")):
        frame = frame.f_back
    if frame and not frame.f_code.co_filename.endswith(EVERYTHING):
        looked.add(os.fsdecode(name))
    return ask(environ, name)
EVERYTHING = ("tqdm/utils.py", "mlflow/telemetry/utils.py", "mlflow/agent/hint.py")
type(os.environ).__getitem__ = note
"""
# Of platforms and builds that are not there, of tests, and what is told to a kernel after the fork.
WITHOUT_EFFECT = ("DATABRICKS_", "IS_IN_DB_", "SPARK_", "PYSPARK_", "PY4J_", "_MLFLOW_", "_PYTHON_", "LABWRIGHT_")
WITHOUT_EFFECT += (
    "BUILDING_SPHINX_DOCS",
    "IN_SPHINX_RUN",
    "PSUTIL_DEBUG",
    "PYPARSINGENABLEALLWARNINGS",
    "MLFLOW_DISABLE_AGENT_HINT",
)
WITHOUT_EFFECT += ("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "TRAITLETS_APPLICATION_RAISE_CONFIG_FILE_ERROR")


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
        "%env MLFLOW_LOGGING_LEVEL=DEBUG",
        "%pip install -q pandas==2.2",
        "!python -m pip install --target vendor pandas",
        "import sys\nsys.path.insert(0, 'vendor')",
        "sys.path = ['vendor', *sys.path]",
        "sys.path[0:0] = ['vendor']",
    ],
)
def test_nothing_is_imported_ahead_of_a_notebook_that_steers_what_an_import_brings(source, tmp_path):
    file = tmp_path / "a.ipynb"
    nbformat.write(make_notebook(source, "import numpy"), file)
    assert imports_in_file(str(file), ["pandas"]) == frozenset()
    assert imports_of(make_notebook("import numpy, pandas")) == {"numpy", "pandas"}
    assert imports_of(make_notebook(source, "import numpy, pandas")) == frozenset()


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['HOME']",
        "TF_IDF = 1",
        "%env MLFLOW_TRACKING_URI=x",
        "sys.path.append('src')",
        "print(sys.path); sys.path == []",
        "# pip may be asked what is installed\n%pip list",
    ],
)
def test_other_cells_do_not_keep_libraries_from_being_imported_ahead(source):
    assert imports_of(make_notebook(source, "import pandas")) >= {"pandas"}


def test_the_imports_of_a_file_are_those_of_a_notebook_that_can_be_read(tmp_path):
    file = tmp_path / "a.ipynb"
    nbformat.write(make_notebook("# Title", "import torch\nfrom pandas import DataFrame"), file)
    assert imports_in_file(str(file)) == {"torch", "pandas"}
    assert imports_in_file(str(file), ["numpy"]) == {"torch", "pandas", "numpy"}
    assert imports_in_file(str(file), ["numpy"], most_bytes=10) == {"numpy"}
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


def test_a_relative_pythonpath_is_as_a_process_in_the_notebooks_folder_reads_it():
    env = {"PYTHONPATH": "src:/opt/lib::.:../common"}
    found = import_time_variables(env, Path("/home/a/project"))
    assert found == {"PYTHONPATH": "/home/a/project/src:/opt/lib:/home/a/project/../common"}
    assert import_time_variables(found) == found
    assert import_time_variables({"PYTHONPATH": ":."}, Path("/home/a/project")) == {}


def test_a_parent_may_see_every_variable_that_its_set_looks_at_when_it_is_imported():
    code = WATCHING + f"for name in {MODELS!r}: importlib.import_module(name)\nprint(json.dumps(sorted(looked)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    looked = json.loads(answer.stdout)
    assert "TQDM_DISABLE" not in looked  # it reads all by their prefix
    assert "MLFLOW_LOGGING_LEVEL" in looked
    unseen = [name for name in looked if not import_time_variables({name: "x"})]
    assert [name for name in unseen if not name.startswith(WITHOUT_EFFECT)] == []


def test_variables_that_matter_at_import_ask_for_another_parent():
    assert identity(BASE, {"OMP_NUM_THREADS": "1"}) != identity(BASE, {"OMP_NUM_THREADS": "2"})
