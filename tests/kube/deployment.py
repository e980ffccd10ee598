"""Hub and proxy on the cluster: applied, waited for, and taken away whole."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

import httpx

from tests.kube.kubectl import Kubectl, wait_for

MANIFESTS = Path(__file__).parent / "manifests"
IMAGES = os.environ.get("LABWRIGHT_KUBE_IMAGES") or "localhost/labwright/{name}:test"


@dataclass(frozen=True)
class Deployment:
    kubectl: Kubectl
    token: str
    url: str
    hub_url: str  # past the proxy, for streams whose every line counts

    @property
    def namespace(self) -> str:
        return self.kubectl.namespace

    def wait_until_reached(self) -> None:
        """A hub that is ready is behind the proxy only once each node knows its address."""
        wait_for("the hub behind its proxy", self.is_reached, 60)

    def is_reached(self) -> bool:
        try:
            return httpx.get(f"{self.url}/hub/api/health", timeout=10, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def deployed(
    namespace: str, *, workbench: str = "workbench-config.yaml", start_timeout: int = 120
) -> Iterator[Deployment]:
    """A workbench of its own in `namespace`; its address is on this machine's loopback."""
    kubectl = Kubectl(namespace)
    token = secrets.token_hex(16)
    values = {
        "namespace": namespace,
        "hub_image": IMAGES.format(name="hub"),
        "user_image": IMAGES.format(name="user"),
        "user_gpu_image": IMAGES.format(name="user-gpu"),
        "start_timeout": str(start_timeout),
    }
    kubectl.delete("namespace", namespace)
    try:
        manifests = Template((MANIFESTS / "workbench.yaml").read_text()).substitute(values)
        # The namespace first, for what goes into it.
        kubectl.apply(manifests.split("\n---\n", 1)[0])
        kubectl.apply(secret({"proxy-token": secrets.token_hex(32), "tests-token": token}))
        config = {
            "jupyterhub_config.py": (MANIFESTS / "jupyterhub_config.py").read_text(),
            "workbench.yaml": (MANIFESTS / workbench).read_text(),
        }
        kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "workbench"}, "data": config})
        kubectl.apply(Template((MANIFESTS / "policies.yaml").read_text()).substitute(values))
        kubectl.apply(manifests)
        for name in ("proxy", "hub"):
            kubectl.run("rollout", "status", f"deployment/{name}", "--timeout=120s", seconds=130)
        with kubectl.forwarded("service/proxy-public", 80) as proxy, kubectl.forwarded("service/hub", 8081) as hub:
            deployment = Deployment(kubectl, token, f"http://127.0.0.1:{proxy}", f"http://127.0.0.1:{hub}")
            deployment.wait_until_reached()
            yield deployment
    finally:
        if not os.environ.get("LABWRIGHT_KUBE_KEEP"):
            kubectl.delete("namespace", namespace)
            for kind in ("clusterrole", "clusterrolebinding"):
                kubectl.delete(kind, f"{namespace}-nodes")


def secret(values: dict[str, str]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "workbench"}, "stringData": values}


def restart_hub(workbench: Deployment) -> str:
    """Kills the hub's pod at once, waits for another that can be reached, and names it."""
    kubectl = workbench.kubectl
    before = {pod["metadata"]["name"] for pod in kubectl.list("pods", "component=hub")}
    for name in before:
        kubectl.delete("pod", name, "--grace-period=0", "--force")
    kubectl.run("rollout", "status", "deployment/hub", "--timeout=120s", seconds=130)
    after = {pod["metadata"]["name"] for pod in kubectl.list("pods", "component=hub")} - before
    assert after, json.dumps(sorted(before))
    workbench.wait_until_reached()
    return next(iter(after))
