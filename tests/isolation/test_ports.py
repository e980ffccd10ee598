"""A port that nobody listens on may be bound by every account: what one gets of what was meant for who is away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from workbench import RunningWorkbench, eventually

from labwright.hub import supervision
from labwright.spawner import listeners

from .conftest import Person, somebody

pytestmark = pytest.mark.uid

# Takes a port as soon as it is free, and answers whoever asks.
SQUATTER = """
import socket, sys, time
deadline = time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
    mine = socket.socket()
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(sys.argv[3]))
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(sys.argv[4]))
    try:
        mine.bind((sys.argv[5], int(sys.argv[1])))
        mine.listen()
        break
    except OSError:
        mine.close()
        time.sleep(0.001)
else:
    sys.exit("refused")
print("mine", flush=True)
while True:
    theirs, _ = mine.accept()
    print(theirs.recv(65536).decode("latin-1"), flush=True)
    theirs.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 8\\r\\nConnection: close\\r\\n\\r\\nsquatted")
    theirs.close()
"""


@contextmanager
def squatting(uid: int, port: int, seconds: float, *how: str) -> Iterator[subprocess.Popen[str]]:
    command = ["/usr/bin/python3", "-c", SQUATTER, str(port), str(seconds), *(how or ("1", "0", "127.0.0.1"))]
    process = subprocess.Popen(
        command,
        user=uid,
        group=uid,
        extra_groups=[],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def supervise(workbench: RunningWorkbench, order: str, program: str) -> None:
    control = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(workbench.settings.run / "supervisord.conf")]
    subprocess.run([*control, order, program], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("program", ["core", "data", "gateway", "hub", "proxy"])
def test_the_port_of_a_service_that_is_away_is_nobody_elses(
    workbench: RunningWorkbench, erin: Person, program: str
) -> None:
    settings = workbench.settings
    ports = {
        "core": [settings.core_port],
        "data": [settings.data_port],
        "gateway": [settings.gateway_api_port],
        "hub": [settings.hub_port],
        "proxy": [settings.port, settings.proxy_api_port],
    }[program]
    uid = erin.home.stat().st_uid
    supervise(workbench, "stop", program)
    try:
        for port in ports:
            assert listeners.owner(port) is None, "it still listens"
            for how in (
                ("0", "0", "127.0.0.1"),
                ("1", "0", "127.0.0.1"),
                ("1", "1", "127.0.0.1"),
                ("1", "1", "0.0.0.0"),
            ):
                with squatting(uid, port, 0.2, *how) as squatter:
                    told, refused = squatter.communicate(timeout=30)
                assert (told, refused.strip()) == ("", "refused"), (port, how)
    finally:
        supervise(workbench, "start", program)
        eventually(lambda: supervision.is_healthy(settings, program), what=f"{program}'s answer")


def test_a_persons_address_is_never_anothers(workbench: RunningWorkbench, erin: Person) -> None:
    """Grace's server dies, and erin takes its port before the hub notices."""
    grace = somebody(workbench, "grace")
    address = f"{workbench.settings.public_url}/user/grace/api/status"
    assert grace.ask("GET", address, token=grace.own_token).status_code == 200
    uid, port = erin.home.stat().st_uid, grace.port()
    assert listeners.owner(port) == grace.home.stat().st_uid
    with squatting(uid, port, 20.0) as squatter:
        os.kill(grace.server.pid, 9)
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == "mine\n"
        assert listeners.owner(port) == uid
        answer = grace.ask("GET", address, token=grace.own_token)
        squatter.kill()
        asked = squatter.stdout.read()
    assert answer.text != "squatted"
    assert grace.own_token not in asked
