"""`python -m tests.kube.cluster build|up|down|status|run`: what the kube-* make targets call."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.kube.cluster import bringup, build, buildah, network, programs, status, teardown
from tests.kube.cluster.places import NODE_NAMESPACE, Places

USAGE = "usage: python -m tests.kube.cluster build|up|down|status|missing|key|run COMMAND…"


def main(arguments: list[str]) -> int:
    places = Places.from_environment()
    try:
        match arguments:
            case ["build"]:
                build.build(places)
            case ["up"]:
                bringup.up(places)
            case ["down"]:
                return 1 if teardown.down(places) else 0
            case ["status"]:
                return status.tell(places)
            case ["missing"]:
                why = build.missing_programs(places)
                print(why or "")
                return 1 if why else 0
            case ["key"]:
                print(f"{programs.key()} {build.store_key()}")
            case ["run", *command] if command:
                return run_inside(places, command)
            case _:
                print(
                    "usage: python -m tests.kube.cluster build|up|down|status|missing|key|run COMMAND…", file=sys.stderr
                )
                return 2
    except (bringup.BringUpFailed, buildah.CannotBuild) as error:
        print(f"kube: {error}", file=sys.stderr)
        return 1
    return 0


def run_inside(places: Places, command: list[str]) -> int:
    """Runs `command` where the cluster's addresses exist: in the node's network namespace."""
    if not bringup.is_up(places):
        raise bringup.BringUpFailed("the cluster is not up; run `make kube-up` first")
    environment = {
        **os.environ,
        "KUBECONFIG": str(places.kubeconfig),
        "LABWRIGHT_KUBE_OURS": "1",
        "PATH": f"{places.programs}:{os.environ['PATH']}",
    }
    return subprocess.run(network.inside(NODE_NAMESPACE, *command), env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
