"""A real launcher process for each test that wants one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labwright.spawner.local import LocalLauncher


@dataclass
class LauncherProcess:
    """The launcher of one folder; can be restarted."""

    folder: Path
    by_user: bool
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def client(self) -> LocalLauncher:
        return LocalLauncher(self.folder / "launcher.sock")

    def start(self) -> None:
        argv = [sys.executable, "-m", "labwright.spawner.launcherd", "--socket", str(self.folder / "launcher.sock")]
        argv += ["--homes", str(self.folder / "homes"), "--state", str(self.folder / "state")]
        (self.folder / "launcher.sock").unlink(missing_ok=True)
        self.process = subprocess.Popen([*argv, *(["--by-user"] if self.by_user else [])])
        deadline = time.monotonic() + 20
        while not (self.folder / "launcher.sock").exists():
            assert self.process.poll() is None, "the launcher ended"
            assert time.monotonic() < deadline, "the launcher is not ready"
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()


def make_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "launcher"
    folder.mkdir()
    (folder / "homes").mkdir()
    (folder / "homes").chmod(0o711)
    (folder / "state").mkdir(mode=0o700)
    for above in (folder, *folder.parents):
        if above != Path("/") and above.stat().st_uid == os.getuid() and not above.stat().st_mode & 0o001:
            above.chmod(above.stat().st_mode | 0o011)
    return folder


async def run_launcher(folder: Path, *, by_user: bool) -> AsyncIterator[LauncherProcess]:
    launcher = LauncherProcess(folder, by_user)
    launcher.start()
    yield launcher
    await launcher.client.stop_all(grace_seconds=1)
    assert launcher.process
    launcher.process.terminate()
    launcher.process.wait(10)


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[LauncherProcess]:
    """Without switching users: what an ordinary user's workbench has."""
    async for running in run_launcher(make_folder(tmp_path), by_user=False):
        yield running


@pytest.fixture
async def launcher_by_user(tmp_path: Path) -> AsyncIterator[LauncherProcess]:
    async for running in run_launcher(make_folder(tmp_path), by_user=True):
        yield running


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A service's secret, as `install` writes them."""
    path = tmp_path / "core.token"
    path.write_text("canary-service-secret")
    path.chmod(0o600)
    return path
