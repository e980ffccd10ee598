"""Notebooks that import pandas, scikit-learn and MLflow, fit a model and log it, per second.

    make bench NAME=model_runs

Both sides log to the same tracking server, one that the benchmark starts for itself, and take turns.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from notebook_runs import measure
from side_by_side import report, take_turns

from labwright.api import names
from labwright.kernels.client import ForkServer
from labwright.kernels.preload import imports_of

FIT = """
frame = pd.DataFrame(load_diabetes(as_frame=True).frame)
model = Ridge(alpha=1 + number % 10).fit(frame.drop(columns="target"), frame.target)
score = model.score(frame.drop(columns="target"), frame.target)
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


def start_tracking_server(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1", *store],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=(folder / "mlflow.log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return process, url
        except OSError:
            time.sleep(0.2)
    raise SystemExit((folder / "mlflow.log").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each side in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        server, url = start_tracking_server(Path(directory))
        os.environ["MLFLOW_TRACKING_URI"] = url
        os.environ["GIT_PYTHON_REFRESH"] = "quiet"
        # As every kernel of the workbench has it; both sides.
        os.environ.update(names.NO_TELEMETRY)
        nbformat.write(make_notebook(), Path(directory) / "in.ipynb")
        pool = ProcessPoolExecutor(options.workers, mp_context=get_context("spawn"))
        try:
            for side in ("ours", "papermill"):
                measure(pool, side, directory, 0.0, options.workers)
            # Until its set is warm, kernels start from the bare parent: what is measured is the state that lasts.
            ForkServer(Path(directory) / "server").wait_warm(os.environ, imports_of(make_notebook()))
            ours, peer = take_turns(
                lambda: measure(pool, "ours", directory, options.seconds, options.workers),
                lambda: measure(pool, "papermill", directory, options.seconds, options.workers),
                options.rounds,
            )
        finally:
            pool.shutdown()
            os.killpg(server.pid, 15)
            server.wait()
    report("model_runs", ours, peer, "runs/s", True)


if __name__ == "__main__":
    main()
