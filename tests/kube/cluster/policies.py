"""Enforces network policies on the node: `python -m tests.kube.cluster.policies`, in its namespace.

The plugins that make pod networks do not enforce policies, and the usual enforcers are no module that can
be built here. The rules are in policy_rules.py; this only watches and applies.
"""

from __future__ import annotations

import logging
import subprocess
import threading

from tests.kube.cluster.api import Api, Mirror
from tests.kube.cluster.places import NODE_NAME, POD_RANGE, Places
from tests.kube.cluster.policy_rules import World, render

log = logging.getLogger(__name__)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    apply(render(World((), {}, ()), POD_RANGE))  # closed until the first list has come
    api = Api(Places.from_environment().kubeconfig)
    dirty = threading.Event()
    pods = Mirror(api, "/api/v1/pods", dirty.set, fieldSelector=f"spec.nodeName={NODE_NAME}")
    namespaces = Mirror(api, "/api/v1/namespaces", dirty.set)
    policies = Mirror(api, "/apis/networking.k8s.io/v1/networkpolicies", dirty.set)
    for mirror in (pods, namespaces, policies):
        mirror.listed.wait()
    applied = ""
    while True:
        dirty.wait()
        dirty.clear()
        world = World.from_objects(pods.objects(), namespaces.objects(), policies.objects())
        rules = render(world, POD_RANGE)
        if rules != applied and apply(rules):
            applied = rules
            log.info("%d pods, %d policies", len(world.pods), len(world.policies))


def apply(rules: str) -> bool:
    """Whether the kernel took the rules. It keeps the old ones where not, which are as closed as before."""
    done = subprocess.run(["nft", "-f", "-"], input=rules, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        log.error("nft refused the rules: %s\n%s", done.stderr, rules)
    return done.returncode == 0


if __name__ == "__main__":
    main()
