"""The build of the cluster's programs and images, as far as it needs neither root nor a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kube.cluster import build
from tests.kube.cluster.places import REPOSITORY, Places

SECOND = """
import sys
from pathlib import Path
from tests.kube.cluster import build
from tests.kube.cluster.places import Places
with build.alone(Places(cache=Path(sys.argv[1]), state=Path("unused"))):
    print("its turn", flush=True)
"""


def test_a_second_build_in_the_same_cache_waits_for_the_first(tmp_path: Path) -> None:
    places = Places(cache=tmp_path / "cache", state=tmp_path / "state")
    with build.alone(places):
        second = subprocess.Popen(
            [sys.executable, "-c", SECOND, str(places.cache)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        assert second.stdout is not None
        assert second.stdout.readline() == "another build uses the cache; waiting for its end …\n"
        assert second.poll() is None
    with second.stdout:
        assert second.stdout.read() == "its turn\n"
    assert second.wait(timeout=30) == 0
