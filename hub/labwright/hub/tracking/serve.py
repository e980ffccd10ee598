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

# What MLflow's clients log and search by, from notebooks and from its pages. Its Flask app answers these; the FastAPI
# app around that one has nothing of its own below them, and costs half as much again (decision 50).
CLASSIC = ("/api/2.0/mlflow/", "{prefix}/ajax-api/2.0/mlflow/")
CLASSIC_AT_ONCE = 40  # as many as the FastAPI app has threads for it


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


class Shortcut:
    """MLflow's whole app, with its classic REST API asked of the Flask app directly.

    Flask's app resolves the workspace and checks hosts and origins by itself, as under any WSGI server.
    """

    def __init__(self, whole: Any, flask: Any) -> None:
        from a2wsgi import WSGIMiddleware

        self.whole, self.classic = whole, WSGIMiddleware(flask, workers=CLASSIC_AT_ONCE)
        prefix = os.environ.get("_MLFLOW_STATIC_PREFIX", "")
        self.paths = tuple(path.format(prefix=prefix) for path in CLASSIC)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_classic = scope["type"] == "http" and scope["path"].startswith(self.paths)
        await (self.classic if is_classic else self.whole)(scope, receive, send)


def serve(listen: Callable[[], socket.socket]) -> None:
    """MLflow's app until it is told to end, on the socket that `listen` makes once MLflow is ready."""
    import sqlalchemy.event
    import uvicorn

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", write_ahead)
    from mlflow.server import app as flask
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(
        os.environ["_MLFLOW_SERVER_FILE_STORE"],
        os.environ["_MLFLOW_SERVER_REGISTRY_STORE"],
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"],
    )
    app = Shortcut(app, flask)
    config = uvicorn.Config(app, workers=1, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    # Bound last: whoever can connect finds MLflow ready.
    uvicorn.Server(config).run(sockets=[listen()])


if __name__ == "__main__":
    serve(lambda: bind(Path(sys.argv[1])))
