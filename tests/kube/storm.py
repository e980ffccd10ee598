"""Many people who start servers at once, on simulated nodes; scheduler, quota and hub are real.

Simulated pods run nothing: one listener, on a route that takes in all their addresses, answers for each as a
person's server does when the hub looks whether it is up.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jupyterhub

from tests.kube.kubectl import Kubectl

FAKE_PODS = "10.245.0.0/16"
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Spawn:
    """One spawn's end: 'ready', or 'refused' with the reason, or 'stuck'."""

    person: str
    profile: str
    end: str
    seconds: float
    reason: str = ""


class AnyServer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"version": jupyterhub.__version__}).encode()
        self.send_response(200)
        self.send_header("X-JupyterHub-Version", jupyterhub.__version__)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class ManyConnections(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


@contextmanager
def answering_for_pods(port: int = 8888) -> Iterator[None]:
    """Every address of a simulated pod is this machine's, and answers."""
    route = ["local", FAKE_PODS, "dev", "lo"]
    subprocess.run(["ip", "route", "add", *route], check=True)
    server = ManyConnections(("0.0.0.0", port), AnyServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
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


async def storm(url: str, token: str, asks: dict[str, list[str]], deadline_seconds: float) -> list[Spawn]:
    """Everybody at once; each person's servers one after the other. `asks`: person -> profiles."""
    limits = httpx.Limits(max_connections=200)
    headers = {"Authorization": f"token {token}"}
    async with (
        httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=120, trust_env=False) as http,
        asyncio.TaskGroup() as group,
    ):
        people = [
            group.create_task(_one_person(http, name, profiles, deadline_seconds)) for name, profiles in asks.items()
        ]
    return [spawn for person in people for spawn in person.result()]


async def _one_person(http: httpx.AsyncClient, name: str, profiles: list[str], deadline_seconds: float) -> list[Spawn]:
    answer = await http.post(f"/users/{name}")
    assert answer.status_code in (201, 409), answer.text
    return [await _one_spawn(http, name, f"s{n}", profile, deadline_seconds) for n, profile in enumerate(profiles)]


async def _one_spawn(http: httpx.AsyncClient, name: str, server: str, profile: str, deadline_seconds: float) -> Spawn:
    started = time.monotonic()

    def ended(end: str, reason: str = "") -> Spawn:
        return Spawn(name, profile, end, time.monotonic() - started, reason)

    while True:
        answer = await http.post(f"/users/{name}/servers/{server}", json={"profile": profile})
        if answer.status_code != 429:  # the hub's own limit of starts at a time; it says when to come back
            break
        await asyncio.sleep(float(answer.headers.get("Retry-After") or 1))
    if answer.status_code >= 400:
        return ended("refused", answer.json().get("message", ""))
    if answer.status_code == 201:
        return ended("ready")
    path = f"/users/{name}/servers/{server}/progress"
    try:
        async with asyncio.timeout(deadline_seconds), http.stream("GET", path) as lines:
            if lines.status_code == 200:
                async for line in lines.aiter_lines():
                    if line.startswith("data:"):
                        event = json.loads(line.removeprefix("data:"))
                        if event.get("ready"):
                            return ended("ready")
                        if event.get("failed"):
                            return ended("refused", event.get("message", ""))
    except TimeoutError:
        return ended("stuck")
    answer = await http.get(f"/users/{name}")
    state = answer.json()["servers"].get(server)
    return ended("ready") if state and state["ready"] else ended("stuck", "neither ready nor failed, and no reason")


def hub_memory_bytes(kubectl: Kubectl) -> int:
    """The most memory that the hub's process has held."""
    hub = kubectl.list("pods", "component=hub")[0]["metadata"]["name"]
    look = "grep -h -A0 VmHWM /proc/[0-9]*/status | sort -k2 -n | tail -1"
    return int(kubectl.run_in(hub, "sh", "-c", look).split()[1]) * 1024
