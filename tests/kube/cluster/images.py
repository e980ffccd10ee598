"""Builds the images with buildah, on a base that debootstrap made: no registry is asked for anything."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.kube.cluster import keys, programs
from tests.kube.cluster.places import REPOSITORY, Places

RELEASE = "bookworm"
# The name that Dockerfiles ask for, so that `docker build` elsewhere takes the one that everybody has.
BASE = "docker.io/library/debian:bookworm-slim"
PREFIX = "localhost/labwright"
CODE = ("pyproject.toml", "uv.lock", "README.md", "hub/labwright", "spawner/labwright", "kernels/labwright",
        "magics/labwright", "extensions/labwright", "extensions/lab/labwright_lab", ".dockerignore")  # fmt: skip
# Two builds of the same inputs are the same bytes: nothing carries the date of the build.
TIMESTAMP = "1700000000"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Image:
    name: str
    base: str | None = None  # another of ours

    @property
    def tag(self) -> str:
        return f"{PREFIX}/{self.name}:test"


STATIC = (Image("pause"), Image("coredns"))
OURS = (Image("hub"), Image("user"), Image("user-gpu", base="user"), Image("runner", base="user"))
ALL = (*STATIC, *OURS)


def key(image: Image) -> str:
    if image in STATIC:
        return keys.hash_of([Path(__file__)], programs.key())
    dockerfile = REPOSITORY / "images" / image.name
    if image.base is not None:
        return keys.hash_of([dockerfile], key(Image(image.base)))
    code = [REPOSITORY / name for name in CODE]
    return keys.hash_of([dockerfile, Path(__file__), *(path for path in code if path.exists())])


def layout(places: Places, image: Image) -> Path:
    return places.images / image.name


def build(places: Places) -> list[Image]:
    """The images that were built anew; each as an OCI layout under the cache."""
    fresh = []
    for image in ALL:
        wanted, folder = key(image), layout(places, image)
        if keys.is_current(folder, wanted):
            continue
        print(f"building image {image.name} …", flush=True)
        if image in STATIC:
            build_static(places, image)
        else:
            ensure_base(places)
            build_from_dockerfile(places, image)
        export(places, image)
        keys.stamp(folder, wanted)
        fresh.append(image)
    return fresh


def buildah(places: Places, *arguments: str) -> str:
    command = ["nice", "-n", "5", "buildah", f"--root={places.cache / 'buildah'}", f"--runroot={places.cache / 'buildah-run'}",
               "--storage-driver=overlay", *arguments]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, check=False)
    if done.returncode != 0:
        raise programs.CannotBuild(f"buildah {arguments[0]} failed; it ended with:\n{done.stdout[-3000:]}")
    return done.stdout.strip()


def build_static(places: Places, image: Image) -> None:
    container = buildah(places, "from", "scratch")
    buildah(places, "copy", container, str(places.program(image.name)), f"/{image.name}")
    buildah(places, "config", "--entrypoint", json.dumps([f"/{image.name}"]), "--user", "65534:65534", container)
    commit(places, container, image.tag)


def commit(places: Places, container: str, tag: str) -> None:
    buildah(places, "commit", "--timestamp", TIMESTAMP, "--rm", container, tag)


def build_from_dockerfile(places: Places, image: Image) -> None:
    arguments = ["bud", "--isolation=chroot", "--network=host", "--pull-never", "--layers",
                 f"--timestamp={TIMESTAMP}", f"--tag={image.tag}",
                 f"--file=images/{image.name}/Dockerfile", *own_certificates(), *package_cache()]  # fmt: skip
    buildah(places, *arguments, ".")


def own_certificates() -> list[str]:
    """On a network with its own certificate authority: the machine's bundle, for the time of the build."""
    bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
    if not bundle or not Path(bundle).exists():
        return []
    inside = "/run/labwright-certificates.crt"
    return [f"--volume={Path(bundle).resolve()}:{inside}:ro",
            f"--build-arg=SSL_CERT_FILE={inside}", f"--build-arg=PIP_CERT={inside}"]  # fmt: skip


def package_cache() -> list[str]:
    """uv's cache on this machine, so that a second image does not download the packages of the first."""
    cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
    return [f"--volume={cache}:/root/.cache/uv"] if cache.exists() else []


def ensure_base(places: Places) -> None:
    """A Debian of the packages that a slim base has, under the name that the Dockerfiles ask for."""
    wanted = keys.hash_of([Path(__file__)], "base")
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
    container = buildah(places, "from", "scratch")
    buildah(places, "add", container, f"{root}/", "/")
    buildah(places, "config", "--cmd", '["bash"]', container)
    commit(places, container, BASE)
    shutil.rmtree(root)
    folder.mkdir(parents=True, exist_ok=True)
    keys.stamp(folder, wanted)


def package_sources() -> list[tuple[str, str]]:
    """Where this machine gets Debian from: (address, suite), its updates and security included."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    suites = (RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security")
    found = {(words[0], words[1]) for line in listing.splitlines() if (words := line.split()) and words[1] in suites}
    if not any(suite == RELEASE for _uri, suite in found):
        raise programs.CannotBuild(f"this machine has no package source for Debian {RELEASE}")
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
    # What apt installs later leaves its manuals out as well.
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(
        "path-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\npath-exclude /usr/share/locale/*\n"
    )


def export(places: Places, image: Image) -> None:
    """An uncompressed OCI layout that names its image as containerd's import reads it."""
    folder = layout(places, image)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    buildah(places, "push", "--disable-compression", "--quiet", image.tag, f"oci:{folder}:{image.tag}")
    index = json.loads((folder / "index.json").read_text())
    for manifest in index["manifests"]:
        manifest["annotations"] = {"io.containerd.image.name": image.tag, "org.opencontainers.image.ref.name": "test"}
    (folder / "index.json").write_text(json.dumps(index))


def digest(places: Places, image: Image) -> str:
    index = json.loads((layout(places, image) / "index.json").read_text())
    answer: str = index["manifests"][0]["digest"]
    return answer
