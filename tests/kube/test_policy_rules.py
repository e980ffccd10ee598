"""The cluster's own policy enforcer, without a cluster: what a set of objects turns into."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kube.cluster.policy_rules import Pod, World, render, selects

RANGE = "10.244.0.0/16"


def pod(name: str, address: str | None, labels: dict[str, str], namespace: str = "work", **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "ports": [{"name": "http", "containerPort": 8888}]}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "uid": name},
        "spec": {"containers": [container], **spec},
        "status": {"phase": "Running", **({"podIP": address} if address else {})},
    }


def policy(name: str, selector: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "work", "uid": name},
        "spec": {"podSelector": selector, **spec},
    }


NAMESPACES = [
    {"metadata": {"name": "work", "labels": {"kubernetes.io/metadata.name": "work"}}},
    {"metadata": {"name": "kube-system", "labels": {"kubernetes.io/metadata.name": "kube-system"}}},
]
PODS = [
    pod("user", "10.244.0.5", {"component": "user"}),
    pod("hub", "10.244.0.6", {"component": "hub"}),
    pod("dns", "10.244.0.7", {"k8s-app": "kube-dns"}, "kube-system"),
]


def rules(*policies: dict[str, Any], pods: list[dict[str, Any]] | None = None) -> str:
    return render(World.from_objects(PODS if pods is None else pods, NAMESPACES, policies), RANGE)


def chain(text: str, name: str, address: str) -> list[str]:
    """The lines of the chain that governs this address in this direction."""
    jumps = text.split(f"map {name} ")[1].split("}\n")[0]
    assert f"{address} : jump " in jumps, text
    label = jumps.split(f"{address} : jump ")[1].split(",")[0].split()[0]
    body = text.split(f"chain {label} ")[1].split("\n  }")[0]
    return [line.strip() for line in body.splitlines()[1:]]


def test_pods_that_no_policy_selects_are_free() -> None:
    text = rules(policy("hub-only", {"matchLabels": {"component": "hub"}}, policyTypes=["Ingress"]))
    assert "10.244.0.5 : jump" not in text
    assert chain(text, "ingress", "10.244.0.6") == ["jump refused"]


def test_a_pod_whose_address_is_not_known_yet_reaches_nothing() -> None:
    text = rules(pods=[pod("starting", None, {})])
    assert f"ip saddr {RANGE} ip saddr != @known drop" in text
    assert "elements" not in text


def test_pods_that_ended_or_use_the_nodes_network_have_no_rules() -> None:
    ended = {**pod("ended", "10.244.0.9", {}), "status": {"phase": "Succeeded", "podIP": "10.244.0.9"}}
    on_node = pod("on-node", "10.10.0.2", {}, hostNetwork=True)
    text = rules(pods=[ended, on_node])
    assert "10.244.0.9" not in text
    assert "10.10.0.2" not in text


def test_peers_are_found_by_namespace_and_label_together() -> None:
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    egress = [{"to": [peer], "ports": [{"protocol": "UDP", "port": 53}]}]
    text = rules(policy("p", {"matchLabels": {"component": "user"}}, policyTypes=["Egress"], egress=egress))
    assert chain(text, "egress", "10.244.0.5") == ["ip daddr { 10.244.0.7 } udp dport 53 return", "jump refused"]


def test_a_range_with_exceptions_leaves_them_out() -> None:
    block = {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.0.0/16"]}
    text = rules(policy("p", {}, policyTypes=["Egress"], egress=[{"to": [{"ipBlock": block}]}]))
    assert chain(text, "egress", "10.244.0.6") == [
        "ip daddr 0.0.0.0/0 ip daddr != { 10.0.0.0/8, 169.254.0.0/16 } return",
        "jump refused",
    ]


def test_a_rule_without_peers_and_ports_allows_everything() -> None:
    text = rules(policy("p", {}, policyTypes=["Ingress"], ingress=[{}]))
    assert chain(text, "ingress", "10.244.0.5") == ["meta nfproto ipv4 return", "jump refused"]


def test_named_ports_are_the_receiving_pods() -> None:
    ingress = [{"from": [{"podSelector": {"matchLabels": {"component": "hub"}}}], "ports": [{"port": "http"}]}]
    text = rules(policy("p", {"matchLabels": {"component": "user"}}, ingress=ingress))
    assert chain(text, "ingress", "10.244.0.5") == ["ip saddr 10.244.0.6 tcp dport 8888 return", "jump refused"]


def test_peers_that_do_not_exist_allow_nothing() -> None:
    ingress = [{"from": [{"podSelector": {"matchLabels": {"component": "nobody"}}}]}]
    text = rules(policy("p", {"matchLabels": {"component": "user"}}, ingress=ingress))
    assert chain(text, "ingress", "10.244.0.5") == ["jump refused"]


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ({"key": "a", "operator": "In", "values": ["1", "2"]}, True),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, False),
        ({"key": "b", "operator": "NotIn", "values": ["1"]}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "b", "operator": "DoesNotExist"}, True),
        ({"key": "a", "operator": "DoesNotExist"}, False),
    ],
)
def test_expressions_are_read_as_the_api_means_them(expression: dict[str, Any], holds: bool) -> None:
    assert selects({"matchExpressions": [expression]}, {"a": "1"}) is holds


def test_the_address_of_a_pod_is_read_from_its_status() -> None:
    found = Pod.from_object(PODS[0])
    assert found is not None
    assert (found.address, found.ports) == ("10.244.0.5", {("TCP", "http"): 8888})
