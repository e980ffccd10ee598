"""Starts the cluster and waits until it is of use: the node ready, names resolved."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import time

from tests.kube.cluster import build, network, node, pki, teardown
from tests.kube.cluster.places import CGROUP, CGROUP_ROOT, NODE_NAMESPACE, REPOSITORY, Places

READY_WITHIN_SECONDS = 90


class BringUpFailed(Exception):
    """Says which step failed and where its log is."""


def up(places: Places) -> None:
    if is_up(places):
        print("the cluster is already up")
        return
    missing = build.missing(places)
    if missing:
        raise BringUpFailed(f"{missing}; run `make kube-build` first")
    # What a killed cluster left would be in the way, and would be blamed on this one.
    teardown.down(places, quiet=True)
    started = time.monotonic()
    for folder in (places.state, places.logs, places.logs / "pods", places.logs / "containers"):
        folder.mkdir(parents=True)
    pki.write(places, datetime.datetime.now(datetime.UTC))
    node.write(places)
    make_control_groups()
    network.create()
    supervisor = start_supervisor(places)
    wait_for(places, supervisor, started + READY_WITHIN_SECONDS)
    print(f"the cluster is up after {time.monotonic() - started:.1f} s")
    print(f"  kubectl: make kube-shell, or kubectl with KUBECONFIG={places.kubeconfig} inside its network namespace")


def is_up(places: Places) -> bool:
    return places.ready.exists() and teardown.is_alive(places)


def make_control_groups() -> None:
    """The parent of every pod's control group, in each hierarchy (one, in version 2)."""
    for folder in teardown.control_groups(CGROUP, exists=False):
        folder.mkdir(exist_ok=True)
        # Version 1: an empty cpuset admits no process.
        for name in ("cpuset.cpus", "cpuset.mems"):
            own, above = folder / name, folder.parent / name
            if own.exists() and above.exists() and not own.read_text().strip():
                own.write_text(above.read_text())
    if (CGROUP_ROOT / "cgroup.controllers").exists():
        available = (CGROUP_ROOT / "cgroup.controllers").read_text().split()
        (CGROUP_ROOT / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in available))


def start_supervisor(places: Places) -> subprocess.Popen[bytes]:
    supervise = [sys.executable, "-m", "tests.kube.cluster.supervisor"]
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", *supervise]
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "LABWRIGHT_KUBE_CACHE": str(places.cache),
        "LABWRIGHT_KUBE_STATE": str(places.state),
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
    }
    with (places.logs / "supervisor.log").open("wb") as output:
        process = subprocess.Popen(
            network.inside(NODE_NAMESPACE, *namespaces),
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    places.pid.write_text(str(process.pid))
    return process


def wait_for(places: Places, supervisor: subprocess.Popen[bytes], deadline: float) -> None:
    while not places.ready.exists():
        if supervisor.poll() is not None or time.monotonic() > deadline:
            tail = (places.logs / "supervisor.log").read_text()[-2000:]
            raise BringUpFailed(f"the control plane did not come up; {places.logs}/supervisor.log ends:\n{tail}")
        time.sleep(0.1)
    kubectl = kubectl_command(places)
    for what, command in {
        "the node": ["wait", "--for=condition=Ready", "node", "--all"],
        "the default service account": ["wait", "--for=create", "serviceaccount/default"],
        "cluster DNS": ["-n", "kube-system", "rollout", "status", "deployment/coredns"],
    }.items():
        while True:
            done = subprocess.run([*kubectl, *command, "--timeout=5s"], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                break
            if time.monotonic() > deadline:
                raise BringUpFailed(f"{what} is not ready: {done.stderr.strip()} (make kube-status says more)")
            time.sleep(0.2)


def run_inside(places: Places, command: list[str]) -> int:
    """Runs `command` where the cluster's addresses exist: in the node's network namespace."""
    if not is_up(places):
        raise BringUpFailed("the cluster is not up; run `make kube-up` first")
    environment = {
        **os.environ,
        "KUBECONFIG": str(places.kubeconfig),
        "LABWRIGHT_KUBE_OURS": "1",
        "PATH": f"{places.programs}:{os.environ['PATH']}",
    }
    return subprocess.run(network.inside(NODE_NAMESPACE, *command), env=environment, check=False).returncode


def kubectl_command(places: Places) -> list[str]:
    return network.inside(NODE_NAMESPACE, str(places.program("kubectl")), f"--kubeconfig={places.kubeconfig}")


__all__ = ["BringUpFailed", "is_up", "kubectl_command", "run_inside", "up"]
