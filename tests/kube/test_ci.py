"""When CI tests on Kubernetes, and what it says where it does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.kube.cluster import build, ci, keys, programs
from tests.kube.cluster.places import Places

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("go") is None, reason="skipped: the cluster needs root and a Go compiler"
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(cache=tmp_path / "cache", state=tmp_path / "state")


def stamp(folder: Path, key: str) -> None:
    folder.mkdir(parents=True)
    keys.stamp(folder, key)


def test_a_cluster_that_was_never_built_is_built_where_there_is_time(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABWRIGHT_KUBE_SECONDS", "2100")
    assert ci.why_not(places) is None
    monkeypatch.setenv("LABWRIGHT_KUBE_SECONDS", "1800")
    assert ci.why_not(places) == (
        "30 minutes are left, and this takes about 35, 20 of them to build the cluster (`make kube-build` does it once)"
    )


def test_a_cluster_that_is_built_is_used_where_there_is_time(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp(places.programs, programs.key())
    stamp(places.sealed, build.store_key())
    monkeypatch.setenv("LABWRIGHT_KUBE_SECONDS", "1000")
    assert ci.why_not(places) is None
    monkeypatch.setenv("LABWRIGHT_KUBE_SECONDS", "600")
    assert ci.why_not(places) == "10 minutes are left, and this takes about 15"


def test_images_of_other_code_are_built_again_where_there_is_time(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp(places.programs, programs.key())
    for image in ("hub", "user", "user-gpu", "runner"):
        stamp(places.images / image, "of other code")
    monkeypatch.setenv("LABWRIGHT_KUBE_SECONDS", "2000")
    assert ci.why_not(places) is None
    monkeypatch.setenv("LABWRIGHT_KUBE_SECONDS", "1000")
    why = ci.why_not(places)
    assert why is not None
    assert why.startswith("16 minutes are left, and this takes about 20, 5 of them to build")
