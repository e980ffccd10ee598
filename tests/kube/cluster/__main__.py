"""`python -m tests.kube.cluster build|up|down|status|run|ci`: what the kube-* make targets call."""

from __future__ import annotations

import sys

from tests.kube.cluster import bringup, build, buildah, ci, status, teardown
from tests.kube.cluster.places import Places

USAGE = "usage: python -m tests.kube.cluster build|up|down|status|run COMMAND…|ci COMMAND…"


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
            case ["ci", *command] if command:
                return ci.run(places, command)
            case ["run", *command] if command:
                return bringup.run_inside(places, command)
            case _:
                print(USAGE, file=sys.stderr)
                return 2
    except (bringup.BringUpFailed, buildah.CannotBuild) as error:
        print(f"kube: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
