"""What Lab's Experiments panel asks of the real MLflow, and counts on in the answers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest

API = "/mlflow/api/2.0/mlflow"


@pytest.fixture(scope="module")
def petra(bench: Any, mlflow: Any) -> Iterator[httpx.Client]:
    with bench.http(bench.resolver.add("petra")) as client:
        yield client


def ask(client: httpx.Client, method: str, path: str, **options: Any) -> dict[str, Any]:
    answer = client.request(method, f"{API}/{path}", **options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def new_run(client: httpx.Client, experiment: str) -> dict[str, Any]:
    info: dict[str, Any] = ask(client, "POST", "runs/create", json={"experiment_id": experiment})["run"]["info"]
    return info


def test_one_search_finds_the_versions_of_all_models_page_by_page(petra: httpx.Client) -> None:
    experiment = ask(petra, "POST", "experiments/create", json={"name": "registered"})["experiment_id"]
    run = new_run(petra, experiment)
    for model in ("it's late", "later"):
        ask(petra, "POST", "registered-models/create", json={"name": model})
        for _ in range(2):
            body = {"name": model, "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
            ask(petra, "POST", "model-versions/create", json=body)
    found: list[tuple[str, str]] = []
    page: dict[str, Any] = {"next_page_token": None}
    while "next_page_token" in page:
        token = {"page_token": page["next_page_token"]} if page["next_page_token"] else {}
        page = ask(petra, "GET", "model-versions/search", params={"max_results": 3, **token})
        found += [(version["name"], version["version"]) for version in page["model_versions"]]
    assert sorted(found) == [("it's late", "1"), ("it's late", "2"), ("later", "1"), ("later", "2")]


def test_runs_are_found_by_their_ids_however_many_are_newer(petra: httpx.Client) -> None:
    experiment = ask(petra, "POST", "experiments/create", json={"name": "many runs"})["experiment_id"]
    runs = [new_run(petra, experiment)["run_id"] for _ in range(4)]
    wanted = {runs[0], runs[2]}
    body = {
        "experiment_ids": [experiment],
        "filter": f"attributes.run_id IN ('{runs[0]}','{runs[2]}','{'0' * 32}')",
        "max_results": 1,
    }
    first = ask(petra, "POST", "runs/search", json=body)
    second = ask(petra, "POST", "runs/search", json={**body, "page_token": first["next_page_token"]})
    assert {run["info"]["run_id"] for run in first["runs"] + second["runs"]} == wanted
    assert not second.get("next_page_token")


def test_the_history_of_a_metric_is_sampled_over_all_of_its_steps(petra: httpx.Client) -> None:
    experiment = ask(petra, "POST", "experiments/create", json={"name": "long runs"})["experiment_id"]
    run = new_run(petra, experiment)["run_id"]
    for start in range(0, 6000, 1000):
        points = [{"key": "loss", "value": 1 / (1 + n), "timestamp": n, "step": n} for n in range(start, start + 1000)]
        ask(petra, "POST", "runs/log-batch", json={"run_id": run, "metrics": points})
    query: dict[str, Any] = {"run_ids": run, "metric_key": "loss", "max_results": 2500}
    steps = [
        int(point["step"]) for point in ask(petra, "GET", "metrics/get-history-bulk-interval", params=query)["metrics"]
    ]
    assert len(steps) == 2500
    assert steps[0] == 0
    assert steps[-1] == 5999
    assert max(later - earlier for earlier, later in pairwise(steps)) <= 4
    assert "metrics" not in ask(
        petra, "GET", "metrics/get-history-bulk-interval", params={**query, "metric_key": "none"}
    )
