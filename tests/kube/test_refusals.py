"""Starts that are refused, wait, or ask for more than they may: what people are told, and how soon."""

from __future__ import annotations

import time

import pytest

from tests.kube import kubectl as cluster
from tests.kube.deployment import Deployment
from tests.kube.kubectl import Kubectl, wait_for
from tests.kube.person import Person, pod_of

pytestmark = pytest.mark.kube
GPU = "nvidia.com/gpu"


def failure_of(
    workbench: Deployment, person: Person, options: dict[str, object], seconds: float = 30
) -> tuple[str, float]:
    """What a spawn that fails says, and after how many seconds."""
    person.ensure_known()
    started = time.monotonic()
    answer = person.spawn(options)
    if answer.status_code >= 400:
        return answer.json()["message"], time.monotonic() - started
    events = person.progress(seconds, hub_url=workbench.hub_url)
    assert events, answer.text
    return events[-1]["message"], time.monotonic() - started


def test_a_gpu_is_asked_for_and_waited_for(person: Person, workbench: Deployment, kubectl: Kubectl) -> None:
    node = next(
        n["metadata"]["name"]
        for n in kubectl.list("nodes")
        if "kwok.x-k8s.io/node" not in n["metadata"].get("annotations", {})
    )
    cluster.patch_extended_resource(node, GPU, 1)
    other = Person(f"{person.name}-b", workbench.url, workbench.token)
    try:
        start_with_gpu(person)
        pod = kubectl.get("pod", pod_of(kubectl, person))
        assert pod is not None
        assert pod["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"
        assert pod["spec"]["containers"][0]["image"].endswith("/user-gpu:test")
        other.ensure_known()
        started = time.monotonic()
        assert other.spawn({"profile": "gpu"}).status_code == 202
        messages = other.progress(20, until="Waiting for a GPU", hub_url=workbench.hub_url)
        assert "Waiting for a GPU: what the cluster has is in use" in messages[-1]["message"], messages
        assert time.monotonic() - started < 10
        person.stop()
        other.wait_until_ready()  # the one that waited gets what came free
    finally:
        other.stop()
        other.close()
        cluster.patch_extended_resource(node, GPU, None)


def start_with_gpu(person: Person) -> None:
    person.ensure_known()
    assert person.spawn({"profile": "gpu"}).status_code in (201, 202)
    person.wait_until_ready()


def test_a_gpu_that_no_node_has_is_refused_with_the_reason(person: Person, workbench: Deployment) -> None:
    message, seconds = failure_of(workbench, person, {"profile": "gpu"})
    assert "No node is large enough: this profile asks for 1 GPU, and the largest node has 0 GPUs." in message
    assert seconds < 10


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        ("huge", "No node is large enough: this profile asks for"),
        ("absent", "cannot be pulled"),
        ("tiny", "Your server was killed because it used more memory than its profile has. It may use"),
        ("elsewhere", "No node has what this profile asks for (labwright/pool=moon)."),
    ],
)
def test_a_start_that_cannot_succeed_says_why_within_ten_seconds(
    person: Person, workbench: Deployment, profile: str, reason: str
) -> None:
    message, seconds = failure_of(workbench, person, {"profile": profile})
    assert reason in message
    assert seconds < 10
    print(f"\n{profile}: after {seconds:.1f} s: {message}")


def test_a_full_quota_is_told(person: Person, workbench: Deployment, kubectl: Kubectl) -> None:
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "tight"},
            "spec": {"hard": {"limits.memory": "2G"}},
        }
    )
    try:
        wait_for(
            "the quota's count", lambda: (kubectl.get("resourcequota", "tight") or {}).get("status", {}).get("used"), 30
        )
        message, seconds = failure_of(workbench, person, {"profile": "small"})
        assert "quota has no room for your server" in message
        assert seconds < 10
    finally:
        kubectl.delete("resourcequota", "tight")


def test_a_home_whose_volume_cannot_be_made_is_told(person: Person, workbench: Deployment, kubectl: Kubectl) -> None:
    claim = f"home-{person.name}"
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "gone",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    )
    try:
        message, seconds = failure_of(workbench, person, {"profile": "small"})
        assert "Your home's volume is not ready: " in message
        assert '"gone" not found' in message
        assert seconds < 10
    finally:
        kubectl.delete("persistentvolumeclaim", claim)


TAMPERED = [
    ({"profile": "small", "image": "evil:latest"}, "image"),
    ({"profile": "small", "cpu_limit": 64, "mem_limit": "1T"}, "cpu_limit"),
    ({"profile": "nothing-like-it"}, "no profile"),
    ({"profile": "research"}, "no profile"),
    ({"profile": "small", "options": {"image": "evil"}}, "image"),
    ({"profile": {"$ne": 1}}, "no profile"),
]


@pytest.mark.parametrize(("options", "word"), TAMPERED)
def test_a_tampered_request_is_refused(
    person: Person, workbench: Deployment, options: dict[str, object], word: str, kubectl: Kubectl
) -> None:
    message, _seconds = failure_of(workbench, person, options)
    assert word in message
    assert not kubectl.list("pods", f"hub.jupyter.org/username={person.name}")


def test_a_missing_profile_is_recomputed_and_not_skipped(person: Person, kubectl: Kubectl) -> None:
    person.ensure_known()
    assert person.spawn({}).status_code in (201, 202)
    person.wait_until_ready()
    pod = kubectl.get("pod", pod_of(kubectl, person))
    assert pod is not None
    assert pod["metadata"]["labels"]["labwright/profile"] == "small"
