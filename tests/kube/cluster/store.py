"""containerd's image store: filled once at build, used by each cluster in place, put back after each.

Importing images takes a minute, starting on a filled store none. What a cluster adds (containers, their
snapshots, its records of both) is taken away by putting back the two databases as they were sealed, and
deleting the folders that those do not know: this works after any crash, and asks no daemon.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.kube.cluster import buildah
from tests.kube.cluster.places import REPOSITORY, Places

DATABASES = (
    "io.containerd.metadata.v1.bolt/meta.db",
    "io.containerd.snapshotter.v1.overlayfs/metadata.db",
)
SNAPSHOTS = "io.containerd.snapshotter.v1.overlayfs/snapshots"
BLOBS = "io.containerd.content.v1.content/blobs/sha256"
# What the Kubernetes plugin keeps of running pods; there are none in a sealed store.
RECORDS = ("io.containerd.grpc.v1.cri/containers", "io.containerd.grpc.v1.cri/sandboxes",
           "io.containerd.runtime.v2.task", "tmpmounts", "io.containerd.content.v1.content/ingest")  # fmt: skip
IMPORT_CONFIG = """\
version = 2
root = "{root}"
state = "/run/import/state"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "/run/import/containerd.sock"
# Nothing is collected while images are unpacked: an image that replaces another stands on layers that belong to
# neither for a moment ('parent snapshot does not exist'). `ctr content prune` collects after it, and waits for it.
[plugins."io.containerd.gc.v1.scheduler"]
  deletion_threshold = 0
  mutation_threshold = 0
  startup_delay = "0s"
"""


def fill(places: Places, layout: Path) -> None:
    """Imports every image of an OCI layout over what was there by its name, and seals the store."""
    if places.sealed.exists():
        restore(places)
        shutil.rmtree(places.sealed)
    # In mount and process namespaces of its own: the daemon and its mounts end with them.
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL",
         sys.executable, "-m", "tests.kube.cluster.store", str(places.store), str(layout)],
        cwd=REPOSITORY,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise buildah.CannotBuild("the images could not be imported; why is above")
    seal(places)


def seal(places: Places) -> None:
    scratch = places.sealed.with_suffix(".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for database in DATABASES:
        shutil.copy2(places.store / database, scratch / Path(database).name)
    known = {part: sorted(path.name for path in (places.store / part).iterdir()) for part in (SNAPSHOTS, BLOBS)}
    (scratch / "known.json").write_text(json.dumps(known))
    scratch.rename(places.sealed)


def restore(places: Places) -> None:
    """The store as it was sealed. The cluster must be down."""
    if not (places.sealed / "known.json").exists():
        return
    for database in DATABASES:
        shutil.copy2(places.sealed / Path(database).name, places.store / database)
    for path in _strangers(places):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def residue(places: Places) -> Iterator[str]:
    """What a cluster left in the store."""
    if (places.sealed / "known.json").exists():
        yield from (f"in the image store {path}" for path in _strangers(places))


def _strangers(places: Places) -> Iterator[Path]:
    known = json.loads((places.sealed / "known.json").read_text())
    for part, names in known.items():
        yield from (path for path in (places.store / part).iterdir() if path.name not in set(names))
    for part in RECORDS:
        if (places.store / part).exists():
            yield from (places.store / part).iterdir()


def import_inside(root: Path, layout: Path) -> None:
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    socket = Path("/run/import/containerd.sock")
    socket.parent.mkdir()
    root.mkdir(parents=True, exist_ok=True)
    config = socket.parent / "config.toml"
    config.write_text(IMPORT_CONFIG.format(root=root))
    daemon = subprocess.Popen(["containerd", "--config", str(config), "--log-level", "error"])
    ctr = ["ctr", "--address", str(socket), "--namespace", "k8s.io"]
    deadline = time.monotonic() + 30
    while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode != 0:
        if time.monotonic() > deadline or daemon.poll() is not None:
            sys.exit("containerd did not start for the import")
        time.sleep(0.1)
    pack = subprocess.Popen(["tar", "--create", f"--directory={layout}", "."], stdout=subprocess.PIPE)
    done = subprocess.run([*ctr, "images", "import", "-"], stdin=pack.stdout, check=False)
    if pack.wait() != 0 or done.returncode != 0:
        sys.exit(f"the images in {layout} could not be imported")
    subprocess.run([*ctr, "content", "prune", "references"], check=True)
    daemon.terminate()
    daemon.wait(20)


if __name__ == "__main__":
    import_inside(Path(sys.argv[1]), Path(sys.argv[2]))
