"""Network policies as nftables rules: a pure function from the API's objects to one ruleset.

What holds:
- A pod selected by a policy for a direction may only do what some policy allows in it; others are free.
- A pod whose address the API server has not told yet reaches nothing: the rules close before they open.
- Answers to allowed connections pass. The node itself reaches every pod, as kubelet's probes need.
- Addresses are matched after the service's address was translated, so a policy speaks of pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]
TABLE = "labwright_policy"


@dataclass(frozen=True)
class Pod:
    namespace: str
    name: str
    address: str
    labels: Mapping[str, str]
    ports: Mapping[tuple[str, str], int]  # (protocol, name) -> number

    @classmethod
    def from_object(cls, item: Object) -> Pod | None:
        """None for a pod that has no address of its own, or none any more."""
        spec, status = item["spec"], item.get("status", {})
        gone = status.get("phase") in ("Succeeded", "Failed")
        if spec.get("hostNetwork") or gone or not status.get("podIP"):
            return None
        ports = {
            (port.get("protocol", "TCP"), port["name"]): port["containerPort"]
            for container in spec["containers"]
            for port in container.get("ports", ())
            if "name" in port
        }
        meta = item["metadata"]
        return cls(meta["namespace"], meta["name"], status["podIP"], meta.get("labels", {}), ports)


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; the empty one matches everything."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", ()):
        key, operator, values = expression["key"], expression["operator"], expression.get("values", ())
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[operator]
        if not holds:
            return False
    return True


@dataclass(frozen=True)
class World:
    pods: tuple[Pod, ...]
    namespaces: Mapping[str, Mapping[str, str]]  # name -> labels
    policies: tuple[Object, ...]

    @classmethod
    def from_objects(cls, pods: Iterable[Object], namespaces: Iterable[Object], policies: Iterable[Object]) -> World:
        found = (Pod.from_object(item) for item in pods)
        return cls(
            pods=tuple(sorted((pod for pod in found if pod), key=lambda pod: (pod.namespace, pod.name))),
            namespaces={item["metadata"]["name"]: item["metadata"].get("labels", {}) for item in namespaces},
            policies=tuple(sorted(policies, key=lambda item: item["metadata"]["uid"])),
        )


def render(world: World, pod_range: str) -> str:
    """The whole table, replaced at once: `nft -f -` applies all of it or nothing."""
    chains: list[str] = []
    jumps: dict[str, list[str]] = {"egress": [], "ingress": []}
    for number, pod in enumerate(world.pods):
        for direction in jumps:
            governing = _policies_for(world, pod, direction)
            if governing:
                name = f"{direction}_{number}"
                chains.append(_chain(name, world, pod, direction, governing))
                jumps[direction].append(f"{pod.address} : jump {name}")
    known = _elements([pod.address for pod in world.pods])
    return f"""\
table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
  set known {{ type ipv4_addr; {known} }}
  map egress {{ type ipv4_addr : verdict; {_elements(jumps["egress"])} }}
  map ingress {{ type ipv4_addr : verdict; {_elements(jumps["ingress"])} }}
{"".join(chains)}\
  chain refused {{
    reject with icmp admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority -5; policy accept;
    ct state established,related accept
    ip saddr {pod_range} ip saddr != @known drop
    ip daddr {pod_range} ip daddr != @known drop
    ip saddr vmap @egress
    ip daddr vmap @ingress
  }}
  chain input {{
    type filter hook input priority -5; policy accept;
    ct state established,related accept
    ip saddr {pod_range} ip saddr != @known drop
    ip saddr vmap @egress
  }}
}}
"""


def _elements(entries: list[str]) -> str:
    return f"elements = {{ {', '.join(sorted(set(entries)))} }};" if entries else ""


def _policies_for(world: World, pod: Pod, direction: str) -> list[Object]:
    """The policies that isolate `pod` in this direction."""
    found = []
    for policy in world.policies:
        spec = policy["spec"]
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
        applies = direction.capitalize() in types and policy["metadata"]["namespace"] == pod.namespace
        if applies and selects(spec.get("podSelector", {}), pod.labels):
            found.append(policy)
    return found


def _chain(name: str, world: World, pod: Pod, direction: str, policies: list[Object]) -> str:
    """Returns (goes on to the other direction's check) where a rule allows, and refuses at the end."""
    peers_key, end = ("to", "daddr") if direction == "egress" else ("from", "saddr")
    lines: list[str] = []
    for policy in policies:
        for rule in policy["spec"].get(direction) or ():
            lines += _rule(world, pod, policy, direction, end, rule.get(peers_key), rule.get("ports"))
    body = "".join(f"    {line} return\n" for line in dict.fromkeys(lines))
    return f"  chain {name} {{ # {pod.namespace}/{pod.name}\n{body}    jump refused\n  }}\n"


def _rule(
    world: World, pod: Pod, policy: Object, direction: str, end: str,
    peers: list[Object] | None, ports: list[Object] | None,
) -> list[str]:  # fmt: skip
    pods, ranges = _peers(world, policy, peers)
    if not peers:
        places = [""]
    else:
        places = [f"ip {end} {{ {', '.join(p.address for p in pods)} }} "] if pods else []
        places += [_range(end, block) for block in ranges]
    if not ports:
        return [place.strip() or "meta nfproto ipv4" for place in places]
    lines = []
    for port in ports:
        number = port.get("port")
        if isinstance(number, str):
            # A name means the receiving pod's port: ours coming in, each peer's going out.
            lines += _named(pod, pods if peers else world.pods, direction, port.get("protocol", "TCP"), number)
        else:
            lines += [place + _port(port) for place in places]
    return lines


def _named(pod: Pod, peers: Iterable[Pod], direction: str, protocol: str, name: str) -> list[str]:
    lines = []
    for peer in peers:
        receiver, end = (peer, "daddr") if direction == "egress" else (pod, "saddr")
        number = receiver.ports.get((protocol, name))
        if number is not None:
            lines.append(f"ip {end} {peer.address} {protocol.lower()} dport {number}")
    return lines


def _port(port: Object) -> str:
    protocol, number, last = port.get("protocol", "TCP").lower(), port.get("port"), port.get("endPort")
    if number is None:
        return f"meta l4proto {protocol}"
    return f"{protocol} dport {number}-{last}" if last else f"{protocol} dport {number}"


def _range(end: str, block: Object) -> str:
    exceptions = block.get("except") or ()
    outside = f"ip {end} != {{ {', '.join(exceptions)} }} " if exceptions else ""
    return f"ip {end} {block['cidr']} {outside}"


def _peers(world: World, policy: Object, peers: list[Object] | None) -> tuple[list[Pod], list[Object]]:
    pods: dict[str, Pod] = {}
    ranges: list[Object] = []
    for peer in peers or ():
        if "ipBlock" in peer:
            if ":" not in peer["ipBlock"]["cidr"]:
                ranges.append(peer["ipBlock"])
            continue
        if "namespaceSelector" in peer:
            namespaces = {n for n, labels in world.namespaces.items() if selects(peer["namespaceSelector"], labels)}
        else:
            namespaces = {policy["metadata"]["namespace"]}
        for pod in world.pods:
            if pod.namespace in namespaces and selects(peer.get("podSelector", {}), pod.labels):
                pods[pod.address] = pod
    return list(pods.values()), ranges
