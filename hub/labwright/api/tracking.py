"""Experiments, runs and models by MLflow's REST API behind core's door, for places without MLflow's own client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from labwright.api.client import Client
from labwright.api.errors import LabwrightError, NotFound, ProblemResponse

_PAGE = 500


@dataclass(frozen=True)
class TrackedRun:
    """One run. `status` is MLflow's word: RUNNING, FINISHED, FAILED, KILLED or SCHEDULED."""

    id: str
    name: str
    status: str
    user: str
    started: datetime
    metrics: dict[str, float]
    params: dict[str, str]


@dataclass(frozen=True)
class ModelVersion:
    number: int
    aliases: tuple[str, ...]
    run_id: str
    user: str
    created: datetime
    metrics: dict[str, float]


class TrackingClient:
    """What one person, or one of the person's groups, has tracked. Everything is newest first."""

    def __init__(self, client: Client, group: str | None = None) -> None:
        self._client = client
        self._workspace = {"workspace": group} if group else {}

    def experiments(self) -> list[dict[str, Any]]:
        """MLflow's objects: `experiment_id`, `name`, `last_update_time` (ms)."""
        ask = {"view_type": "ACTIVE_ONLY", "order_by": ["last_update_time DESC"]}
        return list(self._pages("/experiments/search", "experiments", ask))

    def experiment(self, name: str) -> dict[str, Any]:
        for one in self.experiments():
            if name in (one["name"], one["experiment_id"]):
                return one
        raise NotFound("experiment", name)

    def runs(self, experiment: str, *, sort: str | None = None, ascending: bool = False) -> Iterator[TrackedRun]:
        """Runs of an experiment by name or id; by start, or by the metric `sort`, largest first."""
        order = "ASC" if ascending else "DESC"
        by = f"metrics.`{sort.replace('`', '')}`" if sort else "attributes.start_time"
        ask = {"experiment_ids": [self.experiment(experiment)["experiment_id"]], "order_by": [f"{by} {order}"]}
        return (run_of(found) for found in self._pages("/runs/search", "runs", ask))

    def models(self) -> list[dict[str, Any]]:
        """MLflow's registered models: `name`, `latest_versions`, `aliases`, `last_updated_timestamp` (ms)."""
        found = self._pages("/registered-models/search", "registered_models", {}, method="GET")
        return sorted(found, key=lambda model: -int(model["last_updated_timestamp"]))

    def versions(self, model: str) -> list[ModelVersion]:
        """All versions of a registered model, the newest first; `NotFound` where there is no such model."""
        try:
            about = self._call("GET", "/registered-models/get", params={"name": model})["registered_model"]
        except ProblemResponse as error:
            raise missing(error, "registered model", model) from None
        named: dict[str, list[str]] = {}
        for alias in about.get("aliases", []):
            named.setdefault(str(alias["version"]), []).append(alias["alias"])
        ask = {"filter": "name='{}'".format(model.replace("'", "\\'"))}
        found = self._pages("/model-versions/search", "model_versions", ask, method="GET")
        versions = [version_of(one, tuple(sorted(named.get(str(one["version"]), ())))) for one in found]
        return sorted(versions, key=lambda version: -version.number)

    def register(self, run_id: str, model: str) -> ModelVersion:
        """Make the newest model that a run has logged a new version of `model`."""
        try:
            run = self._call("GET", "/runs/get", params={"run_id": run_id})["run"]
        except ProblemResponse as error:
            raise missing(error, "run", run_id) from None
        ask = {
            "experiment_ids": [run["info"]["experiment_id"]],
            "filter": f"source_run_id = '{run['info']['run_id']}'",
            "order_by": [{"field_name": "creation_time", "ascending": False}],
            "max_results": 1,
        }
        logged = self._call("POST", "/logged-models/search", json=ask).get("models", [])
        if not logged:
            raise NotFound("model logged by run", run_id)
        try:
            self._call("POST", "/registered-models/create", json={"name": model})
        except ProblemResponse as error:
            if error.details.get("error_code") != "RESOURCE_ALREADY_EXISTS":
                raise
        about = logged[0]["info"]
        tags = {f"metric.{key}": f"{value:.6g}" for key, value in run_of(run).metrics.items()}
        tags["labwright.experiment_id"] = about["experiment_id"]
        request = {
            "name": model,
            "source": about["artifact_uri"],
            "run_id": run_id,
            "model_id": about["model_id"],
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return version_of(self._call("POST", "/model-versions/create", json=request)["model_version"], ())

    def name_version(self, model: str, alias: str, version: int) -> None:
        """Let `alias` mean this version from now on."""
        try:
            request = {"name": model, "alias": alias, "version": str(version)}
            self._call("POST", "/registered-models/alias", json=request)
        except ProblemResponse as error:
            raise missing(error, "version", f"{model} {version}") from None

    def _pages(
        self, path: str, key: str, ask: dict[str, Any], *, method: Literal["GET", "POST"] = "POST"
    ) -> Iterator[dict[str, Any]]:
        token: str | None = None
        while True:
            asked = ask | {"max_results": _PAGE} | ({"page_token": token} if token else {})
            page = self._call(method, path, **{"json" if method == "POST" else "params": asked})
            yield from page.get(key, [])
            token = page.get("next_page_token")
            if not token:
                return

    def _call(self, method: str, path: str, *, json: Any = None, params: dict[str, Any] | None = None) -> Any:
        return self._client.mlflow(method, path, json=json, params=(params or {}) | self._workspace)


def run_of(found: dict[str, Any]) -> TrackedRun:
    info, data = found["info"], found.get("data", {})
    return TrackedRun(
        id=info["run_id"],
        name=info.get("run_name", ""),
        status=info["status"],
        user=info.get("user_id", ""),
        started=moment(info["start_time"]),
        metrics={one["key"]: float(one["value"]) for one in data.get("metrics", [])},
        params={one["key"]: one["value"] for one in data.get("params", [])},
    )


def version_of(found: dict[str, Any], aliases: tuple[str, ...]) -> ModelVersion:
    tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
    return ModelVersion(
        number=int(found["version"]),
        aliases=aliases,
        run_id=found.get("run_id", ""),
        user=tags.get("mlflow.user", found.get("user_id", "")),
        created=moment(found["creation_timestamp"]),
        metrics={key[len("metric.") :]: float(value) for key, value in tags.items() if key.startswith("metric.")},
    )


def moment(milliseconds: int | str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def missing(error: ProblemResponse, what: str, name: str) -> LabwrightError:
    """MLflow's refusal, in our words where it says that something is not there."""
    return NotFound(what, name) if error.details.get("error_code") == "RESOURCE_DOES_NOT_EXIST" else error
