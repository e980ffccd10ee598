"""`labwright experiments` and `labwright models` against a real MLflow behind the door."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from labwright.api import tracking
from labwright.api.client import Client, Endpoints
from labwright.api.commands import main
from labwright.api.tracking import TrackingClient

Labwright = Callable[..., Result]


@pytest.fixture
def token(bench: Any, mlflow: Any) -> str:
    found: str = bench.resolver.add("ines", groups=("research",))
    return found


@pytest.fixture
def labwright(bench: Any, token: str, monkeypatch: pytest.MonkeyPatch) -> Labwright:
    monkeypatch.setenv("LABWRIGHT_CORE_URL", bench.url)
    monkeypatch.setenv("LABWRIGHT_DATA_URL", "http://127.0.0.1:9/services/data")
    monkeypatch.setenv("LABWRIGHT_TOKEN", token)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return call


@pytest.fixture
def client(bench: Any, token: str) -> Iterator[Client]:
    made = Client(Endpoints(bench.url, "http://127.0.0.1:9", token=token))
    yield made
    made.close()


def tracked_run(client: Client, experiment: str, auc: float) -> str:
    """A run with a metric, a parameter and a model; the experiment is made when it is new."""
    known = TrackingClient(client).experiments()
    names = {one["name"]: one["experiment_id"] for one in known}
    of = (
        names.get(experiment)
        or client.mlflow("POST", "/experiments/create", json={"name": experiment})["experiment_id"]
    )
    run = client.mlflow("POST", "/runs/create", json={"experiment_id": of, "start_time": 1})["run"]["info"]["run_id"]
    batch = {
        "run_id": run,
        "metrics": [{"key": "auc", "value": auc, "timestamp": 1, "step": 0}],
        "params": [{"key": "depth", "value": "3"}],
    }
    client.mlflow("POST", "/runs/log-batch", json=batch)
    client.mlflow("POST", "/logged-models", json={"experiment_id": of, "name": "model", "source_run_id": run})
    return str(run)


def test_runs_are_listed_by_the_metric_that_was_asked_for(labwright: Labwright, client: Client) -> None:
    low, high = tracked_run(client, "sorted", 0.61), tracked_run(client, "sorted", 0.83)
    assert "sorted" in labwright("experiments").output
    shown = labwright("experiments", "runs", "sorted", "--sort", "auc").output.splitlines()
    assert shown[0].split()[-1] == "auc"
    assert [line.split()[0] for line in shown[1:]] == [high, low]
    rising = labwright("experiments", "runs", "sorted", "--sort", "auc", "--ascending", "--json").output.splitlines()
    assert [json.loads(line)["metrics"]["auc"] for line in rising] == [0.61, 0.83]
    assert len(labwright("experiments", "runs", "sorted", "--limit", "1").output.splitlines()) == 2


def test_an_experiment_that_is_not_there_is_named(labwright: Labwright) -> None:
    answer = labwright("experiments", "runs", "nowhere")
    assert answer.exit_code == 1
    assert answer.stderr.startswith("labwright: There is no experiment 'nowhere'.")


def test_a_model_is_registered_named_and_listed(labwright: Labwright, client: Client) -> None:
    first, second = tracked_run(client, "to register", 0.7), tracked_run(client, "to register", 0.75)
    assert labwright("models", "register", first, "delays").output == "Registered delays version 1.\n"
    assert "version 2 as champion" in labwright("models", "register", second, "delays", "--alias", "champion").output
    newest, oldest = labwright("models", "versions", "delays").output.splitlines()[1:]
    assert newest.split()[:2] == ["2", "champion"]
    assert second in newest
    assert "auc 0.75" in newest
    assert oldest.split()[0] == "1"
    assert labwright("models", "alias", "delays", "champion", "1").exit_code == 0
    assert "champion → 1" in labwright("models").output


def test_models_and_versions_are_listed_beyond_one_page(
    labwright: Labwright, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracked_run(client, "pages", 0.7)
    for model in ("first", "second", "second", "second"):
        assert labwright("models", "register", run, model).exit_code == 0
    monkeypatch.setattr(tracking, "_PAGE", 1)
    assert {"first", "second"} <= {model["name"] for model in TrackingClient(client).models()}
    assert [version.number for version in TrackingClient(client).versions("second")] == [3, 2, 1]


def test_a_run_without_a_model_and_unknown_names_are_refused(labwright: Labwright, client: Client) -> None:
    of = client.mlflow("POST", "/experiments/create", json={"name": "bare"})["experiment_id"]
    run = client.mlflow("POST", "/runs/create", json={"experiment_id": of})["run"]["info"]["run_id"]
    assert f"no model logged by run '{run}'" in labwright("models", "register", run, "bare").stderr
    assert "no registered model 'bare'" in labwright("models", "versions", "bare").stderr
    assert "no run" in labwright("models", "register", "0" * 32, "bare").stderr
    assert labwright("models", "alias", "bare", "champion", "1").exit_code == 1


def test_a_group_s_are_apart_from_one_s_own(labwright: Labwright, client: Client) -> None:
    tracked_run(client, "mine", 0.5)
    assert "mine" not in labwright("experiments", "list", "--group", "research").output
    refused = labwright("experiments", "list", "--group", "finance")
    assert refused.exit_code == 1
    assert "finance" in refused.stderr
