"""`%track NAME`: begin a run in an experiment and log what is fitted; `%track` shows it; `%track stop` ends it.

Saying `%track NAME` again ends that run and begins the next.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
from contextlib import closing
from typing import Any

from labwright.api import names
from labwright.api.client import Client
from labwright.api.errors import LabwrightError, NotFound, Unavailable
from labwright.magics import mlflow_plugin
from labwright.magics.card import Card
from labwright.magics.line_parser import LineParser

log = logging.getLogger("labwright.magics")

# What is logged without a word of code, where the library is there: module -> MLflow's module.
AUTOLOGGED = {
    "sklearn": "mlflow.sklearn",
    "xgboost": "mlflow.xgboost",
    "lightgbm": "mlflow.lightgbm",
    "statsmodels": "mlflow.statsmodels",
    "torch": "mlflow.pytorch",
    "keras": "mlflow.keras",
}
# Log no parameter longer than what MLflow takes.
MAX_VALUE = 500


def parser() -> LineParser:
    made = LineParser(prog="%track", description="Log runs of this notebook into an experiment.")
    made.add_argument("name", nargs="?", help="the experiment; 'stop' ends tracking; nothing shows what is on")
    made.add_argument("--group", help="share it with this group of yours, instead of keeping it to yourself")
    return made


def run(line: str, cell: str | None, shell: Any) -> Card | None:
    arguments = parser().parse_line(line)
    if arguments is None:
        return None
    mlflow = import_mlflow()
    if arguments.name is None:
        return current_card(mlflow, shell)
    if arguments.name == "stop":
        return stop(mlflow, shell)
    return start(mlflow, shell, arguments.name, arguments.group)


def complete(text: str, line: str, shell: Any) -> list[str]:
    words = ["stop", "--group", "--help"]
    return [word for word in words if word.startswith(text)]


def import_mlflow() -> Any:
    """MLflow, pointed at the door. Imported here: it takes a second, and few kernels need it."""
    if not os.environ.get(names.CORE_URL):
        raise LabwrightError("This kernel does not know where Labwright runs.", remedy="Start it from Lab.")
    os.environ.setdefault("MLFLOW_TRACKING_AUTH", mlflow_plugin.AUTH_NAME)
    for name, value in names.LIBRARY_DEFAULTS.items():
        os.environ.setdefault(name, value)
    # The default waits four minutes for a server that is away.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    try:
        mlflow = importlib.import_module("mlflow")
    except ImportError:
        raise LabwrightError(
            "MLflow is not installed in this environment.", remedy="Use Labwright's kernel, or install mlflow."
        ) from None
    mlflow.set_tracking_uri(f"{os.environ[names.CORE_URL].rstrip('/')}/mlflow")
    return mlflow


def start(mlflow: Any, shell: Any, name: str, group: str | None) -> Card:
    if mlflow.active_run() is not None:
        mlflow.end_run()
    with mended(mlflow):
        mlflow.set_workspace(workspace_of(mlflow, group) if group else None)
        experiment = mlflow.set_experiment(name)
    logged = switch_autologging(on=True)
    shell.user_ns["_labwright_tracking"] = {"experiment": experiment.experiment_id, "name": name, "group": group}
    lines = {
        "experiment": name,
        "shared with": group or "nobody",
        "logged by itself": ", ".join(logged) or "nothing: no supported library is installed",
    }
    # One run from here on, so that what the notebook logs by hand and what its fits log stand together.
    with mended(mlflow):
        link = link_to(mlflow, experiment.experiment_id, group)
        if run_id := os.environ.get(names.RUN_ID):
            lines["run"] = begin_job_run(mlflow, run_id, experiment.experiment_id)
        else:
            lines["run"] = str(mlflow.start_run().info.run_name)
    return Card("Tracking is on", lines, link, "Open in MLflow")


def begin_job_run(mlflow: Any, run_id: str, experiment_id: str) -> str:
    """One MLflow run for the whole run of the job, linked both ways; its name."""
    with closing(Client.from_environment()) as client:
        told = ask_core(client, "GET", f"/runs/{run_id}") or {}
        started = mlflow.start_run(run_name=f"{told['job_name']} · {told['number']}" if told else None)
        parameters = told.get("parameters") or {}
        if parameters:
            mlflow.log_params({name: str(value)[:MAX_VALUE] for name, value in parameters.items()})
            mlflow.set_tag("labwright.parameters", json.dumps(parameters, default=str)[:5000])
        found = {"experiment_id": experiment_id, "run_id": started.info.run_id}
        ask_core(client, "POST", f"/runs/{run_id}/tracking", found)
    return str(started.info.run_name)


def ask_core(client: Client, method: str, path: str, body: dict[str, str] | None = None) -> Any:
    """Core's answer; None when it does not know the run or cannot be reached: tracking goes on without the link."""
    try:
        return client.core(method, path, json=body)
    except (NotFound, Unavailable):
        return None
    except LabwrightError as error:
        log.warning("the run could not be linked to its tracking: %s", error)
        return None


def stop(mlflow: Any, shell: Any) -> Card:
    switch_autologging(on=False)
    if mlflow.active_run() is not None:
        with mended(mlflow):
            mlflow.end_run()
    known = shell.user_ns.pop("_labwright_tracking", None)
    return Card("Tracking is off", {"experiment": known["name"]} if known else {})


def current_card(mlflow: Any, shell: Any) -> Card:
    known = shell.user_ns.get("_labwright_tracking")
    if known is None:
        return Card("Tracking is off", {"to begin": "%track NAME"})
    lines = {"experiment": known["name"], "shared with": known["group"] or "nobody"}
    with mended(mlflow):
        runs = mlflow.search_runs([known["experiment"]], max_results=1, output_format="list")
        link = link_to(mlflow, known["experiment"], known["group"])
    if runs:
        last = runs[0]
        lines["last run"] = f"{last.info.run_name} ({last.info.status.lower()})"
        lines |= {name: f"{value:.4g}" for name, value in list(last.data.metrics.items())[:8]}
    return Card("Tracking is on", lines, link, "Open in MLflow")


def link_to(mlflow: Any, experiment_id: str, group: str | None) -> str:
    return f"labwright/mlflow/#/experiments/{experiment_id}/runs?workspace={workspace_of(mlflow, group)}"


def workspace_of(mlflow: Any, group: str | None) -> str:
    """MLflow's name for what a group shares, or for what is one's own."""
    found = mlflow.list_workspaces()
    if group is None:
        return next((str(one.name) for one in found if one.name.startswith(("user-", "xuser-"))), "")
    for workspace in found:
        if group in (workspace.description, workspace.name) and workspace.name.startswith(("group-", "xgroup-")):
            return str(workspace.name)
    raise NotFound("group of yours", group)


def switch_autologging(*, on: bool) -> list[str]:
    """Turn it on or off for the libraries that are installed; which those are."""
    logged = []
    for library, module in AUTOLOGGED.items():
        if importlib.util.find_spec(library) is None:
            continue
        try:
            importlib.import_module(module).autolog(disable=not on, silent=True)
        except Exception as error:  # noqa: BLE001 - a library that MLflow cannot follow must not stop the others
            log.warning("runs of %s are not logged by themselves: %s", library, type(error).__name__)
            continue
        logged.append(library)
    return logged


class mended:
    """Turns MLflow's own errors into ours: what happened, without the traceback of a client."""

    def __init__(self, mlflow: Any) -> None:
        self._kind: type[Exception] = mlflow.exceptions.MlflowException

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, self._kind):
            return
        text = str(error)
        if "is starting" in text or "503" in text or "Max retries" in text:
            raise Unavailable("MLflow", remedy="It is starting; run the cell again in a few seconds.") from None
        raise LabwrightError(f"MLflow refused: {text[:300]}") from None
