"""MLflow's plugins: the token for requests to our door, read anew each time, and where a run comes from.

An *auth* provider rather than a header provider, because it sees the request's address: a header provider would hand
the token to any other server that MLflow is asked to fetch from.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from labwright.api import names
from labwright.api.client import endpoints_from
from labwright.api.errors import LabwrightError

AUTH_NAME = "labwright"
NOTEBOOK_TAG, RUN_TAG, PROFILE_TAG = "labwright.notebook", "labwright.run_id", "labwright.profile"


class DoorAuth:
    """Adds the token to a request (of `requests`) that goes to core, and to no other."""

    def __call__(self, request: Any) -> Any:
        core = os.environ.get(names.CORE_URL)
        if core and is_below(request.url, f"{core.rstrip('/')}/mlflow"):
            try:
                request.headers["Authorization"] = f"Bearer {endpoints_from(os.environ).bearer()}"
            except LabwrightError:
                request.headers.pop("Authorization", None)  # the door says what is missing
        return request


def is_below(url: str, base: str) -> bool:
    """Whether `url` is `base` or below it: same scheme, host and port."""
    asked, ours = urlsplit(url), urlsplit(base)
    same_server = (asked.scheme, asked.hostname, asked.port) == (ours.scheme, ours.hostname, ours.port)
    return same_server and (asked.path == ours.path or asked.path.startswith(f"{ours.path}/"))


class DoorAuthProvider:
    """Entry point `mlflow.request_auth_provider`."""

    def get_name(self) -> str:
        return AUTH_NAME

    def get_auth(self) -> DoorAuth:
        return DoorAuth()


def switch_on() -> None:
    """Have MLflow ask the auth provider above. A forked kernel calls it again: MLflow was imported before the fork."""
    if os.environ.get(names.CORE_URL):
        os.environ.setdefault("MLFLOW_TRACKING_AUTH", AUTH_NAME)


class NotebookContext:
    """Entry point `mlflow.run_context_provider`: tags every run with its notebook, job run, profile and commit.

    MLflow makes it before its first request, so it also switches on the auth provider.
    """

    def __init__(self) -> None:
        switch_on()

    def in_context(self) -> bool:
        return names.CORE_URL in os.environ

    def tags(self) -> dict[str, str]:
        return provenance(os.environ, Path.cwd())


def notebook_path(environ: Mapping[str, str]) -> str | None:
    """The notebook of this kernel, relative to its owner's home where it lies there."""
    if known := environ.get(names.NOTEBOOK):
        return known
    session = environ.get("JPY_SESSION_NAME")  # set by Jupyter Server for the kernels of notebooks
    if not session:
        return None
    path, home = Path(session), environ.get("HOME", "")
    return str(path.relative_to(home)) if home and path.is_relative_to(home) else session


def provenance(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    tags: dict[str, str] = {}
    if notebook := notebook_path(environ):
        tags |= {NOTEBOOK_TAG: notebook, "mlflow.source.name": notebook, "mlflow.source.type": "NOTEBOOK"}
    if run_id := environ.get(names.RUN_ID):
        tags |= {RUN_TAG: run_id, "mlflow.source.type": "JOB"}
    if profile := environ.get(names.PROFILE):
        tags[PROFILE_TAG] = profile
    if commit := git_commit(folder):
        tags["mlflow.source.git.commit"] = commit
    return tags


def git_commit(folder: Path) -> str | None:
    """The commit that is checked out in the folder, if it is in a repository."""
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)) and "GIT_DIR" not in os.environ:
        return None  # as git would find, with a process for each run
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--verify", "HEAD"],
            capture_output=True,
            text=True,
            timeout=2,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
