"""A real launcher process for each test that wants one, and the way to a cluster that is not there."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from workbench import reachable_folder

from labwright.spawner.local import LocalLauncher

KUBECONFIG = """\
{apiVersion: v1, kind: Config, current-context: none, clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}],
 contexts: [{name: none, context: {cluster: none, user: none}}], users: [{name: none, user: {}}]}
"""


def is_listening(path: Path) -> bool:
    """The file alone is there some moments earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@dataclass
class LauncherProcess:
    """The launcher of one folder; can be restarted."""

    folder: Path
    by_user: bool
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def client(self) -> LocalLauncher:
        return LocalLauncher(self.folder / "launcher.sock")

    def start(self, *more: str) -> None:
        argv = [sys.executable, "-m", "labwright.spawner.launcherd", "--socket", str(self.folder / "launcher.sock")]
        argv += ["--homes", str(self.folder / "homes"), "--state", str(self.folder / "state")]
        (self.folder / "launcher.sock").unlink(missing_ok=True)
        self.process = subprocess.Popen([*argv, *(["--by-user"] if self.by_user else []), *more])
        deadline = time.monotonic() + 120
        while not is_listening(self.folder / "launcher.sock"):
            assert self.process.poll() is None, "the launcher ended"
            assert time.monotonic() < deadline, "the launcher is not ready"
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as found:
        (found / "homes").mkdir()
        (found / "homes").chmod(0o711)
        (found / "state").mkdir(mode=0o700)
        yield found


async def run_launcher(folder: Path, *, by_user: bool) -> AsyncIterator[LauncherProcess]:
    launcher = LauncherProcess(folder, by_user)
    launcher.start()
    yield launcher
    await launcher.client.stop_all(grace_seconds=1)
    assert launcher.process
    launcher.process.terminate()
    launcher.process.wait(60)


@pytest.fixture
async def launcher(folder: Path) -> AsyncIterator[LauncherProcess]:
    """Without switching users: what an ordinary user's workbench has."""
    async for running in run_launcher(folder, by_user=False):
        yield running


@pytest.fixture
async def launcher_by_user(folder: Path) -> AsyncIterator[LauncherProcess]:
    async for running in run_launcher(folder, by_user=True):
        yield running


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A service's secret, as `install` writes them."""
    path = tmp_path / "core.token"
    path.write_text("canary-service-secret")
    path.chmod(0o600)
    return path


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG)
    # Read from the environment once, when the library is imported.
    monkeypatch.setattr("kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
