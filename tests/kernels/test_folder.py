"""A fork server's folder goes with it, however it ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labwright.kernels.client import ForkServer
from labwright.kernels.folder import default_directory, locked, take_away


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def pid_of(server: ForkServer) -> int:
    return int(server.status()["pid"])


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ForkServer]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def start(mark: str, idle_seconds: float = 60.0) -> ForkServer:
        monkeypatch.setenv("LABWRIGHT_LAUNCH", mark)
        server = ForkServer(default_directory(), idle_seconds)
        server.status(30.0)
        return server

    return start


def test_a_server_that_is_stopped_takes_its_folder_away(launch):
    server = launch("one")
    server.stop()
    wait_until(lambda: not server.directory.exists())


def test_a_server_that_is_terminated_takes_its_folder_away(launch):
    server = launch("one")
    os.kill(pid_of(server), signal.SIGTERM)
    wait_until(lambda: not server.directory.exists())


def test_a_server_that_is_idle_takes_its_folder_away(launch):
    server = launch("one", idle_seconds=0.1)
    server.close()
    wait_until(lambda: not server.directory.exists())


def test_the_next_server_removes_the_folder_of_one_that_was_killed_and_of_no_other(launch):
    killed, living = launch("killed"), launch("living")
    os.kill(pid_of(killed), signal.SIGKILL)
    wait_until(lambda: killed.channel is None)
    assert killed.directory.exists()
    empty = killed.directory.with_name("kernels-empty")
    empty.mkdir()
    third = launch("third")
    wait_until(lambda: not killed.directory.exists() and not empty.exists())
    assert living.directory.exists()
    assert pid_of(living) != pid_of(third)
    living.stop()
    third.stop()


def test_what_else_lies_in_a_chosen_folder_stays(tmp_path):
    (tmp_path / "kept").touch()
    server = ForkServer(tmp_path, idle_seconds=60)
    server.status(30.0)
    server.stop()
    wait_until(lambda: [path.name for path in tmp_path.iterdir()] == ["kept"])


def test_whoever_waited_for_the_lock_of_a_folder_that_went_gets_the_new_one(tmp_path):
    folder = tmp_path / "kernels-x"
    got = threading.Event()

    def want() -> None:
        with locked(folder):
            assert folder.exists()
            got.set()

    thread = threading.Thread(target=want)
    with locked(folder):
        thread.start()
        take_away(folder)
    thread.join()
    assert got.is_set()
