"""What is left of the cluster after it: nothing. Needs our own cluster built; takes it up and down by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kube.cluster import bringup, build, network, teardown
from tests.kube.cluster.places import REPOSITORY, Places
from tests.kube.kubectl import wait_for

TIMES = int(os.environ.get("LABWRIGHT_KUBE_CYCLES") or "1")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("LABWRIGHT_KUBE_CYCLES"),
        reason="skipped: it takes the cluster down; `make test-kube-cycles` runs it",
    ),
]


def host_state() -> dict[str, list[str]]:
    """What the host's namespace shows: links, addresses, routes, rules, mounts, namespaces, control groups."""

    def lines(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    return {
        "links": lines("ip", "-o", "link"),
        "addresses": lines("ip", "-o", "-4", "addr"),
        "routes": lines("ip", "route", "show", "table", "all"),
        "rules": lines("nft", "list", "ruleset"),
        "mounts": [line.split(" ", 4)[4] for line in lines("cat", "/proc/self/mountinfo")],
        "namespaces": lines("ip", "netns", "list"),
        "control groups": [str(group) for group in teardown.control_groups("labwright-kube")],
    }


def without_names(state: dict[str, list[str]]) -> dict[str, list[str]]:
    """Without what may be there while the cluster is up: the names of its namespaces, and its control groups."""
    mounts = [line for line in state["mounts"] if not line.startswith("/run/netns/labwright-")]
    return {**state, "mounts": mounts, "namespaces": [], "control groups": []}


def cluster(command: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "tests.kube.cluster", command]
    return subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def run_cluster(command: str) -> str:
    done = cluster(command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    missing = build.missing(Places.from_environment())
    if missing:
        pytest.skip(f"skipped: {missing}; run `make kube-build`")
    run_cluster("down")


@pytest.mark.parametrize("cycle", range(TIMES))
def test_up_and_down_leaves_nothing(cycle: int) -> None:
    places = Places.from_environment()
    before = host_state()
    started = time.monotonic()
    run_cluster("up")
    up_seconds = time.monotonic() - started
    assert without_names(host_state()) == without_names(before), "the running cluster shows in the host's namespace"
    nodes = json.loads(subprocess.check_output([*bringup.kubectl_command(places), "get", "nodes", "-o", "json"]))
    assert [node["metadata"]["name"] for node in nodes["items"]] == ["labwright"]
    started = time.monotonic()
    run_cluster("down")
    print(f"\ncycle {cycle + 1}: up in {up_seconds:.1f} s, down in {time.monotonic() - started:.1f} s")
    assert teardown.residue(places) == []
    assert host_state() == before
    assert up_seconds <= bringup.READY_WITHIN_SECONDS


def test_a_cluster_that_was_killed_leaves_nothing_after_down() -> None:
    places = Places.from_environment()
    run_cluster("up")
    pid = teardown.inner_pid(places)
    assert pid is not None
    os.kill(pid, 9)
    run_cluster("down")
    assert teardown.residue(places) == []


def test_status_says_in_sentences_what_is_wrong() -> None:
    places = Places.from_environment()
    assert status() == (1, "The cluster is down. It is built.")
    run_cluster("up")
    try:
        assert status() == (0, "The cluster is up and nothing is wrong with it.")
        os.kill(pid_of(str(places.program("kube-scheduler"))), signal.SIGKILL)
        said = "kube-scheduler has died and was started again once."
        wait_for("the supervisor to start it again", lambda: said in status()[1], 30)
        assert status()[0] == 1
    finally:
        run_cluster("down")


def status() -> tuple[int, str]:
    done = cluster("status")
    return done.returncode, done.stdout.strip()


def pid_of(program: str) -> int:
    running = (path for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    return next(int(path.parent.name) for path in running if path.read_bytes().startswith(f"{program}\0".encode()))


def test_the_cluster_has_no_way_out() -> None:
    run_cluster("up")
    try:
        routes = subprocess.check_output(["ip", "-n", network.OUTSIDE_NAMESPACE, "route"], text=True)
        assert "default" not in routes
        probe = ["python3", "-c", "import socket; socket.create_connection(('198.51.100.1', 443), timeout=3)"]
        inside = network.inside(network.NODE_NAMESPACE, *probe)
        assert subprocess.run(inside, capture_output=True, check=False).returncode != 0
    finally:
        run_cluster("down")
