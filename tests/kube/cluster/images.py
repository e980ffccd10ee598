"""Builds the images with buildah, on a base that debootstrap made: no registry is asked for anything."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kube.cluster import base, buildah, keys, programs
from tests.kube.cluster.places import REPOSITORY, Places

PREFIX = "localhost/labwright"
CODE = ("pyproject.toml", "uv.lock", "README.md", "LICENSE", "hub", "spawner", "kernels",
        "magics", "extensions/labwright", "examples/welcome.ipynb", "extensions/lab/labwright_lab",
        "config/lab", "images", ".dockerignore")  # fmt: skip


@dataclass(frozen=True)
class Image:
    """One of ours is the target of its name in images/Dockerfile."""

    name: str

    @property
    def tag(self) -> str:
        return f"{PREFIX}/{self.name}:test"


STATIC = (Image("pause"), Image("coredns"))
OURS = (Image("hub"), Image("user"), Image("user-gpu"), Image("runner"))
ALL = (*STATIC, *OURS)


def key(image: Image) -> str:
    if image in STATIC:
        return keys.hash_of([], image.name, programs.key())
    code = [REPOSITORY / name for name in CODE]
    return keys.hash_of((path for path in code if path.exists()), base.key())


def stamp_folder(places: Places, image: Image) -> Path:
    return places.images / image.name


def build(places: Places) -> list[Image]:
    """The images that were built anew."""
    # A build that was killed left its working containers, their mounts, and images that they hold.
    buildah.run(places, "rm", "--all")
    fresh = []
    for image in ALL:
        wanted, folder = key(image), stamp_folder(places, image)
        if keys.is_current(folder, wanted):
            continue
        print(f"building image {image.name} …", flush=True)
        if image in STATIC:
            build_static(places, image)
        else:
            base.ensure(places)
            build_target(places, image.name, image.tag)
        export(places, image)
        print(f"  {size_in_bytes(places, image) / 1e6:.0f} MB in its layers", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        keys.stamp(folder, wanted)
        fresh.append(image)
    return fresh


def build_static(places: Places, image: Image) -> None:
    container = buildah.run(places, "from", "scratch")
    buildah.run(places, "copy", container, str(places.program(image.name)), f"/{image.name}")
    buildah.run(places, "config", "--entrypoint", json.dumps([f"/{image.name}"]), "--user", "65534:65534", container)
    buildah.commit(places, container, image.tag)


def build_target(places: Places, target: str, tag: str) -> None:
    arguments = ["bud", "--isolation=chroot", "--network=host", "--pull-never", "--layers",
                 f"--timestamp={buildah.TIMESTAMP}", "--file=images/Dockerfile",
                 *own_certificates(), *package_cache(), f"--target={target}", f"--tag={tag}"]  # fmt: skip
    buildah.run(places, *arguments, ".")


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


def export(places: Places, image: Image) -> None:
    """Into one OCI layout for all images, uncompressed: what two images share is there once."""
    places.layout.mkdir(parents=True, exist_ok=True)
    buildah.run(places, "push", "--disable-compression", "--quiet", image.tag, f"oci:{places.layout}:{image.tag}")


def manifests(places: Places) -> dict[str, Any]:
    """Image name -> its entry in the layout's index. An entry without a name is an image that was replaced."""
    index = json.loads((places.layout / "index.json").read_text())
    name = "org.opencontainers.image.ref.name"
    return {e["annotations"][name]: e for e in index["manifests"] if name in e.get("annotations", {})}


def tidy(places: Places) -> None:
    """Removes what replaced images left behind, in buildah's storage and in the layout."""
    # The stage that needs the network keeps a name, and so its layers.
    build_target(places, "tools", f"{PREFIX}/tools:cache")
    buildah.run(places, "rmi", "--prune")
    known = manifests(places).values()
    (places.layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(known)}))
    kept = {blob(places.layout, found) for entry in known for found in contents(places, entry)}
    for path in (places.layout / "blobs" / "sha256").iterdir():
        if path not in kept:
            path.unlink()


def contents(places: Places, entry: dict[str, Any]) -> list[str]:
    """The digests of an image's manifest, configuration and layers."""
    manifest = json.loads(blob(places.layout, entry["digest"]).read_text())
    return [entry["digest"], manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]


def size_in_bytes(places: Places, image: Image) -> int:
    """Of all its layers, not compressed."""
    _manifest, _configuration, *layers = contents(places, manifests(places)[image.tag])
    return sum(blob(places.layout, digest).stat().st_size for digest in layers)


def select(places: Places, images: list[Image], folder: Path) -> None:
    """A layout in `folder` with these images only, by links, named as containerd's import reads names."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "blobs" / "sha256").mkdir(parents=True)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    known = manifests(places)
    entries = []
    for image in images:
        entry = dict(known[image.tag])
        for found in contents(places, entry):
            link = blob(folder, found)
            if not link.exists():
                link.hardlink_to(blob(places.layout, found))
        entry["annotations"] = {"io.containerd.image.name": image.tag}
        entries.append(entry)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest.replace(":", "/")
