"""500 spawns from 100 people at once: each ends ready, or refused with its reason; none is stuck."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter

import pytest

from tests.kube import storm
from tests.kube.deployment import deployed
from tests.kube.kubectl import wait_for

pytestmark = [
    pytest.mark.kube,
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("LABWRIGHT_KUBE_OURS"),
        reason="skipped: simulated nodes are on our own cluster only",
    ),
]
PEOPLE, EACH = 100, 5
QUOTA_SERVERS = 480
START_TIMEOUT = 180


def asks() -> dict[str, list[str]]:
    """Mostly small ones; 12 people want one of 4 GPUs, 4 a size that no node has."""
    people = {f"person-{n:03}": ["small", "small", "large", "small", "small"] for n in range(PEOPLE)}
    for n in range(12):
        people[f"person-{n:03}"][0] = "gpu"
    for n in range(12, 16):
        people[f"person-{n:03}"][0] = "huge"
    return people


def test_five_hundred_spawns_from_a_hundred_people_all_end() -> None:
    with (
        storm.answering_for_pods(),
        storm.simulated_nodes(40, cpu=32, memory="256Gi", gpus=4),
        deployed("labwright-storm", workbench="storm-config.yaml", start_timeout=START_TIMEOUT) as deployment,
    ):
        kubectl = deployment.kubectl
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "people"},
                 "spec": {"hard": {"count/pods": str(QUOTA_SERVERS), "requests.nvidia.com/gpu": "12"}}}  # fmt: skip
        kubectl.apply(quota)
        wait_for("the quota's count", lambda: (kubectl.get("resourcequota", "people") or {}).get("status"), 30)
        service = kubectl.get("service", "hub")
        assert service is not None
        url = f"http://{service['spec']['clusterIP']}:8081/hub/api"
        started = time.monotonic()
        spawns = asyncio.run(storm.storm(url, deployment.token, asks(), deadline_seconds=START_TIMEOUT + 60))
        seconds = time.monotonic() - started
        memory = storm.hub_memory_bytes(kubectl)
        pods = kubectl.list("pods", "component=singleuser-server")
    report(spawns, seconds, memory)
    assert len(spawns) == PEOPLE * EACH
    assert [spawn for spawn in spawns if spawn.end == "stuck"] == []
    assert [spawn for spawn in spawns if spawn.sent_away_seconds] == []
    ready = [spawn for spawn in spawns if spawn.end == "ready"]
    assert [spawn for spawn in spawns if spawn.end == "refused" and not explained(spawn)] == []
    assert sum(spawn.profile == "gpu" for spawn in ready) == 4
    assert not any(spawn.profile == "huge" for spawn in ready)
    running = [
        pod for pod in pods if pod["status"]["phase"] == "Running" and not pod["metadata"].get("deletionTimestamp")
    ]
    assert len(running) == len(ready)
    assert len(running) <= QUOTA_SERVERS


def explained(spawn: storm.Spawn) -> bool:
    reasons = ("quota has no room", "Waiting for a GPU", "No node is large enough")
    return any(reason in spawn.reason for reason in reasons)


def report(spawns: list[storm.Spawn], seconds: float, memory: int) -> None:
    """The rate is of the first nine tenths that became ready: the rest waited for a GPU's share of the time."""
    ready = sorted((spawn for spawn in spawns if spawn.end == "ready"), key=lambda spawn: spawn.ended)
    waits = sorted(spawn.seconds for spawn in ready)
    most = int(len(ready) * 0.9)
    print(
        f"\n{len(spawns)} spawns by {PEOPLE} people at once, all ended after {seconds:.1f} s: {len(ready)} ready, ",
        end="",
    )
    print(f"{most / ready[most - 1].ended:.1f} spawns/s, median {waits[len(waits) // 2]:.1f} s, ", end="")
    print(f"p99 {waits[int(len(waits) * 0.99) - 1]:.1f} s, hub memory {memory / 2**20:.0f} MiB")
    sent_away = [spawn.sent_away_seconds for spawn in spawns if spawn.sent_away_seconds]
    print(f"  {len(sent_away)} were told to come back later, {max(sent_away, default=0):.0f} s at most in all")
    slowest = sorted(ready, key=lambda spawn: -spawn.seconds)[:8]
    print("  slowest:", ", ".join(f"{s.profile} at {s.began:.0f} s: {s.seconds:.1f} s" for s in slowest))
    reasons = Counter((spawn.end, spawn.reason[:110]) for spawn in spawns if spawn.end != "ready")
    for (end, reason), count in reasons.most_common():
        print(f"  {count} {end}: {reason}")
