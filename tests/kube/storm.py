"""Many people who start servers at once, on simulated nodes; scheduler, quota and hub are real.

Simulated pods run nothing: one listener, on a route that takes in all their addresses, answers for each as a
person's server does when the hub looks whether it is up.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.kube.cluster.places import REPOSITORY
from tests.kube.kubectl import Kubectl

FAKE_PODS = "10.245.0.0/16"


@dataclass(frozen=True)
class Spawn:
    """One spawn's end: 'ready', or 'refused' with the reason, or 'stuck'; `began` counts from the storm's start."""

    person: str
    profile: str
    end: str
    began: float
    seconds: float
    reason: str = ""
    sent_away_seconds: float = 0.0  # of them: told by the hub, which has its limit of starts at a time, to come back

    @property
    def ended(self) -> float:
        return self.began + self.seconds


@contextmanager
def answering_for_pods(port: int = 8888) -> Iterator[None]:
    """Every address of a simulated pod is this machine's, and answers."""
    route = ["local", FAKE_PODS, "dev", "lo"]
    subprocess.run(["ip", "route", "add", *route], check=True)
    command = [sys.executable, "-m", "tests.kube.any_server", str(port)]
    server = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == "listening\n", "the servers of the simulated pods did not start"
        yield
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        subprocess.run(["ip", "route", "delete", *route], check=True)


@contextmanager
def simulated_nodes(count: int, cpu: int, memory: str, gpus: int) -> Iterator[None]:
    """kwok nodes; the first one has all the GPUs."""
    kubectl = Kubectl("default")
    nodes = [simulated_node(f"kwok-{n}", cpu, memory, gpus if n == 0 else 0) for n in range(count)]
    kubectl.apply({"apiVersion": "v1", "kind": "List", "items": nodes})
    try:
        kubectl.run("wait", "--for=condition=Ready", "node", "--selector=type=kwok", "--timeout=60s", seconds=70)
        yield
    finally:
        kubectl.run("delete", "node", "--selector=type=kwok", seconds=60)


def simulated_node(name: str, cpu: int, memory: str, gpus: int) -> dict[str, Any]:
    amounts = {"cpu": str(cpu), "memory": memory, "pods": "110", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"type": "kwok", "kubernetes.io/hostname": name},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": amounts, "capacity": amounts},
    }


@dataclass(frozen=True)
class Crowd:
    """People who start servers by the hub's API, as the spawn page does: told to come back later, they do."""

    http: httpx.AsyncClient
    started: float
    deadline_seconds: float  # of one spawn, from the hub's word that it is under way

    async def one_person(self, name: str, profiles: list[str]) -> list[Spawn]:
        answer = await self.http.post(f"/users/{name}")
        assert answer.status_code in (201, 409), answer.text
        return [await self.one_spawn(name, f"s{n}", profile) for n, profile in enumerate(profiles)]

    async def one_spawn(self, name: str, server: str, profile: str) -> Spawn:
        began = time.monotonic()
        answer, sent_away = await self._ask(name, server, profile)
        end, reason = await self._end_of(answer, name, server)
        return Spawn(name, profile, end, began - self.started, time.monotonic() - began, reason, sent_away)

    async def _ask(self, name: str, server: str, profile: str) -> tuple[httpx.Response, float]:
        sent_away = 0.0
        while True:
            answer = await self.http.post(f"/users/{name}/servers/{server}", json={"profile": profile})
            if answer.status_code != 429:
                return answer, sent_away
            seconds = float(answer.headers.get("Retry-After") or 1)
            sent_away += seconds
            await asyncio.sleep(seconds)

    async def _end_of(self, answer: httpx.Response, name: str, server: str) -> tuple[str, str]:
        if answer.status_code >= 400:
            return "refused", answer.json().get("message", "")
        if answer.status_code == 201:
            return "ready", ""
        try:
            async with asyncio.timeout(self.deadline_seconds):
                return await self._follow(name, server)
        except TimeoutError:
            return "stuck", f"no end within {self.deadline_seconds:g} s"

    async def _follow(self, name: str, server: str) -> tuple[str, str]:
        async with self.http.stream("GET", f"/users/{name}/servers/{server}/progress") as lines:
            async for line in lines.aiter_lines():
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
                    if event.get("ready"):
                        return "ready", ""
                    if event.get("failed"):
                        return "refused", event.get("message", "")
        # Ready before the first event was sent: there is no progress to tell then.
        state = (await self.http.get(f"/users/{name}")).json()["servers"].get(server)
        return ("ready", "") if state and state["ready"] else ("stuck", "neither ready nor failed, and no reason")


async def storm(url: str, token: str, asks: dict[str, list[str]], deadline_seconds: float) -> list[Spawn]:
    """Everybody at once; each person's servers one after the other. `asks`: person -> profiles."""
    async with (
        httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"token {token}"},
            limits=httpx.Limits(max_connections=2 * len(asks)),
            timeout=deadline_seconds,
            trust_env=False,
        ) as http,
        asyncio.TaskGroup() as group,
    ):
        crowd = Crowd(http, time.monotonic(), deadline_seconds)
        people = [group.create_task(crowd.one_person(name, profiles)) for name, profiles in asks.items()]
    return [spawn for person in people for spawn in person.result()]


def hub_memory_bytes(kubectl: Kubectl) -> int:
    """The most memory that the hub's process has held."""
    hub = kubectl.list("pods", "component=hub")[0]["metadata"]["name"]
    look = "grep -h -A0 VmHWM /proc/[0-9]*/status | sort -k2 -n | tail -1"
    return int(kubectl.run_in(hub, "sh", "-c", look).split()[1]) * 1024
