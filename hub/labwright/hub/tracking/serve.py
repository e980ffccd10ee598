"""Runs in MLflow's environment, as a script: MLflow's app in two uvicorn processes on a private Unix socket.

`mlflow server` would import MLflow in its command line and again in each worker, and uvicorn would make the socket
writable to everybody; so the store is prepared here, the socket is bound here, and the second process is a fork, which
shares what is imported. One goes on answering while the other computes a long answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import functools
import gc
import io
import os
import signal
import socket
import sqlite3
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# What MLflow's clients log and search by, from notebooks and from its pages. Its Flask app answers these; the FastAPI
# app around that one has nothing of its own below them, and costs half as much again (decision 50).
CLASSIC = ("/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/")
CLASSIC_AT_ONCE = 40  # as many as the FastAPI app has threads for it
PR_SET_PDEATHSIG = 1


def bind(path: Path) -> socket.socket:
    """A listening socket that only this user can open; a stale one of a killed process is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.umask(0o077)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


def set_up_sqlite(connection: Any, _record: Any) -> None:
    """A log for SQLite, and no waiting for the disk at each commit (decision 50); then what MLflow sets itself."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA busy_timeout=20000")
        connection.execute("PRAGMA case_sensitive_like=true")


def once_per_connection() -> None:
    """Have MLflow's sessions leave alone what `set_up_sqlite` has set: three statements with each, a fifth of its time.

    `case_sensitive_like` moreover makes SQLite forget every statement that it has prepared.
    """
    from mlflow.store.db import utils

    maker: Any = utils._get_managed_session_maker
    utils._get_managed_session_maker = lambda sessions, kind: maker(sessions, None if kind == "sqlite" else kind)


def upgrade_safely() -> None:
    """Have MLflow bring an older schema up to date, one that it was killed over among them, with keys unchecked.

    It would only do so while a table is missing. In SQLite a column is changed by making its table anew: with foreign
    keys checked, as they were not before `set_up_sqlite`, the old one could not be dropped, or took along whatever
    refers to it.
    """
    from mlflow.store.db import utils

    names: Any = utils
    upgrade, there = names._upgrade_db, names._all_tables_exist
    names._get_latest_schema_revision = functools.cache(names._get_latest_schema_revision)
    names._upgrade_db = lambda engine: upgrade_in_steps(upgrade, engine)
    names._all_tables_exist = lambda engine: (
        there(engine) and names._get_schema_version(engine) == names._get_latest_schema_revision()
    )


def upgrade_in_steps(upgrade: Callable[[Any], None], engine: Any) -> None:
    """Upgrade SQLite by transactions of our own: Python's begin with the first row that changes, not with a table.

    So each of MLflow's steps is kept with its number or not at all, and a start that is killed in one can be repeated.
    """
    import sqlalchemy.event

    if engine.dialect.name != "sqlite":
        upgrade(engine)
        return
    stepwise = sqlalchemy.create_engine(engine.url)
    sqlalchemy.event.listen(stepwise, "connect", leave_transactions_and_keys)
    sqlalchemy.event.listen(stepwise, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        upgrade(stepwise)
    finally:
        stepwise.dispose()


def leave_transactions_and_keys(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=OFF")


class Classic:
    """MLflow's Flask app under ASGI, for requests and answers that fit into memory: one change of threads each way."""

    def __init__(self, flask: Any) -> None:
        self.flask = flask
        self.threads = ThreadPoolExecutor(CLASSIC_AT_ONCE, "classic")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from a2wsgi.wsgi import build_environ

        body = io.BytesIO()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body.write(message.get("body", b""))
            more = message.get("more_body", False)
        environ: Any = build_environ(scope, body)  # type: ignore[arg-type]
        # Whole now, in however many chunks it came.
        environ["CONTENT_LENGTH"] = str(body.tell())
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        body.seek(0)
        # A context of its own: MLflow keeps the request's workspace in one, and the thread is the next request's too.
        ask = contextvars.copy_context().run
        answer = await asyncio.get_running_loop().run_in_executor(self.threads, ask, self.ask, environ)
        for event in answer:
            await send(event)

    def ask(self, environ: Any) -> list[dict[str, Any]]:
        from werkzeug.test import run_wsgi_app

        chunks, status, headers = run_wsgi_app(self.flask, environ, buffered=True)
        pairs = [(name.lower().encode("latin1"), value.encode("latin1")) for name, value in headers]
        return [
            {"type": "http.response.start", "status": int(status.split(" ", 1)[0]), "headers": pairs},
            {"type": "http.response.body", "body": b"".join(chunks)},
        ]


class Shortcut:
    """MLflow's whole app, with its classic REST API asked of the Flask app directly.

    Flask's app resolves the workspace and checks hosts and origins by itself, as under any WSGI server.
    """

    def __init__(self, whole: Any, flask: Any) -> None:
        self.whole, self.classic = whole, Classic(flask)
        prefix = os.environ.get("_MLFLOW_STATIC_PREFIX", "")
        self.paths = tuple(prefix + path for path in CLASSIC)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_classic = scope["type"] == "http" and scope["path"].startswith(self.paths)
        await (self.classic if is_classic else self.whole)(scope, receive, send)


def serve(listen: Callable[[], socket.socket]) -> None:
    """MLflow's app until it is told to end, on the socket that `listen` makes once MLflow is ready."""
    import sqlalchemy.event
    import uvicorn

    engines: set[Any] = set()

    def note(connection: Any) -> None:
        engines.add(connection.engine)

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", set_up_sqlite)
    sqlalchemy.event.listen(sqlalchemy.Engine, "engine_connect", note)
    once_per_connection()
    upgrade_safely()
    from mlflow.server import app as flask
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(
        os.environ["_MLFLOW_SERVER_FILE_STORE"],
        os.environ["_MLFLOW_SERVER_REGISTRY_STORE"],
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"],
    )
    sqlalchemy.event.remove(sqlalchemy.Engine, "engine_connect", note)
    # A connection to a database is no two processes'.
    for engine in engines:
        engine.dispose()
    app = Shortcut(app, flask)
    config = uvicorn.Config(app, workers=1, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    # Bound last: whoever can connect finds MLflow ready.
    listener = listen()
    run_twice(lambda: uvicorn.Server(config).run(sockets=[listener]))


def run_twice(run: Callable[[], None]) -> None:
    """Have this process and a fork of it `run`; when either ends, so does the other.

    Whoever started this process then sees that it ended, and starts it anew.
    """
    gc.collect()
    gc.freeze()
    parent = os.getpid()
    with warnings.catch_warnings():
        # Libraries of numbers have threads of their own by now, and see to their forks.
        warnings.simplefilter("ignore", DeprecationWarning)
        other = os.fork()
    if other == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() == parent:
            run()
        sys.exit(0)

    def look(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(other, os.WNOHANG)[0]:
                os.kill(parent, signal.SIGTERM)

    signal.signal(signal.SIGCHLD, look)
    look()
    run()


if __name__ == "__main__":
    serve(lambda: bind(Path(sys.argv[1])))
