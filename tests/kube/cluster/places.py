"""Where the cluster keeps things, and the addresses it uses inside its own network namespace."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
KUBE = REPOSITORY / "tests" / "kube"
PROGRAMS = KUBE / "programs"

# Two namespaces: the node with everything on it, and the 'internet' that its default route leads to,
# which is another namespace with two addresses and no way on.
NODE_NAMESPACE = "labwright-node"
OUTSIDE_NAMESPACE = "labwright-outside"
NODE_NAME = "labwright"
NODE_ADDRESS = "10.10.0.2"
OUTSIDE_GATEWAY = "10.10.0.1"
METADATA_ADDRESS = "169.254.169.254"
INTERNET_ADDRESS = "203.0.113.10"
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_SERVICE_ADDRESS = "10.96.0.10"
API_PORT = 6443
CGROUP = "labwright-kube"
CGROUP_ROOT = Path("/sys/fs/cgroup")
# Folders with fixed names that the node's programs write to: empty mount points on the host.
MOUNT_POINTS = (Path("/var/lib/cni"), Path("/var/lib/kubelet"))


@dataclass(frozen=True)
class Places:
    """`cache` outlives clusters and is keyed by the hash of its inputs; `state` is one cluster's."""

    cache: Path
    state: Path

    @classmethod
    def from_environment(cls) -> Places:
        return cls(
            cache=Path(os.environ.get("LABWRIGHT_KUBE_CACHE") or "/var/cache/labwright-kube"),
            state=Path(os.environ.get("LABWRIGHT_KUBE_STATE") or "/var/lib/labwright-kube"),
        )

    @property
    def programs(self) -> Path:
        return self.cache / "programs"

    @property
    def images(self) -> Path:
        return self.cache / "images"

    @property
    def layout(self) -> Path:
        return self.cache / "layout"

    @property
    def sealed(self) -> Path:
        """The store's own databases as they were after the images' import: `down` puts them back."""
        return self.cache / "sealed"

    @property
    def store(self) -> Path:
        """containerd's root: images are imported here once, at build; each cluster starts on it."""
        return self.cache / "store"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig" / "admin"

    @property
    def ready(self) -> Path:
        return self.state / "ready"

    @property
    def pid(self) -> Path:
        """The outer process of the cluster's process namespace, as the host counts."""
        return self.state / "pid"

    @property
    def containerd_socket(self) -> Path:
        """Under the cluster's own /run: a socket's path is short, and gone with the mount namespace."""
        return Path("/run/labwright/containerd.sock")

    def program(self, name: str) -> Path:
        return self.programs / name
