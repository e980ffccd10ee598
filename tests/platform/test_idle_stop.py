"""A server that nobody uses is stopped, and one that works is not: a real hub, with a short idle time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import psutil
import pytest
from websockets.sync.client import connect
from workbench import CHECKOUT, Browser, RunningWorkbench, eventually, reachable_folder, running_workbench

from labwright.api import names

pytestmark = pytest.mark.slow
IDLE_SECONDS = 8
HUB_POLL_SECONDS = 10


@pytest.fixture(scope="module")
def workbench() -> Iterator[RunningWorkbench]:
    with reachable_folder() as folder:
        text = (CHECKOUT / "config" / "workbench.yaml").read_text()
        file = folder / "workbench.yaml"
        file.write_text(re.sub(r"idle: \{server: \w+", f"idle: {{server: {IDLE_SECONDS}s", text))
        file.chmod(0o644)
        with running_workbench(folder / "home", LABWRIGHT_CONFIG=str(file)) as running:
            yield running


@pytest.fixture
def admin(workbench: RunningWorkbench) -> Iterator[Browser]:
    browser = workbench.log_in("admin")
    browser.start_server()
    browser.wait_for_server()
    yield browser
    if browser.server():
        browser.stop_server()


@pytest.fixture
def server(workbench: RunningWorkbench, admin: Browser) -> Iterator[httpx.Client]:
    """The person's own server, by its API."""
    token = admin.new_token()
    base = f"{workbench.settings.public_url}/user/admin/"
    with httpx.Client(
        base_url=base, headers={"Authorization": f"token {token}"}, trust_env=False, timeout=30
    ) as client:
        yield client


def test_polling_panels_do_not_keep_an_idle_server_alive(admin: Browser, server: httpx.Client) -> None:
    asked = 0.0

    def gone() -> bool:
        nonlocal asked
        if time.monotonic() - asked > 2 and admin.server().get("ready"):
            asked = time.monotonic()  # more often would be work, and a server that works is not idle
            with suppress(httpx.HTTPError):  # it may be on its way down
                server.get("labwright/status")  # as an open status bar does
        return not admin.server()

    eventually(gone, seconds=90, what="the idle stop")


def test_the_status_bar_can_say_when_the_server_stops(server: httpx.Client) -> None:
    status = server.get("labwright/status").json()
    assert status["idle_stops_at"] is not None
    environs = [each.info["environ"] or {} for each in psutil.process_iter(["environ"])]
    assert str(IDLE_SECONDS) in [environ.get(names.IDLE_SECONDS) for environ in environs]


def test_a_terminal_in_which_something_runs_is_never_stopped(admin: Browser, server: httpx.Client) -> None:
    name = server.post("api/terminals").json()["name"]
    socket = f"{server.base_url}terminals/websocket/{name}".replace("http", "ws", 1)
    with connect(socket, additional_headers={"Authorization": server.headers["Authorization"]}, proxy=None) as terminal:
        terminal.send(json.dumps(["stdin", "sleep 600\r"]))
        eventually(lambda: activity(server)["busy"], what="the program in the terminal")

    def unused_for_long() -> bool:
        idle = datetime.now(UTC) - datetime.fromisoformat(activity(server)["last_activity"])
        return idle.total_seconds() > IDLE_SECONDS + 2 * HUB_POLL_SECONDS

    eventually(unused_for_long, seconds=90, what="a long idle time")
    assert admin.server().get("ready")
    server.delete(f"api/terminals/{name}").raise_for_status()
    eventually(lambda: not admin.server(), seconds=90, what="the idle stop")


def activity(server: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = server.get("labwright/activity").raise_for_status().json()
    return answer
