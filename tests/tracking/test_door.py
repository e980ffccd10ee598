"""The real MLflow behind the door: what is not yours does not exist, and you are who your token says."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import trail_away

API = "/mlflow/api/2.0/mlflow"


@pytest.fixture(scope="module")
def alice(bench: Any, mlflow: Any) -> Iterator[httpx.Client]:
    with bench.http(bench.resolver.add("alice", groups=("research",))) as client:
        yield client


@pytest.fixture(scope="module")
def bob(bench: Any, mlflow: Any) -> Iterator[httpx.Client]:
    with bench.http(bench.resolver.add("bob", groups=("research", "Sales & Co"))) as client:
        yield client


def post(client: httpx.Client, path: str, body: dict[str, Any], **options: Any) -> dict[str, Any]:
    answer = client.post(f"{API}/{path}", json=body, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def hers(alice: httpx.Client) -> dict[str, str]:
    """An experiment, run, artifact, logged model and registered model of alice."""
    experiment = post(alice, "experiments/create", {"name": "late-flights"})["experiment_id"]
    run = post(alice, "runs/create", {"experiment_id": experiment, "user_id": "root"})["run"]["info"]
    post(alice, "runs/log-metric", {"run_id": run["run_id"], "key": "auc", "value": 0.8, "timestamp": 1})
    root = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    path = f"/mlflow/api/2.0/mlflow-artifacts/artifacts/{root}/notes.txt"
    assert alice.put(path, content=b"hers alone").status_code == 200
    post(alice, "registered-models/create", {"name": "delay"})
    source = f"{run['artifact_uri']}/model"
    post(alice, "model-versions/create", {"name": "delay", "source": source, "run_id": run["run_id"]})
    model = post(alice, "logged-models", {"experiment_id": experiment, "name": "m", "source_run_id": run["run_id"]})
    return {
        "experiment": experiment,
        "run": run["run_id"],
        "artifact": path,
        "uri": run["artifact_uri"],
        "model": model["model"]["info"]["model_id"],
    }


def test_mlflow_is_not_asked_for_what_the_audit_trail_cannot_tell_of(bench: Any, alice: httpx.Client) -> None:
    with trail_away(bench):
        answer = alice.post(f"{API}/registered-models/create", json={"name": "unseen"})
        assert (answer.status_code, answer.json()["detail"]) == (503, "The audit trail cannot be reached right now.")
        assert alice.get(f"{API}/registered-models/get", params={"name": "unseen"}).status_code == 404
    post(alice, "registered-models/create", {"name": "unseen"})


def test_without_a_token_there_is_no_door(bench: Any) -> None:
    with bench.http() as nobody:
        for path in ("/mlflow/", "/mlflow/health", f"{API}/experiments/search", "/mlflow/graphql"):
            assert nobody.get(path).status_code == 401


def test_a_token_without_the_right_is_refused(bench: Any) -> None:
    with bench.http(bench.resolver.add("carl", scopes=("custom:labwright:jobs",))) as carl:
        assert carl.get(f"{API}/experiments/search?max_results=5").status_code == 403


def test_the_owner_sees_what_is_hers(alice: httpx.Client, hers: dict[str, str]) -> None:
    assert alice.get(hers["artifact"]).content == b"hers alone"
    found = post(alice, "runs/search", {"experiment_ids": [hers["experiment"]]})
    assert [run["info"]["run_id"] for run in found["runs"]] == [hers["run"]]
    assert alice.get(f"{API}/registered-models/get", params={"name": "delay"}).status_code == 200
    page = alice.get("/mlflow/")
    assert "<html" in page.text.lower()
    got = alice.get("/mlflow/get-artifact", params={"run_uuid": hers["run"], "path": "notes.txt"})
    assert (got.status_code, got.content) == (200, b"hers alone")
    assert "sandbox" in got.headers["content-security-policy"]


READS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "experiments/get", {"experiment_id": "{experiment}"}),
    ("GET", "experiments/get-by-name", {"experiment_name": "late-flights"}),
    ("POST", "experiments/update", {"experiment_id": "{experiment}", "new_name": "stolen"}),
    ("POST", "experiments/delete", {"experiment_id": "{experiment}"}),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "{experiment}", "key": "k", "value": "v"}),
    ("POST", "runs/create", {"experiment_id": "{experiment}"}),
    ("GET", "runs/get", {"run_id": "{run}"}),
    ("POST", "runs/update", {"run_id": "{run}", "run_name": "stolen"}),
    ("POST", "runs/delete", {"run_id": "{run}"}),
    ("POST", "runs/set-tag", {"run_id": "{run}", "key": "k", "value": "v"}),
    ("POST", "runs/delete-tag", {"run_id": "{run}", "key": "mlflow.runName"}),
    ("POST", "runs/log-metric", {"run_id": "{run}", "key": "k", "value": 1, "timestamp": 1}),
    ("POST", "runs/log-parameter", {"run_id": "{run}", "key": "k", "value": "1"}),
    ("POST", "runs/log-batch", {"run_id": "{run}", "params": [{"key": "a", "value": "b"}]}),
    ("POST", "runs/log-inputs", {"run_id": "{run}", "datasets": []}),
    ("POST", "runs/outputs", {"run_id": "{run}", "models": [{"model_id": "{model}", "step": 1}]}),
    ("GET", "artifacts/list", {"run_id": "{run}"}),
    ("GET", "logged-models/{model}", {}),
    ("PATCH", "logged-models/{model}", {"status": 2}),
    ("DELETE", "logged-models/{model}", {}),
    ("GET", "logged-models/{model}/artifacts/directories", {}),
    ("PATCH", "logged-models/{model}/tags", {"tags": [{"key": "a", "value": "b"}]}),
    ("GET", "registered-models/get", {"name": "delay"}),
    ("POST", "registered-models/rename", {"name": "delay", "new_name": "stolen"}),
    ("PATCH", "registered-models/update", {"name": "delay", "description": "stolen"}),
    ("DELETE", "registered-models/delete", {"name": "delay"}),
    ("POST", "registered-models/set-tag", {"name": "delay", "key": "a", "value": "b"}),
    ("POST", "registered-models/alias", {"name": "delay", "alias": "champion", "version": "1"}),
    ("GET", "model-versions/get", {"name": "delay", "version": "1"}),
    ("GET", "model-versions/get-download-uri", {"name": "delay", "version": "1"}),
    ("PATCH", "model-versions/update", {"name": "delay", "version": "1", "description": "x"}),
    ("DELETE", "model-versions/delete", {"name": "delay", "version": "1"}),
    ("POST", "model-versions/create", {"name": "mine", "source": "{uri}/model", "run_id": "{run}"}),
    ("POST", "model-versions/create", {"name": "mine", "source": "{uri}/model"}),
]


@pytest.mark.parametrize("api", ["api", "ajax-api"])
@pytest.mark.parametrize(("method", "path", "arguments"), READS, ids=[f"{m} {p}" for m, p, _ in READS])
def test_what_is_somebody_else_s_does_not_exist(
    bob: httpx.Client, hers: dict[str, str], method: str, path: str, arguments: dict[str, Any], api: str
) -> None:
    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.format(**hers)
        if isinstance(value, list):
            return [fill(item) for item in value]
        return {key: fill(item) for key, item in value.items()} if isinstance(value, dict) else value

    filled = fill(arguments)
    options: dict[str, Any] = {"params": filled} if method == "GET" else {"json": filled}
    answer = bob.request(method, f"/mlflow/{api}/2.0/mlflow/{path.format(**hers)}", **options)
    assert 400 <= answer.status_code < 500, answer.text
    assert "notes" not in answer.text


def test_searches_find_nothing_of_somebody_else(bob: httpx.Client, hers: dict[str, str]) -> None:
    ids = [hers["experiment"]]
    assert not post(bob, "runs/search", {"experiment_ids": ids}).get("runs")
    assert not post(bob, "logged-models/search", {"experiment_ids": ids}).get("models")
    names = {item["name"] for item in post(bob, "experiments/search", {"max_results": 100}).get("experiments", [])}
    assert "late-flights" not in names
    for what in ("registered-models", "model-versions"):
        assert "delay" not in bob.get(f"{API}/{what}/search").text
    for name in ("get-history-bulk", "get-history-bulk-interval"):
        query = {"run_id": hers["run"], "run_ids": hers["run"], "metric_key": "auc", "max_results": 10}
        answer = bob.get(f"/mlflow/ajax-api/2.0/mlflow/metrics/{name}", params=query)
        assert answer.status_code >= 400 or "0.8" not in answer.text
    datasets = bob.post("/mlflow/ajax-api/2.0/mlflow/experiments/search-datasets", json={"experiment_ids": ids})
    assert "late" not in datasets.text


def test_graphql_is_filtered_too(alice: httpx.Client, bob: httpx.Client, hers: dict[str, str]) -> None:
    query = 'query { mlflowGetRun(input: {runId: "%s"}) { run { info { runId userId } } } }' % hers["run"]  # noqa: UP031
    ours = alice.post("/mlflow/graphql", json={"query": query, "variables": {}})
    assert hers["run"] in ours.text
    theirs = bob.post("/mlflow/graphql", json={"query": query, "variables": {}})
    assert hers["run"] not in theirs.json().get("data", {}).__str__().replace("None", "")
    search = 'query { mlflowSearchRuns(input: {experimentIds: ["%s"]}) { runs { info { runId } } } }'
    found = bob.post("/mlflow/graphql", json={"query": search % hers["experiment"], "variables": {}})
    assert hers["run"] not in found.text


def test_artifacts_of_somebody_else_cannot_be_named(bob: httpx.Client, hers: dict[str, str]) -> None:
    path = hers["artifact"]
    inner = path.split("/artifacts/", 1)[1]
    tries = [
        path,
        path.replace("/api/", "/ajax-api/"),
        path.replace("workspaces/", "workspaces%2F"),
        path.replace("workspaces/user-alice", "workspaces/user-bob/../user-alice"),
        path.replace("workspaces/user-alice", "workspaces/user-bob/%2e%2e/user-alice"),
        path.replace("workspaces/user-alice", "workspaces/user-bob/%252e%252e/user-alice"),
        path.replace("workspaces/user-alice", "x/..%2fuser-alice"),
        path.replace(inner, f"/{inner}"),
    ]
    for tried in tries:
        for answer in (bob.get(tried), bob.put(tried, content=b"stolen"), bob.delete(tried)):
            assert 400 <= answer.status_code < 500, tried
            assert b"hers alone" not in answer.content
    for query in ({"path": "workspaces/user-alice"}, {"path": "../user-alice"}):
        listing = bob.get("/mlflow/api/2.0/mlflow-artifacts/artifacts", params=query)
        assert listing.status_code >= 400 or "notes" not in listing.text
    page = bob.get("/mlflow/get-artifact", params={"run_uuid": hers["run"], "path": "notes.txt"})
    assert page.status_code == 404


def test_nobody_enters_a_workspace_that_is_not_his(bob: httpx.Client, bench: Any, hers: dict[str, str]) -> None:
    for name in ("user-alice", "default", "group-admins", "user-alice, user-bob"):
        answer = bob.get(f"{API}/runs/get", params={"run_id": hers["run"]}, headers={"X-MLFLOW-WORKSPACE": name})
        assert answer.status_code == 404
        answer = bob.get(f"{API}/runs/get", params={"run_id": hers["run"], "workspace": name})
        assert answer.status_code == 404


def test_two_people_may_use_one_name(alice: httpx.Client, bob: httpx.Client, hers: dict[str, str]) -> None:
    his = post(bob, "experiments/create", {"name": "late-flights"})["experiment_id"]
    assert his != hers["experiment"]
    post(bob, "registered-models/create", {"name": "delay"})
    found = alice.get(f"{API}/experiments/get-by-name", params={"experiment_name": "late-flights"}).json()
    assert found["experiment"]["experiment_id"] == hers["experiment"]


@pytest.mark.parametrize("group", ["research", "group-research"])
def test_a_group_shares_what_is_made_in_its_workspace(
    alice: httpx.Client, bob: httpx.Client, bench: Any, group: str
) -> None:
    shared = {"headers": {"X-MLFLOW-WORKSPACE": group}}
    made = post(alice, "experiments/create", {"name": f"shared {group}"}, **shared)["experiment_id"]
    run = post(alice, "runs/create", {"experiment_id": made}, **shared)["run"]["info"]["run_id"]
    found = post(bob, "runs/search", {"experiment_ids": [made]}, **shared)
    assert [item["info"]["run_id"] for item in found["runs"]] == [run]
    assert found["runs"][0]["info"]["user_id"] == "alice"
    with bench.http(bench.resolver.add("dora")) as dora:
        assert dora.get(f"{API}/runs/get", params={"run_id": run}, **shared).status_code == 404
        assert dora.get(f"{API}/runs/get", params={"run_id": run}).status_code == 404


def test_a_person_is_told_his_workspaces_only(bob: httpx.Client) -> None:
    listed = bob.get("/mlflow/ajax-api/3.0/mlflow/workspaces").json()["workspaces"]
    assert [item["description"] for item in listed] == ["bob", "Sales & Co", "research"]
    assert bob.post("/mlflow/api/3.0/mlflow/workspaces", json={"name": "mine"}).status_code == 404
    assert bob.delete("/mlflow/api/3.0/mlflow/workspaces/user-alice").status_code == 404


@pytest.mark.parametrize("field", ["user_id", "userId"])
def test_the_user_is_the_caller_whatever_the_client_says(alice: httpx.Client, hers: dict[str, str], field: str) -> None:
    tags = [{"key": "mlflow.user", "value": "root"}, {"key": "other", "value": "kept"}]
    body = {"experiment_id": hers["experiment"], field: "root", "tags": tags}
    run = post(alice, "runs/create", body)["run"]["info"]["run_id"]
    post(alice, "runs/set-tag", {"run_id": run, "key": "mlflow.user", "value": "root"})
    post(alice, "runs/log-batch", {"run_id": run, "tags": tags})
    alice.post(f"{API}/runs/delete-tag", json={"run_id": run, "key": "mlflow.user"})
    found = alice.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]
    tagged = {tag["key"]: tag["value"] for tag in found["data"]["tags"]}
    assert (found["info"]["user_id"], tagged["mlflow.user"], tagged["other"]) == ("alice", "alice", "kept")


REFUSED = [
    ("POST", "api/2.0/mlflow/webhooks"),
    ("POST", "ajax-api/2.0/mlflow/gateway-proxy"),
    ("POST", "api/3.0/mlflow/gateway/secrets/create"),
    ("POST", "ajax-api/3.0/mlflow/assistant/message"),
    ("POST", "api/2.0/mlflow/traces"),
    ("GET", "ajax-api/2.0/mlflow/get-trace-artifact"),
    ("POST", "ajax-api/2.0/mlflow/upload-artifact"),
    ("POST", "v1/traces"),
    ("POST", "ajax-api/3.0/mlflow/jobs/"),
    ("GET", "api/2.0/mlflow/users/get"),
    ("POST", "api/2.0/mlflow-artifacts/mpu/create/x"),
    ("GET", "api/2.0/mlflow-artifacts/presigned/x"),
    ("GET", "build/index.html"),
    ("GET", "static-files/../../etc/passwd"),
    ("GET", "static-files/%2e%2e/%2e%2e/etc/passwd"),
]


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_what_is_not_listed_is_not_there(alice: httpx.Client, method: str, path: str) -> None:
    answer = alice.request(method, f"/mlflow/{path}", json={} if method == "POST" else None)
    assert answer.status_code in (404, 405), answer.text


@pytest.mark.parametrize(
    "source",
    ["http://127.0.0.1:1/x", "file:///etc", "/etc", "mlflow-artifacts://host/x", "s3://b/k", "", "runs://h/x", None],
)
def test_a_model_version_cannot_make_the_server_fetch_something(
    alice: httpx.Client, hers: dict[str, str], source: str | None
) -> None:
    body = {"name": "delay", "source": source, "run_id": hers["run"]}
    answer = alice.post(f"{API}/model-versions/create", json=body)
    assert answer.status_code == 422
    assert "INVALID_PARAMETER_VALUE" in answer.text


@pytest.mark.parametrize("body", [b"[]", b"{", b'"x"', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_object_is_refused(alice: httpx.Client, body: bytes) -> None:
    answer = alice.post(f"{API}/runs/create", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text


def test_a_large_artifact_goes_both_ways_without_being_held(alice: httpx.Client, hers: dict[str, str]) -> None:
    block = b"0123456789abcdef" * 65536
    path = hers["artifact"].replace("notes.txt", "large.bin")
    assert alice.put(path, content=(block for _ in range(80))).status_code == 200
    total = 0
    with alice.stream("GET", path) as answer:
        assert answer.status_code == 200
        for chunk in answer.iter_bytes():
            total += len(chunk)
    assert total == 80 * len(block)


def test_only_this_user_may_open_mlflow_s_socket(bench: Any, mlflow: Any) -> None:
    path: Path = bench.settings.mlflow_socket
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((path.parent / "mlflow.sqlite").stat().st_mode) & 0o077 == 0


def test_what_was_made_stands_in_the_audit_trail(alice: httpx.Client, bench: Any, hers: dict[str, str]) -> None:
    page = alice.get("/api/v1/audit", params={"limit": 1000}).json()
    actions = {(row["who"], row["action"], row["what"]) for row in page["items"]}
    assert ("alice", "experiments.create", "late-flights") in actions
    assert ("alice", "model-versions.create", "delay") in actions
    assert page["intact"] is True
