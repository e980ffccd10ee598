"""What a pod asks for and what nodes have, and amounts as people say them: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]
GIB = 2**30
SUFFIXES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3}
DEVICE_WORDS = {"nvidia.com/gpu": "GPU", "amd.com/gpu": "GPU"}


def why_no_node_can(pod: Object, nodes: Sequence[Object]) -> str | None:
    """The sentence for a pod that would not fit on any of these nodes even if they were empty."""
    if not nodes:
        return "The cluster has no node at all."
    wanted = _requests(pod)
    selector = pod.get("spec", {}).get("nodeSelector") or {}
    matching = [node for node in nodes if _has_labels(node, selector)]
    if not matching:
        labels = ", ".join(f"{key}={value}" for key, value in selector.items())
        return f"No node has what this profile asks for ({labels})."
    for name, amount_wanted in wanted.items():
        largest = max(_allocatable(node, name) for node in matching)
        if amount_wanted > largest:
            asked, most = amount(name, amount_wanted), amount(name, largest)
            return f"No node is large enough: this profile asks for {asked}, and the largest node has {most}."
    if not any(all(_allocatable(node, n) >= w for n, w in wanted.items()) for node in matching):
        return "No node has all that this profile asks for together."
    return None


def quantity(text: str | int | float) -> float:
    """A Kubernetes quantity as a number: '1500m' is 1.5, '2Gi' is 2**31."""
    written = str(text)
    for suffix, factor in SUFFIXES.items():
        if written.endswith(suffix):
            return float(written.removesuffix(suffix)) * factor
    return float(written)


def amount(resource: str, value: float) -> str:
    """A quantity with its unit, as people say it."""
    if resource in ("memory", "ephemeral-storage", "storage"):
        return f"{value / GIB:.1f} GiB" if value >= GIB / 10 else f"{value / 2**20:.0f} MiB"
    if resource == "cpu":
        return f"{value:g} processor{'' if value == 1 else 's'}"
    word = DEVICE_WORDS.get(resource, resource)
    return f"{value:g} {word}{'s' if value != 1 and word == 'GPU' else ''}"


def _requests(pod: Object) -> dict[str, float]:
    total: dict[str, float] = {}
    for container in pod.get("spec", {}).get("containers") or ():
        for name, value in ((container.get("resources") or {}).get("requests") or {}).items():
            total[name] = total.get(name, 0.0) + quantity(value)
    return total


def _allocatable(node: Object, resource: str) -> float:
    return quantity((node.get("status", {}).get("allocatable") or {}).get(resource, 0))


def _has_labels(node: Object, selector: Mapping[str, str]) -> bool:
    labels = node.get("metadata", {}).get("labels") or {}
    return all(labels.get(key) == value for key, value in selector.items())
