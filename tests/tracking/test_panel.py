"""What Lab's Experiments panel asks of the real MLflow, and counts on in the answers."""

from __future__ import annotations

from collections.abc import Iterator
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
