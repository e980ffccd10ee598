"""Runs buildah on a storage of its own under the cache."""

from __future__ import annotations

import subprocess

from tests.kube.cluster.places import REPOSITORY, Places

# Two builds of the same inputs are the same bytes: nothing carries the date of the build.
TIMESTAMP = "1700000000"


class CannotBuild(Exception):
    """What the build needs is not there, or a step of it failed; says which."""


def run(places: Places, *arguments: str) -> str:
    roots = [f"--root={places.cache / 'buildah'}", f"--runroot={places.cache / 'buildah-run'}"]
    command = ["buildah", *roots, "--storage-driver=overlay", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    if done.returncode != 0:
        raise CannotBuild(f"buildah {arguments[0]} failed; it ended with:\n{done.stderr[-3000:]}")
    return done.stdout.strip()


def commit(places: Places, container: str, tag: str) -> None:
    run(places, "commit", "--quiet", "--timestamp", TIMESTAMP, "--rm", container, tag)
