"""Builds the images a second time, from nothing, and says in which files they differ from the first."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kube.cluster import images
from tests.kube.cluster.images import Image, blob
from tests.kube.cluster.places import Places


@contextmanager
def built_again(places: Places) -> Iterator[Places]:
    """Both are built: the second in a cache of its own, with nothing of the first's but the compiled programs."""
    images.build(places)
    again = Places(cache=places.cache / "again", state=places.state)
    shutil.rmtree(again.cache, ignore_errors=True)
    again.cache.mkdir(parents=True)
    again.programs.symlink_to(places.programs)
    try:
        images.build(again)
        yield again
    finally:
        shutil.rmtree(again.cache)


def differences(one: Places, other: Places, image: Image) -> Iterator[str]:
    """Nothing, when the two images have one digest: manifest, configuration and each layer."""
    first, second = (images.contents(places, images.manifests(places)[image.tag]) for places in (one, other))
    if first[0] == second[0]:
        return
    configurations = [json.loads(blob(p.layout, d[1]).read_text()) for p, d in ((one, first), (other, second))]
    for key in sorted({*configurations[0], *configurations[1]} - {"rootfs"}):
        if configurations[0].get(key) != configurations[1].get(key):
            yield f"configuration: {key}"
    if len(first) != len(second):
        yield f"{len(first) - 2} layers and {len(second) - 2}"
    for left, right in zip(first[2:], second[2:], strict=False):
        if left != right:
            yield from _in_files(blob(one.layout, left), blob(other.layout, right))


def _in_files(one: Path, other: Path) -> Iterator[str]:
    first, second = _listing(one), _listing(other)
    for name in sorted({*first, *second}):
        if first.get(name) != second.get(name):
            found = "only in one" if name not in first or name not in second else "not the same"
            yield f"{name}: {found}"
    if list(first) != list(second):
        yield "the order of files in a layer"


def _listing(layer: Path) -> dict[str, tuple[object, ...]]:
    """What a layer says of each file, and the hash of what is in it."""
    found = {}
    with tarfile.open(layer) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            digest = hashlib.sha256(content.read()).hexdigest() if content else ""
            about = (member.type, member.mode, member.uid, member.gid, member.mtime, member.linkname, digest)
            found[member.name] = about
    return found
