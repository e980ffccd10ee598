"""What is left in a person's home of a cluster that has ended."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from labwright.hub.cluster_folders import LOGS, clean_up, cluster_folder, where_logs_are

from .conftest import SubprocessLauncher

EIGHT_DAYS = 8 * 86400 + 60


@pytest.fixture
def end(tmp_path: Path) -> Callable[..., Awaitable[Path]]:
    """End a cluster that has these files; returns its owner's home."""
    launcher = SubprocessLauncher(tmp_path)

    async def ended(name: str, files: dict[str, str]) -> Path:
        folder = await cluster_folder(launcher, "alice", name)
        for file, text in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
        await clean_up(launcher, "alice", name)
        for process in launcher.started.values():
            assert await process.wait() == 0
        assert not folder.exists()
        return tmp_path / "alice"

    return ended


async def test_the_ends_of_its_logs_are_kept_for_the_owner_and_nothing_else(
    end: Callable[..., Awaitable[Path]],
) -> None:
    long = "begun\n" + "x" * 100_000 + "\nended\n"
    home = await end("c1", {"scheduler.log": long, "worker-1.log": "", "dask.pem": "key", "tmp/spilled.log": "data"})
    kept = home / LOGS / "c1"
    assert {file.name for file in kept.iterdir()} == {"scheduler.log", "worker-1.log"}
    text = (kept / "scheduler.log").read_text()
    assert (len(text), text.endswith("ended\n")) == (65536, True)
    assert [path.stat().st_mode & 0o077 for path in (kept, *kept.iterdir())] == [0, 0, 0]
    assert list(home.glob(where_logs_are("c1").partition("tail ~/")[2]))


async def test_old_logs_go_when_a_later_cluster_ends(end: Callable[..., Awaitable[Path]]) -> None:
    home = await end("old", {"spark.log": "why"})
    before = (home / LOGS / "old").stat().st_mtime - EIGHT_DAYS
    os.utime(home / LOGS / "old", (before, before))
    await end("last-week", {"spark.log": "why"})
    await end("new", {})
    assert [folder.name for folder in (home / LOGS).iterdir()] == ["last-week"]
