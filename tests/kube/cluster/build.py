"""Everything that takes long, once: system packages, programs, images, and the image store they fill."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kube.cluster import base, buildah, images, keys, programs, store, teardown
from tests.kube.cluster.places import Places

# Command -> Debian package that has it.
COMMANDS = {
    "containerd": "containerd",
    "runc": "runc",
    "etcd": "etcd-server",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "socat": "socat",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "gcc": "gcc",
    "ethtool": "ethtool",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    base.KEYRING: "debian-archive-keyring",
}
POLICY = Path("/usr/sbin/policy-rc.d")


def build(places: Places) -> None:
    if os.geteuid() != 0:
        raise buildah.CannotBuild("the cluster needs root: it makes namespaces, mounts and control groups")
    started = time.monotonic()
    install_packages()
    if is_built(places):
        print(f"everything is built; the cache is {places.cache}")
        return
    with alone(places):
        programs.build(places)
        wanted = store_key()
        if not keys.is_current(places.sealed, wanted):
            images.build(places)
            fill_store(places)
            keys.stamp(places.sealed, wanted)
    print(f"built after {time.monotonic() - started:.0f} s; the cache is {places.cache}")


def is_built(places: Places) -> bool:
    return keys.is_current(places.programs, programs.key()) and keys.is_current(places.sealed, store_key())


@contextmanager
def alone(places: Places) -> Iterator[None]:
    """One build at a time: a second one in the same cache would take the working containers of the first away."""
    places.cache.mkdir(parents=True, exist_ok=True)
    with (places.cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another build uses the cache; waiting for its end …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fill_store(places: Places) -> None:
    if teardown.is_alive(places):
        raise buildah.CannotBuild("the cluster is up on the old images; run `make kube-down` first")
    print("filling the image store …", flush=True)
    chosen = places.cache / "import"
    images.select(places, list(images.ALL), chosen)
    store.fill(places, chosen)
    shutil.rmtree(chosen)
    images.tidy(places)


def store_key() -> str:
    return keys.hash_of([], *(images.key(image) for image in images.ALL))


def missing(places: Places) -> str | None:
    """What stands in the way of `kube-up`, in a sentence; None when all is built from these sources."""
    if os.geteuid() != 0:
        return "the cluster needs root"
    absent = [command for command in COMMANDS if shutil.which(command) is None and not Path(command).exists()]
    if absent:
        return f"not installed: {', '.join(sorted(absent))}"
    if not keys.is_current(places.programs, programs.key()):
        return "the programs are not built from these sources"
    # While working on the code: up on the images that are there, whatever they were built from.
    any_will_do = bool(os.environ.get("LABWRIGHT_KUBE_ANY_IMAGES")) and (places.sealed / "known.json").exists()
    if not any_will_do and not keys.is_current(places.sealed, store_key()):
        return "the images are not built from these sources"
    return None


def install_packages() -> None:
    packages = sorted(
        {p for command, p in COMMANDS.items() if shutil.which(command) is None and not Path(command).exists()}
    )
    if not packages:
        return
    if shutil.which("apt-get") is None:
        raise buildah.CannotBuild(f"install these with your package manager: {', '.join(packages)}")
    print(f"installing {', '.join(packages)} …", flush=True)
    # Packages of daemons start them; this one word says no, and is taken away again if it was not there.
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
        if subprocess.run(install, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            subprocess.run(["apt-get", "update", "--quiet"], stdout=subprocess.DEVNULL, check=True)
            subprocess.run(install, env=environment, stdout=subprocess.DEVNULL, check=True)
    finally:
        if ours:
            POLICY.unlink()
