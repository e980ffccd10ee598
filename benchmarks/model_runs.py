"""Notebooks that import pandas, scikit-learn and MLflow, fit a model and log it, per second.

    make bench NAME=model_runs

Both sides log to the same tracking server, which the benchmark starts as a workbench does, and take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from notebook_runs import measure, workers
from side_by_side import complaints_in, report, take_turns

from labwright.api import names
from labwright.hub import mlflow_server
from labwright.kernels.client import ForkServer
from labwright.kernels.notebook_imports import imports_of
from labwright.spawner import listeners

ROOT = Path(__file__).resolve().parent.parent

FIT = """
frame = pd.DataFrame(load_diabetes(as_frame=True).frame)
model = Ridge(alpha=1 + number % 10).fit(frame.drop(columns="target"), frame.target)
score = model.score(frame.drop(columns="target"), frame.target)
"""
SERVE = """
import socket, sys
sys.path.insert(0, sys.argv[1])
import serve
serve.serve(lambda: socket.socket(fileno=int(sys.argv[2])))
"""
LOG = """
mlflow.set_experiment("bench")
with mlflow.start_run():
    mlflow.log_param("alpha", 1 + number % 10)
    mlflow.log_metric("score", score)
"""


def make_notebook() -> nbformat.NotebookNode:
    imports = "import mlflow\nimport pandas as pd\nfrom sklearn.datasets import load_diabetes\n"
    cells = [
        new_code_cell("number = 0", metadata={"tags": ["parameters"]}),
        new_code_cell(imports + "from sklearn.linear_model import Ridge"),
        new_code_cell(FIT.strip()),
        new_code_cell(LOG.strip()),
        new_code_cell("number * 2"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=metadata)


@contextlib.contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """MLflow as a workbench runs it (`labwright.hub.tracking.serve`), but on a port: both sides log to it directly."""
    python = ROOT / ".envs" / "mlflow" / "bin" / "python"
    with listeners.bind(0, held=False) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [python, "-c", SERVE, str(ROOT / "hub/labwright/hub/tracking"), str(listener.fileno())],
            env={**os.environ, **mlflow_server.stores_in(folder)},
            pass_fds=[listener.fileno()],
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(process, url)
        yield url
    finally:
        process.terminate()
        process.wait()


def wait_until_healthy(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("MLflow did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each side in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        complaints_in(Path(directory) / "stderr") as log,
        tracking_server(Path(directory)) as url,
    ):
        os.environ["MLFLOW_TRACKING_URI"] = url
        os.environ["GIT_PYTHON_REFRESH"] = "quiet"
        # As every kernel of the workbench has it; both sides.
        os.environ.update(names.LIBRARY_DEFAULTS)
        nbformat.write(make_notebook(), Path(directory) / "in.ipynb")
        with workers(options.workers, log) as pool:
            for side in ("ours", "papermill"):
                measure(pool, side, directory, 0.0, options.workers)
            # Until its set is warm, kernels start from the bare parent: what is measured is the state that lasts.
            ForkServer(Path(directory) / "server").wait_warm(os.environ, imports_of(make_notebook()))
            ours, peer = take_turns(
                lambda: measure(pool, "ours", directory, options.seconds, options.workers),
                lambda: measure(pool, "papermill", directory, options.seconds, options.workers),
                options.rounds,
            )
    report("model_runs", ours, peer, "runs/s", True)


if __name__ == "__main__":
    main()
