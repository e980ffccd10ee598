"""The base image, by debootstrap: a Debian of the packages that a slim base has, and no registry asked.

It stands under the name that Dockerfiles ask for, so that `docker build` elsewhere takes the one everybody has.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

from tests.kube.cluster import buildah, keys
from tests.kube.cluster.places import Places

RELEASE = "trixie"
NAME = "docker.io/library/debian:trixie-slim"
DAY = str(int(buildah.TIMESTAMP) // 86400)
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def key() -> str:
    return keys.hash_of([Path(__file__)])


def ensure(places: Places) -> None:
    wanted = key()
    folder = places.images / "base"
    if keys.is_current(folder, wanted):
        return
    print("building the base image …", flush=True)
    root = places.cache / "base-root"
    if root.exists():
        shutil.rmtree(root)
    sources = package_sources()
    mirror = next(uri for uri, suite in sources if suite == RELEASE)
    bootstrap = ["debootstrap", "--variant=minbase", f"--keyring={KEYRING}", RELEASE, str(root), mirror]
    subprocess.run(["nice", "-n", "5", *bootstrap], check=True, stdout=subprocess.DEVNULL)
    lines = [f"deb [signed-by={KEYRING}] {uri} {suite} main" for uri, suite in sources]
    (root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in lines))
    slim(root)
    container = buildah.run(places, "from", "scratch")
    buildah.run(places, "add", container, f"{root}/", "/")
    buildah.run(places, "config", "--cmd", '["bash"]', container)
    buildah.commit(places, container, NAME)
    shutil.rmtree(root)
    folder.mkdir(parents=True, exist_ok=True)
    keys.stamp(folder, wanted)


def package_sources() -> list[tuple[str, str]]:
    """Where this machine gets Debian from, and so this release: (address, suite), updates and security included."""
    own = platform.freedesktop_os_release().get("VERSION_CODENAME", RELEASE)
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    listed = {tuple(line.split()[:2]) for line in listing.splitlines()}
    found = [
        (uri, RELEASE + part) for uri, suite in listed for part in ("", "-updates", "-security") if suite == own + part
    ]
    if not any(suite == RELEASE for _uri, suite in found):
        raise buildah.CannotBuild(f"this machine has no package source for Debian {RELEASE}")
    return sorted(found)


def slim(root: Path) -> None:
    """Takes out what differs between two runs, and the manuals."""
    for pattern in ("var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*", "var/cache/ldconfig/*",
                    "var/cache/debconf/*-old", "var/lib/dpkg/*-old", "usr/share/doc/*", "usr/share/man/*",
                    "usr/share/locale/*", "usr/share/info/*", "etc/machine-id", "etc/hostname",
                    "etc/resolv.conf"):  # fmt: skip
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    # The day on which each account was made.
    for name in ("shadow", "shadow-"):
        path = root / "etc" / name
        if path.exists():
            accounts = [line.split(":") for line in path.read_text().splitlines()]
            path.write_text("".join(f"{':'.join([*a[:2], DAY, *a[3:]])}\n" for a in accounts))
    # What apt installs later leaves its manuals out as well.
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(
        "path-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\npath-exclude /usr/share/locale/*\n"
    )
