"""Builds the cluster's programs from source: Kubernetes, CoreDNS, kwok and helm are Go modules.

Two modules: Kubernetes and helm share one version of the client libraries, CoreDNS and kwok another. Cold
on two busy cores this takes about twenty minutes, and Go's own caches make the next one short.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.kube.cluster import buildah, keys
from tests.kube.cluster.places import PROGRAMS, Places

LINKS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")
STAGES = ("node/fast/node-initialize.yaml", "node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
          "pod/fast/pod-ready.yaml", "pod/fast/pod-complete.yaml", "pod/fast/pod-delete.yaml")  # fmt: skip
# program -> (module's folder, package)
PACKAGES = {
    "hyperkube": ("kubernetes", "./hyperkube"),
    "helm": ("kubernetes", "helm.sh/helm/v3/cmd/helm"),
    "coredns": ("addons", "./coredns"),
    "kwok": ("addons", "sigs.k8s.io/kwok/cmd/kwok"),
}


def key() -> str:
    return keys.hash_of([PROGRAMS], go_version())


def go_version() -> str:
    if shutil.which("go") is None:
        raise buildah.CannotBuild("no Go compiler: install Go 1.26 or newer")
    return subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()


def kubernetes_version() -> str:
    for line in (PROGRAMS / "kubernetes" / "go.mod").read_text().splitlines():
        words = line.split()
        if words[:1] == ["k8s.io/kubernetes"]:
            return words[1]
    raise buildah.CannotBuild("go.mod names no version of k8s.io/kubernetes")


def build(places: Places) -> None:
    wanted = key()
    if keys.is_current(places.programs, wanted):
        return
    places.programs.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    for name, (module, package) in PACKAGES.items():
        print(f"building {name} …", flush=True)
        subprocess.run(
            ["nice", "-n", "10", "go", "build", "-p", str(os.cpu_count() or 2), "-trimpath", "-buildvcs=false",
             "-ldflags", link_flags(kubernetes_version()), "-o", str(places.program(name)), package],
            cwd=PROGRAMS / module,
            env=environment,
            check=True,
        )  # fmt: skip
    for name in LINKS:
        link = places.program(name)
        link.unlink(missing_ok=True)
        link.symlink_to("hyperkube")
    subprocess.run(
        ["gcc", "-Os", "-static", "-o", str(places.program("pause")), str(PROGRAMS / "pause" / "pause.c")], check=True
    )
    write_stages(places)
    keys.stamp(places.programs, wanted)


def write_stages(places: Places) -> None:
    """How simulated nodes and pods behave: kwok's own 'fast' set, taken from its module."""
    find = ["go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok"]
    found = subprocess.run(find, cwd=PROGRAMS / "addons", capture_output=True, text=True, check=True)
    stages = Path(found.stdout.strip()) / "kustomize" / "stage"
    text = "---\n".join((stages / name).read_text() for name in STAGES)
    (places.programs / "kwok-stages.yaml").write_text(text)


def link_flags(version: str) -> str:
    """Tells the programs their version, as the makefile of Kubernetes does, but for no date and no commit."""
    major, minor, _patch = version.removeprefix("v").split(".")
    words = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "0" * 40,
        "buildDate": "1970-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(["-s", "-w", *(f"-X {p}.{k}={v}" for p in packages for k, v in words.items())])
