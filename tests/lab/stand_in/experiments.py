"""The rows of the Experiments panel, as MLflow's REST API says them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from .world import MLFLOW, NOW, World


def tracked(number: int, stamp: int) -> dict[str, Any]:
    names = ["gifted-crane", "calm-otter", "bold-finch", "quick-lynx"]
    metrics = {"auc": 0.78 + number / 60, "loss": 0.41 - number / 40}
    params = {"max_depth": str(6 + number), "n_estimators": "50", "carrier": "UA"}
    return {
        "info": {
            "run_id": f"m{number}",
            "run_name": names[number],
            "experiment_id": "1",
            "status": "RUNNING" if number == 0 else "FAILED" if number == 3 else "FINISHED",
            "start_time": stamp - number * 3_600_000,
        },
        "data": {
            "metrics": [{"key": key, "value": value, "timestamp": stamp, "step": 0} for key, value in metrics.items()],
            "params": [{"key": key, "value": value} for key, value in params.items()],
            "tags": [
                {"key": "mlflow.user", "value": "alice"},
                {"key": "labwright.run_id", "value": f"r{1 + number % 3}"},
            ],
        },
    }


def add_experiments(app: FastAPI, world: World) -> None:
    base = f"{MLFLOW}/2.0/mlflow"

    @app.get(f"{MLFLOW}/3.0/mlflow/workspaces")
    async def workspaces() -> dict[str, Any]:
        names = {"user-alice": "alice", "group-research": "research"}
        return {"workspaces": [{"name": name, "description": text} for name, text in names.items()]}

    stamp = int(NOW.timestamp() * 1000)

    @app.post(f"{base}/experiments/search")
    def experiments() -> dict[str, Any]:
        if world.fault == "empty":
            return {}
        each = {"experiment_id": "1", "name": "late-flights", "lifecycle_stage": "active", "last_update_time": stamp}
        return {"experiments": [each, {**each, "experiment_id": "2", "name": "weather-baseline"}]}

    @app.post(f"{base}/runs/search")
    def runs() -> dict[str, Any]:
        return {"runs": [tracked(number, stamp) for number in range(4)]}

    @app.get(f"{base}/metrics/get-history-bulk-interval")
    def history(run_ids: str, metric_key: str) -> dict[str, Any]:
        number = int(run_ids[1:])
        points = 1 if metric_key == "auc" else 20
        return {
            "metrics": [
                {"key": metric_key, "value": 0.9 / (1 + (0.3 + number / 10) * step), "timestamp": stamp, "step": step}
                for step in range(points)
            ]
        }

    @app.get(f"{base}/registered-models/search")
    def models() -> dict[str, Any]:
        alias = [{"alias": "champion", "version": "2"}]
        return {"registered_models": [{"name": "late-flights", "aliases": alias, "last_updated_timestamp": stamp}]}

    @app.get(f"{base}/model-versions/search")
    def versions() -> dict[str, Any]:
        each = {"name": "late-flights", "status": "READY", "creation_timestamp": stamp - 9e6}
        return {"model_versions": [{**each, "version": "1"}, {**each, "version": "2"}]}
