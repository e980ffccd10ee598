"""Runs in MLflow's environment, as a script: MLflow's app in one uvicorn process on a private Unix socket.

`mlflow server` would import MLflow twice (its command line stays as a parent) and uvicorn would make the socket
writable to everybody; so the store is prepared here and the socket is bound here.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path


def bind(path: Path) -> socket.socket:
    """A listening socket that only this user can open; a stale one of a killed process is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.umask(0o077)
    listener.bind(str(path))
    path.chmod(0o600)
    return listener


def main() -> None:
    socket_path = Path(sys.argv[1])
    import uvicorn
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(
        os.environ["_MLFLOW_SERVER_FILE_STORE"],
        os.environ["_MLFLOW_SERVER_REGISTRY_STORE"],
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"],
    )
    config = uvicorn.Config(app, workers=1, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    # Bound last: whoever can connect finds MLflow ready.
    uvicorn.Server(config).run(sockets=[bind(socket_path)])


if __name__ == "__main__":
    main()
