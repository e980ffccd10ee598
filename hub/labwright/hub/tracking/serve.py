"""Runs in MLflow's environment, as a script: MLflow's app in one uvicorn process on a private Unix socket.

`mlflow server` would import MLflow twice (its command line stays as a parent) and uvicorn would make the socket
writable to everybody; so the store is prepared here and the socket is bound here.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def bind(path: Path) -> socket.socket:
    """A listening socket that only this user can open; a stale one of a killed process is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.umask(0o077)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


def write_ahead(connection: Any, _record: Any) -> None:
    """A log for SQLite, and no waiting for the disk at each commit (decision 50)."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")


def serve(listen: Callable[[], socket.socket]) -> None:
    """MLflow's app until it is told to end, on the socket that `listen` makes once MLflow is ready."""
    import sqlalchemy.event
    import uvicorn

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", write_ahead)
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(
        os.environ["_MLFLOW_SERVER_FILE_STORE"],
        os.environ["_MLFLOW_SERVER_REGISTRY_STORE"],
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"],
    )
    config = uvicorn.Config(app, workers=1, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    # Bound last: whoever can connect finds MLflow ready.
    uvicorn.Server(config).run(sockets=[listen()])


if __name__ == "__main__":
    serve(lambda: bind(Path(sys.argv[1])))
