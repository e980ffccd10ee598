"""The two network namespaces: the node, and the outside it believes in. Nothing touches the host's."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator

from tests.kube.cluster.places import (
    INTERNET_ADDRESS,
    METADATA_ADDRESS,
    NODE_ADDRESS,
    NODE_NAMESPACE,
    OUTSIDE_GATEWAY,
    OUTSIDE_NAMESPACE,
    POD_RANGE,
)

NAMESPACES = (NODE_NAMESPACE, OUTSIDE_NAMESPACE)

# Per-namespace settings: forwarding for pods, and no IPv6 addresses that no policy speaks of.
NODE_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
}


def existing_namespaces() -> list[str]:
    listing = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0] for line in listing.splitlines() if line.strip()}
    return [name for name in NAMESPACES if name in names]


def inside(namespace: str, *command: str) -> list[str]:
    """The command line that runs `command` in a namespace.

    Not `ip netns exec`: that mounts a fresh /sys over the control groups.
    """
    return ["nsenter", f"--net=/run/netns/{namespace}", "--", *command]


@contextlib.contextmanager
def entered(namespace: str = NODE_NAMESPACE) -> Iterator[None]:
    """This thread, and the sockets it opens, in a namespace; and back again."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _set_namespace(other)
        yield
    finally:
        _set_namespace(own)
        os.close(own)
        os.close(other)


def _set_namespace(descriptor: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def create() -> None:
    for name in NAMESPACES:
        _run("ip", "netns", "add", name)
        _run("ip", "-n", name, "link", "set", "lo", "up")
    _run("ip", "-n", NODE_NAMESPACE, "link", "add", "uplink", "type", "veth",
         "peer", "name", "downlink", "netns", OUTSIDE_NAMESPACE)  # fmt: skip
    for name, link, address in (
        (NODE_NAMESPACE, "uplink", NODE_ADDRESS),
        (OUTSIDE_NAMESPACE, "downlink", OUTSIDE_GATEWAY),
    ):
        _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", link)
        _run("ip", "-n", name, "link", "set", link, "up")
    for address in (METADATA_ADDRESS, INTERNET_ADDRESS):
        _run("ip", "-n", OUTSIDE_NAMESPACE, "addr", "add", f"{address}/32", "dev", "lo")
    _run("ip", "-n", NODE_NAMESPACE, "route", "add", "default", "via", OUTSIDE_GATEWAY)
    _run("ip", "-n", OUTSIDE_NAMESPACE, "route", "add", POD_RANGE, "via", NODE_ADDRESS)
    write = "import sys; [open('/proc/sys/' + a.split('=')[0], 'w').write(a.split('=')[1]) for a in sys.argv[1:]]"
    pairs = [f"{name}={value}" for name, value in NODE_SETTINGS.items()]
    _run(*inside(NODE_NAMESPACE, sys.executable, "-c", write, *pairs))


def destroy() -> None:
    for name in existing_namespaces():
        _run("ip", "netns", "delete", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
