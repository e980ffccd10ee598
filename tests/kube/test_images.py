"""The images: an ordinary user's, and the same bytes whenever they are built. Needs them built; asks no cluster."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.kube.cluster import build, images, keys, reproduction
from tests.kube.cluster.images import OURS, Image
from tests.kube.cluster.places import REPOSITORY, Places

pytestmark = pytest.mark.kube
PLACES = Places.from_environment()
NAMES = [image.name for image in OURS]


@dataclass(frozen=True)
class Layer:
    """What the tests ask of a layer, found in one pass: layers are large, and images share them."""

    tmp: str  # how it leaves /tmp: 'removed', its mode, or '' for as it was
    dated_bytecode: tuple[str, ...]
    code: dict[str, str]  # of ours: 'hub/core.py' -> hash


@cache
def read(layer: Path) -> Layer:
    tmp, dated, code = "", [], {}
    with tarfile.open(layer) as archive:
        for member in archive:
            if member.name in ("tmp", ".wh.tmp"):
                tmp = f"{member.mode & 0o7777:o}" if member.name == "tmp" else "removed"
            _folder, ours, name = member.name.partition("site-packages/labwright/")
            python = member.isfile() and member.name.endswith((".py", ".pyc"))
            content = archive.extractfile(member) if python else None
            if content is None:
                continue
            if member.name.endswith(".pyc") and int.from_bytes(content.read(8)[4:], "little") == 0:
                dated.append(member.name)
            elif ours and name.endswith(".py"):
                code[name] = hashlib.sha256(content.read()).hexdigest()
    return Layer(tmp, tuple(dated), code)


@pytest.fixture(params=OURS, ids=NAMES)
def image(request: pytest.FixtureRequest) -> Image:
    chosen: Image = request.param
    if not (PLACES.layout / "index.json").exists() or chosen.tag not in images.manifests(PLACES):
        pytest.skip("skipped: the images are not built; run `make kube-build`")
    return chosen


def layers(image: Image) -> list[Layer]:
    _manifest, _configuration, *digests = images.contents(PLACES, images.manifests(PLACES)[image.tag])
    return [read(images.blob(PLACES.layout, digest)) for digest in digests]


def test_an_image_runs_as_an_ordinary_user(image: Image) -> None:
    digest = images.contents(PLACES, images.manifests(PLACES)[image.tag])[1]
    configuration = json.loads(images.blob(PLACES.layout, digest).read_text())["config"]
    assert configuration["User"] == "1000:1000"


def test_everybody_may_write_to_tmp(image: Image) -> None:
    """Kernels' sockets are there; a mount over it during the build took it away."""
    assert [layer.tmp for layer in layers(image) if layer.tmp][-1:] == ["1777"]


def test_bytecode_in_an_image_holds_whatever_dates_its_files_get(image: Image) -> None:
    """A dated one counts as stale once layers are normalised, and each start would compile everything anew."""
    assert [name for layer in layers(image) for name in layer.dated_bytecode] == []


def test_an_image_holds_the_code_that_it_says_it_was_built_from(image: Image) -> None:
    if not keys.is_current(images.stamp_folder(PLACES, image), images.key(image)):
        pytest.skip("skipped: the images are of other code; run `make kube-build`")
    code = {}
    for portion in ("hub", "spawner", "kernels", "magics", "extensions"):
        folder = REPOSITORY / portion / "labwright"
        for path in folder.rglob("*.py"):
            code[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    inside: dict[str, str] = {}
    for layer in layers(image):
        inside |= layer.code
    assert inside == code


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("LABWRIGHT_KUBE_IMAGES_AGAIN"),
    reason="skipped: it builds all images again; `make test-kube-images` runs it",
)
def test_two_builds_from_the_same_sources_are_the_same_bytes() -> None:
    with build.alone(PLACES), reproduction.built_again(PLACES) as again:
        for found in OURS:
            print(f"\n{found.name}: {images.size_in_bytes(PLACES, found) / 1e6:.0f} MB, "
                  f"{images.manifests(PLACES)[found.tag]['digest']}")  # fmt: skip
        differences = {found.name: list(reproduction.differences(PLACES, again, found))[:20] for found in OURS}
    assert differences == {name: [] for name in NAMES}
