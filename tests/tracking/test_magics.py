"""A person's kernel: %track, a scikit-learn fit, %register, through MLflow's own client and the door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labwright.magics.mlflow_plugin import DoorAuth, is_below, notebook_path

BEGIN = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "labwright.magics")

def run(text):
    result = shell.run_cell(text)
    assert result.success, (text, result.error_in_exec)
    return repr(result.result)

"""

# Fits, registers, and reads back what was logged.
WHOLE = """
said = [run("%track late-flights")]
run('''
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
X, y = load_iris(return_X_y=True, as_frame=True)
model = LogisticRegression(max_iter=300).fit(X, y)
''')
said += [run("%track"), run("%register iris --alias champion"), run("%track stop"), run("%track")]
import mlflow
run_id = mlflow.last_active_run().info.run_id
version = mlflow.MlflowClient().get_model_version_by_alias("iris", "champion")
loaded = mlflow.pyfunc.load_model("models:/iris@champion")
known = mlflow.get_run(run_id)
print("RESULT " + json.dumps({
    "said": said, "version": version.version, "tags": known.data.tags, "params": known.data.params,
    "metrics": known.data.metrics, "version_tags": version.tags, "user": known.info.user_id,
    "signature": [str(name) for name in loaded.metadata.signature.inputs.input_names()],
    "predictions": len(loaded.predict(shell.user_ns["X"])),
}))
"""

# Begins a run in an experiment and ends it.
BRIEF = """
said = [run("%track " + sys.argv[1])]
run("import mlflow; mlflow.active_run() or mlflow.start_run(); mlflow.log_metric('m', 1)")
run_id = shell.user_ns["mlflow"].active_run().info.run_id
said += [run("%track stop")]
import os
known = shell.user_ns["mlflow"].get_run(run_id)
print("RESULT " + json.dumps({"said": said, "tags": known.data.tags, "telemetry": os.environ["DO_NOT_TRACK"]}))
"""


def kernel(bench: Any, token: str, folder: Path, cells: str, *arguments: str, **extra: str) -> dict[str, Any]:
    """Run the notebook's cells in a process that has what a person's kernel has."""
    token_file = folder / "token"
    token_file.write_text(token)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "USER": "root",
        "IPYTHONDIR": str(folder / "ipython"),
        "LABWRIGHT_CORE_URL": bench.url,
        "LABWRIGHT_DATA_URL": "http://127.0.0.1:9/services/data",
        "LABWRIGHT_TOKEN_FILE": str(token_file),
        "LABWRIGHT_NOTEBOOK": "work/iris.ipynb",
        "LABWRIGHT_PROFILE": "small",
        **extra,
    }
    script = folder / "cells.py"
    script.write_text(BEGIN + cells)
    argv = [sys.executable, str(script), *arguments]
    done = subprocess.run(argv, env=environ, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    assert token not in done.stdout + done.stderr
    return json.loads(line.removeprefix("RESULT "))


def test_a_notebook_tracks_fits_and_registers(bench: Any, mlflow: Any, tmp_path: Path) -> None:
    found = kernel(bench, bench.resolver.add("erika"), tmp_path, WHOLE)
    assert found["user"] == found["tags"]["mlflow.user"] == "erika"
    assert found["tags"]["labwright.notebook"] == "work/iris.ipynb"
    assert found["tags"]["labwright.profile"] == "small"
    assert found["params"]["max_iter"] == "300"
    assert found["metrics"]["training_accuracy_score"] > 0.9
    assert found["version"] in (1, "1")
    assert found["version_tags"]["labwright.notebook"] == "work/iris.ipynb"
    assert float(found["version_tags"]["metric.training_accuracy_score"]) > 0.9
    assert len(found["signature"]) == 4
    assert found["predictions"] == 150
    on, shown, registered, off, nothing = found["said"]
    assert on.startswith("Tracking is on")
    assert "sklearn" in on
    assert "training_accuracy_score" in shown
    assert registered.startswith("Registered iris version 1")
    assert "champion" in registered
    assert off.startswith("Tracking is off")
    assert "%track NAME" in nothing


def test_a_group_s_experiment_is_seen_by_its_members(bench: Any, mlflow: Any, tmp_path: Path) -> None:
    kernel(bench, bench.resolver.add("frank", groups=("research",)), tmp_path, BRIEF, "shared --group research")
    with bench.http(bench.resolver.add("gita", groups=("research",))) as gita:
        query = {"experiment_name": "shared"}
        path = "/mlflow/api/2.0/mlflow/experiments/get-by-name"
        assert gita.get(path, params=query, headers={"X-MLFLOW-WORKSPACE": "research"}).status_code == 200
        assert gita.get(path, params=query).status_code == 404


def test_a_job_s_run_is_linked_to_its_tracking(bench: Any, mlflow: Any, tmp_path: Path) -> None:
    # Core answers 404 for a run that it does not know: tracking goes on.
    found = kernel(bench, bench.resolver.add("hana"), tmp_path, BRIEF, "late-flights", LABWRIGHT_RUN_ID="run-7")
    assert found["tags"]["labwright.run_id"] == "run-7"
    assert found["telemetry"] == "true"
    assert "run:" in found["said"][0]


@pytest.mark.parametrize(
    ("url", "ours"),
    [
        ("http://127.0.0.1:8003/services/core/mlflow/api/2.0/x", True),
        ("http://127.0.0.1:8003/services/core/mlflow", True),
        ("http://127.0.0.1:8003/services/core/mlflowing", False),
        ("http://127.0.0.1:8004/services/core/mlflow/x", False),
        ("http://127.0.0.1.evil.org:8003/services/core/mlflow/x", False),
        ("http://user@evil.org/services/core/mlflow/x", False),
        ("https://127.0.0.1:8003/services/core/mlflow/x", False),
    ],
)
def test_the_token_goes_to_the_door_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, ours: bool
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("first")
    monkeypatch.setenv("LABWRIGHT_CORE_URL", "http://127.0.0.1:8003/services/core")
    monkeypatch.setenv("LABWRIGHT_DATA_URL", "http://127.0.0.1:8004/services/data")
    monkeypatch.setenv("LABWRIGHT_TOKEN_FILE", str(token_file))
    assert is_below(url, "http://127.0.0.1:8003/services/core/mlflow") is ours
    request = DoorAuth()(SimpleNamespace(url=url, headers={}))
    assert request.headers == ({"Authorization": "Bearer first"} if ours else {})
    token_file.write_text("renewed")
    request = DoorAuth()(SimpleNamespace(url=url, headers={}))
    assert request.headers == ({"Authorization": "Bearer renewed"} if ours else {})


def test_the_notebook_is_named_relative_to_its_owner_s_home() -> None:
    assert notebook_path({"JPY_SESSION_NAME": "/home/a/work/x.ipynb", "HOME": "/home/a"}) == "work/x.ipynb"
    assert notebook_path({"LABWRIGHT_NOTEBOOK": "y.ipynb", "JPY_SESSION_NAME": "/z"}) == "y.ipynb"
    assert notebook_path({}) is None
