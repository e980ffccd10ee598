"""What the kernel tests share: a fork server of their own, and runs on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labwright.kernels.client import ForkServer
from labwright.kernels.engine import ForkServerEngine
from labwright.kernels.execution import Execution, NotebookEngine, parameterise
from tests.kernels.running import Run, make_notebook


def plain_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A fork server of the tests' own; its log is printed when a test fails to start it."""
    server = ForkServer(tmp_path_factory.mktemp("forks") / "server", idle_seconds=60)
    server.wait_warm(plain_environment(), frozenset({"mlflow", "sklearn", "pandas"}))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def fork_server_engine(fork_server: ForkServer) -> ForkServerEngine:
    return ForkServerEngine(fork_server)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    def make(engine: NotebookEngine, *sources: str, parameters: dict | None = None, **settings: object) -> Run:
        notebook = parameterise(make_notebook(*sources), parameters or {})
        execution = Execution(notebook, tmp_path / "out.ipynb", tmp_path, plain_environment())
        return Run(engine, replace(execution, **settings))

    return make
