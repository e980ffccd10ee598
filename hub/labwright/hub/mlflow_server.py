"""`python -m labwright.hub.mlflow_server`: replaces itself by MLflow, listening on a Unix socket only.

MLflow runs without its command line's parent: a third of the start of `mlflow server` (docs/decisions/0050). Only the
user of core may enter the socket's folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from labwright.api import names
from labwright.hub import settings as workbench
from labwright.hub.tracking import serve

STORE_FILE = "mlflow.sqlite"


def command(settings: workbench.Settings) -> tuple[list[str], dict[str, str]]:
    """What to execute, and its whole environment: nothing of ours is needed there, so nothing is handed on."""
    folder = settings.mlflow_folder
    # -P: the folder of serve.py must not become a place to import from.
    argv = [str(settings.python("mlflow")), "-P", str(Path(serve.__file__).resolve()), str(settings.mlflow_socket)]
    environ = {
        "HOME": str(folder),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PATH": os.defpath,
        "TMPDIR": str(folder / "tmp"),
        "MLFLOW_ENABLE_WORKSPACES": "true",
        "_MLFLOW_STATIC_PREFIX": names.MLFLOW_PREFIX,
        **stores_in(folder),
    }
    return argv, environ


def stores_in(folder: Path) -> dict[str, str]:
    """What MLflow's app reads from its environment to keep everything in one folder."""
    store = f"sqlite:///{folder / STORE_FILE}"
    return {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "_MLFLOW_SERVER_FILE_STORE": store,
        "_MLFLOW_SERVER_REGISTRY_STORE": store,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        "_MLFLOW_SGI_NAME": "uvicorn",
    }


def main() -> None:
    settings = workbench.from_environment()
    os.umask(0o077)
    os.nice(5)  # its start takes as much processor time as all others together, and nobody waits for it
    for folder in (settings.mlflow_folder, settings.mlflow_folder / "artifacts", settings.mlflow_folder / "tmp"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.mlflow_folder.chmod(0o700)
    argv, environ = command(settings)
    os.execve(argv[0], argv, environ)  # noqa: S606 - an argument list of ours


if __name__ == "__main__":
    main()
