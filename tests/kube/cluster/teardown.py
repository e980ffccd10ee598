"""Takes the cluster away, and says what is left of it: nothing, or a list that a test fails on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.kube.cluster import network, store
from tests.kube.cluster.places import CGROUP, CGROUP_ROOT, MOUNT_POINTS, Places

GRACE_SECONDS = 15


def down(places: Places, quiet: bool = False) -> list[str]:
    """Removes everything of the cluster but the cache; returns what could not be removed."""
    started = time.monotonic()
    if is_alive(places):
        stop_supervisor(places)
    for name in network.existing_namespaces():
        for pid in processes_in(Path("/run/netns") / name):
            _kill(pid, signal.SIGKILL)
    remove_control_groups()
    store.restore(places)
    network.destroy()
    for folder in MOUNT_POINTS:
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
    if places.state.exists():
        shutil.rmtree(places.state)
    left = residue(places)
    if not quiet:
        print(f"the cluster is down after {time.monotonic() - started:.1f} s")
        for line in left:
            print(f"left: {line}")
    return left


def is_alive(places: Places) -> bool:
    pid = supervisor_pid(places)
    return pid is not None and Path(f"/proc/{pid}").exists()


def supervisor_pid(places: Places) -> int | None:
    """The outer process of the cluster, unless its number has gone to somebody else since."""
    try:
        pid = int(places.pid.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if b"tests.kube.cluster.supervisor" in command else None


def inner_pid(places: Places) -> int | None:
    """Process 1 of the cluster's process namespace, as the host counts."""
    pid = supervisor_pid(places)
    if pid is None:
        return None
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def stop_supervisor(places: Places) -> None:
    """Ends process 1 of the process namespace: the kernel ends the rest, pods and all, and their mounts."""
    outer, inner = supervisor_pid(places), inner_pid(places)
    for pid in (inner, outer):
        if pid is not None:
            _kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + GRACE_SECONDS
    while is_alive(places) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.02)


def control_groups(name: str, exists: bool = True) -> list[Path]:
    """The cluster's group in every hierarchy of version 1, and of version 2 where it holds controllers.

    Beside version 1 the one of version 2 holds none: nothing is made there, but runc leaves groups in it.
    """
    if (CGROUP_ROOT / "cgroup.controllers").exists():
        found = [CGROUP_ROOT / name]
    else:
        found = [
            folder / name
            for folder in CGROUP_ROOT.iterdir()
            if folder.is_dir() and not folder.is_symlink() and (exists or folder.name != "unified")
        ]
    return [folder for folder in found if folder.exists()] if exists else found


def remove_control_groups() -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    while (groups := control_groups(CGROUP)) and time.monotonic() < deadline:
        for group in groups:
            for pid in processes_of(group):
                _kill(pid, signal.SIGKILL)
            for folder, _subfolders, _files in os.walk(group, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError:  # a process in it is still ending
                    continue
        if control_groups(CGROUP):
            time.sleep(0.1)


def processes_of(group: Path) -> list[int]:
    found: list[int] = []
    for listing in group.rglob("cgroup.procs"):
        try:
            found += [int(pid) for pid in listing.read_text().split()]
        except OSError:
            continue
    return found


def processes_in(namespace: Path) -> list[int]:
    wanted = namespace.stat().st_ino
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "ns" / "net").stat().st_ino == wanted:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def residue(places: Places) -> list[str]:
    """What of the cluster is still on the machine, a sentence each."""
    return list(_residue(places))


def _residue(places: Places) -> Iterator[str]:
    if places.state.exists():
        yield f"folder {places.state}"
    for name in network.existing_namespaces():
        yield f"network namespace {name}"
    for group in control_groups(CGROUP):
        yield f"control group {group}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if target.startswith((str(places.state), str(places.store), "/run/labwright")):
            yield f"mount {target}"
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        ours = (str(places.programs), str(places.state), str(places.store), "tests.kube.cluster.supervisor",
                "/run/labwright/containerd")  # fmt: skip
        if any(mark in command for mark in ours) and int(folder.name) != os.getpid():
            yield f"process {folder.name}: {command.strip()[:120]}"
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    if "KUBE-" in rules or "CNI-" in rules or "labwright" in tables:
        yield "packet filter rules of the cluster in the host's namespace"
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=False).stdout
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=False).stdout
    if "uplink" in links or "cni" in links or "10.244." in routes or "10.96." in routes:
        yield "a link or route of the cluster in the host's namespace"
    for path in ("/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers",
                 "/run/containerd", "/run/labwright", "/usr/libexec/kubernetes"):  # fmt: skip
        if Path(path).exists():
            yield f"folder {path}"
    yield from store.residue(places)


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _reap() -> None:
    """Collects the supervisor's outer process where it is this process's child."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
