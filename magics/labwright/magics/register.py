"""`%register NAME`: put the last model of this notebook into the registry, with where it came from."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from labwright.api.errors import InvalidRequest, NotFound
from labwright.magics import mlflow_plugin
from labwright.magics.card import Card
from labwright.magics.line_parser import LineParser
from labwright.magics.track import import_mlflow, mended, workspace_of

ALIAS = re.compile(r"(?!v\d+$)[A-Za-z][\w-]{0,63}")


def parser() -> LineParser:
    made = LineParser(prog="%register", description="Register the last logged model.")
    made.add_argument("name", help="the registered model; a new version when it exists")
    made.add_argument("--run", help="id of the run whose model it is; the last one when absent")
    made.add_argument("--alias", help="a name for this version, such as champion")
    return made


def run(line: str, cell: str | None, shell: Any) -> Card | None:
    arguments = parser().parse_line(line)
    if arguments is None:
        return None
    if arguments.alias and not ALIAS.fullmatch(arguments.alias):
        raise InvalidRequest(
            f"'{arguments.alias}' cannot be an alias.",
            remedy="Use letters, digits, - and _, beginning with a letter.",
        )
    mlflow = import_mlflow()
    with mended(mlflow):
        model = find_model(mlflow, arguments.run, shell)
        version = mlflow.register_model(f"models:/{model.model_id}", arguments.name, tags=tags_of(model))
        if arguments.alias:
            mlflow.MlflowClient().set_registered_model_alias(arguments.name, arguments.alias, version.version)
        group = (shell.user_ns.get("_labwright_tracking") or {}).get("group")
        link = f"labwright/mlflow/#/models/{version.name}?workspace={workspace_of(mlflow, group)}"
    return card_of(mlflow, model, version, arguments.alias, link)


def complete(text: str, line: str, shell: Any) -> list[str]:
    return [word for word in ("--run", "--alias", "--help", "champion") if word.startswith(text)]


def find_model(mlflow: Any, run_id: str | None, shell: Any) -> Any:
    """The newest model of the run: the one named, the active one, or the last of the tracked experiment."""
    tracked = shell.user_ns.get("_labwright_tracking") or {}
    if run_id is None:
        active = mlflow.active_run() or mlflow.last_active_run()
        run_id = active.info.run_id if active else None
    experiment = mlflow.get_run(run_id).info.experiment_id if run_id else tracked.get("experiment")
    if experiment is None:
        raise NotFound("model logged by this notebook yet: %track NAME, then fit", "last")
    newest_first = [{"field_name": "creation_time", "ascending": False}]
    found = mlflow.search_logged_models(
        [experiment],
        filter_string=f"source_run_id = '{run_id}'" if run_id else None,
        order_by=newest_first,
        max_results=1,
        output_format="list",
    )
    if not found:
        raise NotFound("model in run", run_id or "last")
    return found[0]


def tags_of(model: Any) -> dict[str, str]:
    """Where the version came from, and its metrics, so that the registry answers without the run."""
    tags = mlflow_plugin.provenance(os.environ, Path.cwd())
    kept = {name: value for name, value in tags.items() if not name.startswith("mlflow.")}
    if commit := tags.get("mlflow.source.git.commit"):
        kept["labwright.git_commit"] = commit
    metrics = {f"metric.{metric.key}": f"{metric.value:.6g}" for metric in (model.metrics or [])[:20]}
    return kept | metrics | {"labwright.experiment_id": str(model.experiment_id)}


def card_of(mlflow: Any, model: Any, version: Any, alias: str | None, link: str) -> Card:
    from mlflow.models import get_model_info

    lines = {"version": str(version.version)}
    if alias:
        lines["alias"] = alias
    with mended(mlflow):
        signature = get_model_info(f"models:/{model.model_id}").signature
    if signature is not None and signature.inputs is not None:
        inputs = [str(name) for name in signature.inputs.input_names()]
        shown = ", ".join(inputs[:8]) or f"{len(signature.inputs.inputs)} tensor"
        lines["inputs"] = shown + (f" and {len(inputs) - 8} more" if len(inputs) > 8 else "")
    lines |= {metric.key: f"{metric.value:.4g}" for metric in (model.metrics or [])[:6]}
    title = f"Registered {version.name} version {version.version}"
    return Card(title, lines, link, "Open in MLflow")
