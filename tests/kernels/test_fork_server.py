"""A fork server goes on, with everybody's kernels, whatever one client, one parent or the disk does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labwright.kernels import client, nursery
from labwright.kernels.channel import Channel, pair
from labwright.kernels.client import ForkServer, Handle
from labwright.kernels.errors import ForkServerError, ForkServerGone, SpawnRefused
from labwright.kernels.folder import connect
from labwright.kernels.preload import BASE
from tests.kernels.conftest import plain_environment


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ForkServer]:
    server = ForkServer(tmp_path / "server", idle_seconds=60)
    yield server
    server.stop()


@pytest.fixture
def start(server: ForkServer, tmp_path: Path) -> Iterator[Callable[..., Handle]]:
    """Start a kernel that waits for what it is to run."""
    engines: list[socket.socket] = []

    def start(cwd: Path = tmp_path, env: dict[str, str] | None = None, seconds: float = 60.0) -> Handle:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        engines.append(ours)
        with theirs:
            handle = server.spawn("notebook", cwd, env or plain_environment(), [theirs.fileno()])
        handle.wait_started(seconds)
        return handle

    yield start
    for engine in engines:
        engine.close()


@contextlib.contextmanager
def stranger(server: ForkServer) -> Iterator[Channel]:
    """Another client's connection, to say on it what no client says."""
    sock = connect(server.directory)
    assert sock is not None
    with sock:
        yield Channel(sock)


@contextlib.contextmanager
def nursery_in(folder: Path) -> Iterator[nursery.Nursery]:
    made: list[nursery.Parent] = []
    parents = nursery.Nursery(made.append, folder / "practice")
    try:
        yield parents
    finally:
        parents.close()
        for parent in made:
            parent.channel.close()


SPAWN = {"op": "spawn", "id": "1", "mode": "notebook", "cwd": "/", "imports": []}
SPAWN |= {"umask": None, "soft_limits": {}, "limits": {}}
NONSENSE = {
    "no request": [{"nothing": 1}],
    "half an order": [{"op": "spawn"}],
    "an environment of numbers": [{**SPAWN, "env": {"PATH": 3}}],
    "a variable with a zero": [{**SPAWN, "env": {"PATH": "a\0b"}}],
    "a set that is none": [{"op": "warm", "env": {}, "imports": 3}],
    "one name for two kernels": [{**SPAWN, "env": {"PATH": "/bin"}}] * 2,
    "a signal that is none": [{"op": "signal", "id": "1", "number": "nine"}],
}


@pytest.mark.parametrize("requests", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_of_one_client_costs_no_other_its_kernel(server, start, requests):
    kernel = start()
    with stranger(server) as channel:
        for request in requests:
            channel.send(request)
        channel.sock.settimeout(20)
        while (said := channel.receive()) is not None and said[0]["event"] != "refused":  # or it is cut off
            pass
    assert server.status(30.0)["kernels"]
    assert not kernel.ended.is_set()


def test_a_message_of_endless_depth_ends_only_its_connection(server, start):
    kernel = start()
    with stranger(server) as channel:
        channel.sock.send(b"[" * 60_000)
        assert channel.receive() is None
    assert not kernel.ended.is_set()
    server.status()


def test_a_client_that_does_not_read_holds_up_nobody(server, start):
    kernel = start()
    with stranger(server) as channel, contextlib.suppress(ConnectionError):
        channel.sock.settimeout(20)
        for _ in range(100_000):
            channel.send({"op": "status"})
    assert server.status()["kernels"] == 1
    assert not kernel.ended.is_set()


def test_more_connections_than_it_can_hold_are_refused(tmp_path, monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = ForkServer(tmp_path / "server", idle_seconds=60)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        server.status(30.0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with contextlib.ExitStack() as open_ones:
        strangers = [open_ones.enter_context(stranger(server)) for _ in range(60)]
        deadline = time.monotonic() + 30
        while sum(channel.wait(0) for channel in strangers) < 45 and time.monotonic() < deadline:
            server.status()  # each is a turn of the server's loop, which takes one connection at a turn
        assert server.status()["clients"] == 16
        assert sum(channel.wait(0) for channel in strangers) == 45
    server.stop()


# -- parents ------------------------------------------------------------------------------------------


def test_a_parent_that_cannot_fork_refuses_and_keeps_its_kernels(server, start, tmp_path):
    """As at a limit of processes: the machine says no, and what runs goes on."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(
        "import os\nfork = os.fork\n"
        "def fork_if_allowed():\n"
        f"    if os.path.exists({str(tmp_path / 'full')!r}):\n"
        "        raise BlockingIOError(11, 'Resource temporarily unavailable')\n"
        "    return fork()\n"
        "os.fork = fork_if_allowed\n"
    )
    # A cache of bytecode that appears in a folder of PYTHONPATH is a change of the environment, for a new parent.
    env = {**plain_environment(), "PYTHONPATH": str(tmp_path / "path"), "PYTHONDONTWRITEBYTECODE": "1"}
    kernel = start(env=env)
    (tmp_path / "full").touch()
    with pytest.raises(SpawnRefused, match="Resource temporarily unavailable"):
        start(env=env)
    with pytest.raises(SpawnRefused, match="does not start"):  # nor does a parent that is to warm up
        start(env={**env, "TZ": "UTC"})
    assert not kernel.ended.is_set()


def test_a_folder_that_is_not_there_is_refused_by_its_name(start, tmp_path):
    with pytest.raises(SpawnRefused, match="nowhere cannot be entered: No such file"):
        start(cwd=tmp_path / "nowhere")


def test_an_order_that_was_given_up_is_not_carried_out_later(server, start, tmp_path):
    """Two kernels would listen on the same sockets: whoever gave up has started an ordinary one."""
    os.mkfifo(tmp_path / "gate")
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'gate')!r}).close()\n")
    env = {**plain_environment(), "PYTHONPATH": str(tmp_path)}
    with pytest.raises(ForkServerError, match="did not answer within"):
        start(env=env, seconds=1.0)
    assert server.status()["kernels"] == 0
    with (tmp_path / "gate").open("w"):
        server.wait_warm(env, frozenset())
    assert server.status()["kernels"] == 0


def test_a_practice_folder_that_cannot_be_made_costs_no_kernel(server, start):
    kernel = start()
    practice = server.directory / "practice"
    for left in practice.iterdir():
        left.rmdir()
    practice.rmdir()
    practice.touch()
    with pytest.raises(SpawnRefused, match="practice"):
        start(env={**plain_environment(), "TZ": "UTC"})
    assert not kernel.ended.is_set()


# -- preload sets -------------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose file of preload sets can be written, and whose `wave` set is there."""
    monkeypatch.setattr(nursery.sys, "prefix", str(tmp_path / "environment"))
    declared = tmp_path / "environment" / "etc" / "labwright" / "preload.json"
    declared.parent.mkdir(parents=True)
    declared.write_text('{"sound": ["wave"]}')
    return declared


@pytest.mark.parametrize("text", ['{"sound": ["wa', "[]", '{"sound": "wave"}', '{"sound": null}', '{"sound": [1]}'])
def test_sets_that_are_broken_leave_those_there_were(environment, tmp_path, text):
    with nursery_in(tmp_path) as parents:
        assert parents.sets == {BASE: (), "sound": ("wave",)}
        environment.write_text(text)
        parents.read_sets()
        assert parents.sets == {BASE: (), "sound": ("wave",)}


def test_a_set_that_was_taken_away_while_a_parent_holds_it_is_asked_for_no_more(environment, tmp_path):
    env = plain_environment()
    with nursery_in(tmp_path) as parents:
        assert parents.warm(env, frozenset({"wave"})).preload == "sound"
        environment.write_text(json.dumps({"colours": ["colorsys"]}))
        assert parents.warm(env, frozenset({"wave"})).preload == BASE


def test_a_module_that_ends_the_process_politely_is_refused_by_its_name(tmp_path):
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    code = "from labwright.kernels.preload import preload; print(preload(['leaves']))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert "SystemExit" in done.stdout, done.stderr


def test_modules_that_are_refused_are_no_failures_of_their_set(environment, tmp_path):
    """As many as it takes: each costs one parent, and the set is warm without them."""
    environment.write_text(json.dumps({"sound": ["wave", *(f"no_such_module_{n}" for n in range(4))]}))
    with nursery_in(tmp_path) as parents:
        for _ in range(4):
            parent = parents.warm(plain_environment(), frozenset({"wave"}))
            received = parent.channel.receive()
            assert received is not None
            parents.note(parent, received[0])
            parents.bury(parent)
        assert len(parents.refused) == 4
        assert parents.warm(plain_environment(), frozenset({"wave"})).preload == "sound"


def test_a_set_that_cannot_be_warm_leaves_kernels_the_bare_parent(environment, tmp_path):
    env = plain_environment()
    with nursery_in(tmp_path) as parents:
        parents.failures[parents.name_of(env, frozenset({"wave"}))] = (3, "it ended with status 139")
        assert parents.parent_for(env, frozenset({"wave"}), str(tmp_path)).preload == BASE


# -- clients ------------------------------------------------------------------------------------------


def test_an_order_that_cannot_be_sent_is_no_death_of_the_others(server, start, tmp_path):
    kernel = start()
    with pytest.raises(ForkServerError, match="Bad file descriptor"):
        server.spawn("notebook", tmp_path, plain_environment(), [resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1])
    assert not kernel.ended.is_set()


def test_an_order_goes_to_the_next_server_however_often_one_dies_that_still_took_the_connection(
    server, start, monkeypatch
):
    dying = 3

    def connect_to_the_dying(directory: Path) -> socket.socket | None:
        # The system closes a killed server's files one by one: its connections, and then where it listens.
        nonlocal dying
        if not dying:
            return connect(directory)
        dying -= 1
        ours, theirs = pair()
        theirs.close()
        return ours

    monkeypatch.setattr(client, "connect", connect_to_the_dying)
    handle = start()
    assert dying == 0
    assert handle.exit is None
    handle.signal(signal.SIGKILL)
    assert handle.ended.wait(10)
    assert handle.exit.lost is None


def test_servers_that_die_as_they_are_asked_are_given_up(server, start, monkeypatch):
    def connect_to_the_dying(directory: Path) -> socket.socket:
        ours, theirs = pair()
        theirs.close()
        return ours

    monkeypatch.setattr(client, "START_SECONDS", 0.1)
    monkeypatch.setattr(client, "connect", connect_to_the_dying)
    with pytest.raises(ForkServerGone, match=re.escape(str(server.directory / "log"))):
        start()


def test_what_lies_in_the_clients_folder_is_not_imported_by_the_server(server, start, tmp_path, monkeypatch):
    for name in ("random", "queue", "logging"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('mine')\n")
    monkeypatch.chdir(tmp_path)
    assert start().pid


def test_a_fork_of_a_client_has_a_connection_of_its_own(server, start):
    """As a pool of processes does that run notebooks, after one has been run in the process that makes them."""
    kernel = start()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if start(seconds=20.0).pid else 1
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert not kernel.ended.is_set()
    kernel.signal(signal.SIGKILL)
    assert kernel.ended.wait(10)


def test_a_matplotlibrc_that_cannot_be_read_costs_no_kernel(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xe9: 1\n")
    code = (
        "import matplotlib, os, sys; from labwright.kernels.afterfork import read_local_matplotlibrc\n"
        "os.chdir(sys.argv[1]); read_local_matplotlibrc(); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "goes on\n", done.stderr
    assert "matplotlibrc was not read" in done.stderr
