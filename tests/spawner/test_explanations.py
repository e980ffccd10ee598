"""Reasons in people's words, from what a Kubernetes 1.34 really said (recorded/)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from labwright.spawner.capacity import amount, quantity
from labwright.spawner.explanations import Explanation, explain_end, explain_refusal, explain_start

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "kubernetes-1.34.json").read_text())
NODES = RECORDED["nodes"]


def start(name: str, nodes: Any = NODES) -> Explanation:
    found = explain_start(RECORDED[name]["pod"], RECORDED[name]["events"], nodes)
    assert found is not None
    return found


def with_gpus(count: int) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = copy.deepcopy(NODES)
    nodes[0]["status"]["allocatable"]["nvidia.com/gpu"] = str(count)
    return nodes


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("absent-image", "image", "The image localhost/labwright/absent:test cannot be pulled: "),
        ("never-pulled", "image", "it is not on the node, and this cluster has no registry to get it from."),
        ("too-large", "no-node-fits", "No node is large enough: this profile asks for 64 processors"),
        ("no-gpu", "no-node-fits", "asks for 1 GPU, and the largest node has 0 GPUs."),
        ("elsewhere", "no-node-fits", "No node has what this profile asks for (labwright/pool=moon)."),
        ("no-volume", "volume", "Your home's volume is not ready: no space"),
        ("out-of-memory", "out-of-memory", "used more memory than its profile has. It may use 64 MiB."),
        ("crashed", "crashed", "ended with an error (exit status 3)."),
        ("no-program", "cannot-run", "The image's program could not be started"),
    ],
)
def test_a_start_that_cannot_succeed_is_final_and_says_why(name: str, code: str, sentence: str) -> None:
    found = start(name)
    assert (found.code, found.final) == (code, True)
    assert sentence in found.sentence
    assert found.remedy


def test_a_volume_that_cannot_be_mounted_is_tried_again_before_people_are_told_to_give_up() -> None:
    found = start("unmounted")
    assert (found.code, found.final) == ("volume", True)
    assert "not found" in found.sentence
    once = [{**event, "count": 1} for event in RECORDED["unmounted"]["events"]]
    found_early = explain_start(RECORDED["unmounted"]["pod"], once, NODES)
    assert found_early is not None
    assert not found_early.final


def test_a_size_that_no_node_has_is_refused_while_the_home_is_still_being_made() -> None:
    pod = copy.deepcopy(RECORDED["no-gpu"]["pod"])
    for condition in pod["status"]["conditions"]:
        condition["message"] = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    found = explain_start(pod, [], NODES)
    assert found is not None
    assert (found.code, found.final) == ("no-node-fits", True)


def test_a_gpu_that_is_taken_is_waited_for() -> None:
    found = start("no-gpu", with_gpus(1))
    assert not found.final
    assert found.sentence == "Waiting for a GPU: what the cluster has is in use right now."


def test_a_home_that_was_waited_for_first_does_not_hide_the_gpu_that_is_waited_for_now() -> None:
    """The condition is of the first try: its second writing was lost, as a busy cluster loses it."""
    pod = copy.deepcopy(RECORDED["no-gpu"]["pod"])
    condition = next(c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
    first = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    told = [{"reason": "FailedScheduling", "message": said} for said in (first, condition["message"])]
    condition["message"] = first
    found = explain_start(pod, told, with_gpus(1))
    assert found is not None
    assert found.sentence == "Waiting for a GPU: what the cluster has is in use right now."
    assert explain_start(pod, told[:1], with_gpus(1)) == Explanation(
        "volume", "Your home's volume is not there yet.", "It is being made; please wait."
    )


def test_a_full_place_of_ones_home_is_waited_for_and_not_its_volume() -> None:
    pod = copy.deepcopy(RECORDED["no-gpu"]["pod"])
    condition = next(c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled")
    condition["message"] = (
        "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had volume node affinity conflict."
    )
    found = explain_start(pod, [], with_gpus(1))
    assert found is not None
    assert found.sentence == "Waiting for a GPU: what the cluster has is in use right now."
    condition["message"] = "0/1 nodes are available: 1 node(s) had volume node affinity conflict."
    found = explain_start(pod, [], with_gpus(1))
    assert found is not None
    assert found.sentence == "Waiting for a node that your home's volume can be on: those are in use right now."


def test_without_the_right_to_list_nodes_a_size_that_no_node_has_is_waited_for() -> None:
    assert (
        start("too-large", None).sentence
        == "Waiting for processors and memory: what the cluster has is in use right now."
    )


def test_a_cluster_that_grows_is_waited_for() -> None:
    pod, events = RECORDED["too-large"]["pod"], RECORDED["too-large"]["events"]
    found = explain_start(pod, [*events, {"reason": "TriggeredScaleUp", "message": ""}], NODES)
    assert found is not None
    assert (found.code, found.final) == ("scaling", False)


def test_a_pod_without_trouble_has_nothing_to_explain() -> None:
    pod = copy.deepcopy(RECORDED["unmounted"]["pod"])
    assert explain_start(pod, [], NODES) is None


def test_a_registry_that_did_not_answer_once_is_asked_again() -> None:
    pod = copy.deepcopy(RECORDED["absent-image"]["pod"])
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ErrImagePull", "message": "i/o timeout"}}
    found = explain_start(pod, [], NODES)
    assert found is not None
    assert (found.code, found.final) == ("image", False)


def test_the_quotas_refusal_is_told_in_amounts() -> None:
    found = explain_refusal(403, RECORDED["quota-refusal"])
    assert found.code == "quota"
    assert "it asks for 3.0 GiB, 0 MiB of 2.0 GiB are taken" in found.sentence


def test_a_quota_of_servers_is_told_in_servers() -> None:
    amounts = "requested: count/pods=1, used: count/pods=9, limited: count/pods=9"
    message = f'pods "a" is forbidden: exceeded quota: q, {amounts}'
    assert "9 servers are allowed and 9 are running" in explain_refusal(403, message).sentence


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (403, 'pods "a" is forbidden: violates PodSecurity "restricted:latest": x', "security"),
        (403, 'pods is forbidden: User "hub" cannot create resource "pods"', "forbidden"),
        (403, "maximum memory usage per Container is 1Gi, but limit is 2Gi", "limit"),
        (503, "", "cluster-busy"),
        (422, "", "refused"),
    ],
)
def test_other_refusals_have_codes_of_their_own(status: int, message: str, code: str) -> None:
    assert explain_refusal(status, message).code == code


def test_a_server_that_ended_long_after_a_kernel_was_killed_was_not_out_of_memory() -> None:
    pod = copy.deepcopy(RECORDED["out-of-memory"]["pod"])
    pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = 1
    assert explain_end(pod).code == "crashed"


def test_the_end_of_a_server_that_ran_is_explained() -> None:
    assert explain_end(RECORDED["out-of-memory"]["pod"]).code == "out-of-memory"
    evicted = {"status": {"reason": "Evicted", "message": "The node was low on resource: memory."}}
    assert "low on resource" in explain_end(evicted).sentence
    assert explain_end({"status": {}}).code == "gone"
    preempted = {"status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "message": "preempted"}]}}
    assert explain_end(preempted).code == "disrupted"


@pytest.mark.parametrize(
    ("text", "number"), [("1500m", 1.5), ("2Gi", 2**31), ("1536M", 1536e6), ("3", 3.0), (4, 4.0), ("1k", 1000.0)]
)
def test_quantities_are_read_as_kubernetes_writes_them(text: str, number: float) -> None:
    assert quantity(text) == number


def test_amounts_have_their_units() -> None:
    assert amount("memory", 2**31) == "2.0 GiB"
    assert amount("cpu", 1) == "1 processor"
    assert amount("nvidia.com/gpu", 2) == "2 GPUs"
