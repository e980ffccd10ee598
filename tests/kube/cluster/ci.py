"""The Kubernetes tests as a part of CI: run where the cluster can be had in time, 'skipped: why' elsewhere.

A machine on which Kubernetes cannot run is no failure. A cluster that ran on this machine before and does not
come up now is one, and so is a failing test, and anything that the cluster leaves behind.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.kube.cluster import bringup, build, buildah, images, keys, programs, teardown
from tests.kube.cluster.places import REPOSITORY, Places

# What two idle cores take, rounded up. A build that takes longer, because they are not idle, is given up.
PROGRAMS_SECONDS = 780
FIRST_IMAGES_SECONDS = 420
IMAGES_SECONDS = 300
TESTS_SECONDS = 900
NO_LIMIT = 24 * 3600

# What the cluster needs of the kernel and of its rights: a short try of each, in namespaces of its own.
TRIES = {
    "make mount and process namespaces": "unshare --mount --pid --fork true",
    "make network namespaces and links in them": "unshare --net ip link add probe0 type veth peer name probe1",
    "set packet filter rules": "unshare --net nft add table inet probe",
    "mount overlays": "unshare --mount sh -ec 'mount -t tmpfs none /mnt; cd /mnt; mkdir l u w m; "
    "mount -t overlay none -o lowerdir=l,upperdir=u,workdir=w m'",
}


class TookTooLong(buildah.CannotBuild):
    """The machine is busy: no fault of what is tested."""


def run(places: Places, command: list[str]) -> int:
    """Runs `command` (the tests) on a cluster that is taken down after it, whatever happens."""
    started = time.monotonic()
    why = why_not(places)
    if why:
        return skip(why)
    try:
        build.install_packages()
        cannot = what_this_machine_refuses()
        if cannot:
            return skip(f"this machine does not let us {cannot}")
        build_within(seconds_left() - TESTS_SECONDS - int(time.monotonic() - started))
        bringup.up(places)
    except TookTooLong as error:
        return skip(str(error))
    except (buildah.CannotBuild, bringup.BringUpFailed, subprocess.CalledProcessError, OSError) as error:
        teardown.down(places)
        if has_run_here(places):
            print(f"The cluster has run on this machine before and cannot be had now: {error}", file=sys.stderr)
            return 1
        return skip(f"the cluster cannot be had here: {error}")
    remember_that_it_runs(places)
    try:
        seconds = max(60, seconds_left() - int(time.monotonic() - started))
        result = bringup.run_inside(places, ["timeout", "--signal=INT", "--kill-after=60", f"{seconds}", *command])
        if result == 124:
            print(f"The tests on Kubernetes did not end within {seconds} s.", file=sys.stderr)
    finally:
        left = teardown.down(places)
    return result or (1 if left else 0)


def why_not(places: Places) -> str | None:
    if os.geteuid() != 0:
        return "the cluster needs root"
    if teardown.is_alive(places):
        return "a cluster is up on this machine already, and is somebody's"
    try:
        wanted = programs.key()
    except buildah.CannotBuild as error:
        return str(error)
    building = 0 if keys.is_current(places.programs, wanted) else PROGRAMS_SECONDS
    if not keys.is_current(places.sealed, build.store_key()):
        first = any(not (images.stamp_folder(places, image) / ".key").exists() for image in images.OURS)
        building += FIRST_IMAGES_SECONDS if first else IMAGES_SECONDS
    if building + TESTS_SECONDS > seconds_left():
        left, needed = seconds_left() // 60, (building + TESTS_SECONDS) // 60
        once = f", {building // 60} of them to build the cluster (`make kube-build` does it once)" if building else ""
        return f"{left} minutes are left, and this takes about {needed}{once}"
    return None


def seconds_left() -> int:
    return int(os.environ.get("LABWRIGHT_KUBE_SECONDS") or NO_LIMIT)


def build_within(seconds: int) -> None:
    """What a build that is given up had compiled stays in Go's cache."""
    builder = subprocess.Popen(
        [sys.executable, "-m", "tests.kube.cluster", "build"], cwd=REPOSITORY, start_new_session=True
    )
    try:
        result = builder.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(builder.pid, signal.SIGKILL)
        builder.wait()
        raise TookTooLong(f"building took longer than {seconds // 60} minutes") from None
    if result != 0:
        raise buildah.CannotBuild("the build failed; its output is above")


def what_this_machine_refuses() -> str | None:
    for what, command in TRIES.items():
        if subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode != 0:
            return what
    try:
        bringup.make_control_groups()
    except OSError as error:
        return f"make control groups ({error})"
    finally:
        teardown.remove_control_groups()
    return None


def skip(why: str) -> int:
    print(f"skipped: tests on Kubernetes: {why}")
    return 0


def _memory(places: Places) -> Path:
    return places.cache / "has-run"


def _machine(places: Places) -> str:
    return f"{programs.key()} {platform.release()}"


def has_run_here(places: Places) -> bool:
    return _memory(places).exists() and _memory(places).read_text() == _machine(places)


def remember_that_it_runs(places: Places) -> None:
    _memory(places).write_text(_machine(places))
