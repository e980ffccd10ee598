"""Says in sentences what is wrong with the cluster, worst first."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator

import httpx

from tests.kube.cluster import build, network, teardown
from tests.kube.cluster.api import Api, Object
from tests.kube.cluster.places import Places


def tell(places: Places) -> int:
    if not teardown.is_alive(places):
        left = teardown.residue(places)
        missing = build.missing(places)
        print("The cluster is down." + (f" It cannot be started: {missing}." if missing else " It is built."))
        for line in left:
            print(f"A cluster before left: {line}. `make kube-down` removes it.")
        return 1
    wrong = list(findings(places))
    for sentence in wrong:
        print(sentence)
    if not wrong:
        print("The cluster is up and nothing is wrong with it.")
    return 1 if wrong else 0


def findings(places: Places) -> Iterator[str]:
    if not places.ready.exists():
        yield f"The cluster is still starting, or stuck: see {places.logs}/supervisor.log."
    report = places.state / "programs.json"
    if report.exists():
        yield from program_findings(json.loads(report.read_text()), str(places.logs))
    answer = ask(places)
    if isinstance(answer, str):
        yield answer
        return
    nodes, pods = answer
    yield from node_findings(nodes)
    yield from pod_findings(pods)


def program_findings(programs: Object, logs: str) -> Iterator[str]:
    for name, state in programs.items():
        if not state["running"]:
            yield f"{name} is not running: it ended with {state['exit']}. Its log is {logs}/{name}.log."
        elif state["starts"] > 1:
            times = "once" if state["starts"] == 2 else f"{state['starts'] - 1} times"
            yield f"{name} has died and was started again {times}. Its log is {logs}/{name}.log."


def node_findings(nodes: list[Object]) -> Iterator[str]:
    if not nodes:
        yield "No node has registered: the kubelet has not reached the API server."
    for node in nodes:
        name = node["metadata"]["name"]
        for condition in node["status"].get("conditions", ()):
            if condition["type"] == "Ready" and condition["status"] != "True":
                yield f"Node {name} is not ready: {condition.get('message', 'no reason given')}."
            if condition["type"].endswith("Pressure") and condition["status"] == "True":
                yield f"Node {name} has {condition['type']}: {condition.get('message', '')}."


def pod_findings(pods: list[Object]) -> Iterator[str]:
    for pod in pods:
        where = f"Pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        status = pod.get("status", {})
        if status.get("phase") == "Pending":
            reasons = [c.get("message", "") for c in status.get("conditions", ()) if c["status"] == "False"]
            yield f"{where} is pending: {next((r for r in reasons if r), 'no reason given yet')}."
        for container in status.get("containerStatuses", ()):
            waiting = container.get("state", {}).get("waiting")
            if waiting and waiting.get("reason") != "ContainerCreating":
                yield f"{where}, container {container['name']}: {waiting['reason']}: {waiting.get('message', '')}"


def ask(places: Places) -> tuple[list[Object], list[Object]] | str:
    """Nodes and the system's pods; or the sentence that says why they could not be had."""
    try:
        # The API server's address exists in the node's namespace only.
        with network.entered():
            api = Api(places.kubeconfig)
            return api.get("/api/v1/nodes")["items"], api.get("/api/v1/namespaces/kube-system/pods")["items"]
    except (httpx.HTTPError, OSError, ssl.SSLError) as error:
        return f"The API server does not answer: {error}. Its log is {places.logs}/kube-apiserver.log."
