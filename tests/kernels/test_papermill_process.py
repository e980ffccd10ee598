"""What the process of `papermill` gives its kernel: the same from its default engine and from ours."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labwright.kernels.client import ForkServer
from tests.kernels.conftest import plain_environment
from tests.kernels.running import make_notebook

Papermill = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=[None, "labwright"], ids=["default", "labwright"])
def papermill(request: pytest.FixtureRequest, fork_server: ForkServer, tmp_path: Path) -> Papermill:
    """Run cells with the command, started in a way of the test's own; out.ipynb has what they showed."""

    def run(*cells: str, **started: Any) -> subprocess.CompletedProcess[str]:
        nbformat.write(make_notebook(*cells), tmp_path / "in.ipynb")
        command = [sys.executable, "-m", "papermill", "in.ipynb", "out.ipynb", "--no-progress-bar"]
        engine = ["--engine", request.param] if request.param else []
        env = {**plain_environment(), "LABWRIGHT_KERNELS_DIRECTORY": str(fork_server.directory)}
        return subprocess.run(
            [*command, *engine], cwd=tmp_path, env=env, check=True, capture_output=True, text=True, **started
        )

    return run


def test_files_have_the_mode_that_its_umask_gives(papermill, tmp_path):
    papermill("open('secret', 'w').close()", umask=0o077)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_its_soft_limits_hold(papermill, tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (500, 600))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))

    cell = "import resource as r; r.getrlimit(r.RLIMIT_NOFILE)[0], r.getrlimit(r.RLIMIT_CORE)[0]"
    papermill(cell, preexec_fn=limit)
    (output,) = read(tmp_path).cells[0].outputs
    assert output.data["text/plain"] == "(500, 0)"


def test_what_descriptors_get_is_shown_by_it_too(papermill, tmp_path):
    # The ordinary kernel reads its descriptors in a thread, beside what the cell prints: nothing tells when it has.
    until_read = "import time; time.sleep(0.5)"
    shown = papermill(
        "print('of a print')",
        f"import os, subprocess, sys\nsubprocess.run(['echo', 'of a subprocess'])\n{until_read}",
        f"os.system('echo of a shell >&2')\n{until_read}",
        "_ = os.write(1, b'of a descriptor\\n')",
        "_ = subprocess.run(['echo', 'of the stream'], stdout=sys.stdout)",
        "_ = subprocess.run(['echo', 'of the first stream'], stdout=sys.__stdout__)",
        f"get_ipython().kernel.log.error('of the log')\n{until_read}",
    )
    lines = ["of a descriptor", "of a subprocess", "of the first stream", "of the stream"]
    assert sorted(shown.stdout.splitlines()) == lines
    assert "of a shell\n" in shown.stderr
    assert "of the log\n" in shown.stderr
    text = "".join(output.get("text", "") for cell in read(tmp_path).cells for output in cell.outputs)
    assert "of a subprocess\n" in text
    assert "of a shell\n" in text
    assert "of a print\n" in text
    assert "of the stream\n" not in text


def read(folder: Path) -> nbformat.NotebookNode:
    return nbformat.read(folder / "out.ipynb", as_version=4)
