"""What a person's pod can reach: each denial is tried, and beside it something that must work."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kube.deployment import Deployment
from tests.kube.kubectl import Kubectl
from tests.kube.person import Person

pytestmark = pytest.mark.kube
OURS = bool(os.environ.get("LABWRIGHT_KUBE_OURS"))
TRY = """
import socket, sys, time
host, port, deadline = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
while True:
    try:
        socket.create_connection((host, port), timeout=2).close()
        print("reached")
        break
    except OSError as error:
        if time.monotonic() > deadline:
            print("blocked:", error)
            break
"""


def attempt(kubectl: Kubectl, pod: str, host: str, port: int, *, seconds: float = 3) -> str:
    """'reached', or 'blocked: why' when no try in `seconds` got a connection."""
    return kubectl.run_in(pod, "python", "-c", TRY, host, str(port), str(seconds)).strip()


@pytest.fixture(scope="module")
def pods(workbench: Deployment) -> Iterator[dict[str, dict[str, str]]]:
    """Two people's running pods: name and address."""
    people = [Person(name, workbench.url, workbench.token) for name in ("net-ada", "net-grace")]
    found = {}
    for person in people:
        person.ensure_known()
        assert person.spawn({"profile": "small"}).status_code in (201, 202)
    for person in people:
        person.wait_until_ready()
        pod = workbench.kubectl.list("pods", f"hub.jupyter.org/username={person.name}")[0]
        found[person.name] = {"name": pod["metadata"]["name"], "address": pod["status"]["podIP"]}
    yield found
    for person in people:
        person.stop()
        person.close()


@pytest.fixture
def pod(pods: dict[str, dict[str, str]]) -> str:
    return pods["net-ada"]["name"]


def test_a_pod_reaches_the_hub_by_its_name(kubectl: Kubectl, pod: str) -> None:
    assert attempt(kubectl, pod, f"hub.{kubectl.namespace}.svc.cluster.local", 8081, seconds=20) == "reached"


def test_a_pod_does_not_reach_the_metadata_address(kubectl: Kubectl, pod: str) -> None:
    assert attempt(kubectl, pod, "169.254.169.254", 80).startswith("blocked")


@pytest.mark.skipif(not OURS, reason="skipped: only our own cluster has a stand-in to be reached")
def test_the_stand_in_at_the_metadata_address_does_answer_a_pod_that_no_policy_holds(kubectl: Kubectl) -> None:
    proxy = kubectl.list("pods", "component=proxy")[0]["metadata"]["name"]
    assert attempt(kubectl, proxy, "169.254.169.254", 80, seconds=10) == "reached"


@pytest.mark.skipif(not OURS, reason="skipped: what is outside of another cluster is not for tests to try")
def test_a_pod_reaches_the_world_outside(kubectl: Kubectl, pod: str) -> None:
    assert attempt(kubectl, pod, "203.0.113.10", 80, seconds=10) == "reached"


def test_a_pod_does_not_reach_the_api_server_by_its_service(kubectl: Kubectl, pod: str) -> None:
    assert attempt(kubectl, pod, "kubernetes.default.svc.cluster.local", 443).startswith("blocked")


def test_a_pod_does_not_reach_the_api_server_by_its_own_address(kubectl: Kubectl, pod: str) -> None:
    slices = Kubectl("default").list("endpointslices", "kubernetes.io/service-name=kubernetes")
    address, port = slices[0]["endpoints"][0]["addresses"][0], slices[0]["ports"][0]["port"]
    assert attempt(kubectl, pod, address, port).startswith("blocked")


def test_a_pod_does_not_reach_another_persons_pod(kubectl: Kubectl, pod: str, pods: dict[str, dict[str, str]]) -> None:
    other = pods["net-grace"]
    assert attempt(kubectl, pod, other["address"], 8888).startswith("blocked")
    # The server there does listen: the hub reaches it.
    hub = kubectl.list("pods", "component=hub")[0]["metadata"]["name"]
    assert attempt(kubectl, hub, other["address"], 8888) == "reached"


def test_a_pod_does_not_reach_the_proxys_api(kubectl: Kubectl, pod: str) -> None:
    assert attempt(kubectl, pod, f"proxy-api.{kubectl.namespace}.svc.cluster.local", 8001).startswith("blocked")


def test_a_pod_does_not_reach_the_nodes_kubelet(kubectl: Kubectl, pod: str) -> None:
    own = kubectl.get("pod", pod)
    assert own is not None
    assert attempt(kubectl, pod, own["status"]["hostIP"], 10250).startswith("blocked")


def test_a_pod_holds_no_token_of_the_cluster(kubectl: Kubectl, pod: str) -> None:
    listing = kubectl.run_in(pod, "sh", "-c", "ls /var/run/secrets/kubernetes.io 2>&1 || true")
    assert "No such file" in listing
