"""Time a person's way from the login page to the first executed cell, in a real Chromium, against stock JupyterHub.

    make bench NAME=first_cell ARGS="--rounds 3"

Each round is a fresh browser and a fresh server, ours and then the peer's (JupyterHub with its simple local spawner
and `jupyterhub-singleuser`, in the same environments); the first round of each is not counted. Then the round trip of
`1+1` over the kernel's websocket through the proxy. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx
import psutil
from playwright.sync_api import Error as PlaywrightError
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from workbench import eventually, free_port_range, reachable_folder, running_workbench  # noqa: E402

from tests.golden.lab import Lab  # noqa: E402
from tests.golden.steps import chromium  # noqa: E402

PATIENCE_SECONDS = 60
PARTS = ("login", "spawn", "lab", "kernel", "cell")
PEER = """
import os
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {port} + 1
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy}"
c.ConfigurableHTTPProxy.command = {proxy_command!r}
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.DummyAuthenticator.password = "{password}"
c.Authenticator.allow_all = True
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/home-{{username}}"
c.Spawner.cmd = ["{singleuser}"]
c.Spawner.args = ["--allow-root"]
c.Spawner.environment = {{"PATH": os.environ["PATH"]}}
"""


@dataclass(frozen=True)
class Place:
    url: str
    name: str
    password: str
    spawns_by_form: bool
    token: Callable[[], str]


def walk(place: Place) -> dict[str, float]:
    """One person's seconds for each part."""
    seconds: dict[str, float] = {}
    with chromium() as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.goto(f"{place.url}/hub/login")
        page.fill("#username_input", place.name)
        page.fill("#password_input", place.password)
        began = last = time.perf_counter()

        def part(name: str) -> None:
            nonlocal last
            seconds[name], last = time.perf_counter() - last, time.perf_counter()

        page.click("#login_submit")
        if place.spawns_by_form:
            start = page.locator("#spawn_form button").first
            start.wait_for()
            part("login")
            start.click()
        else:
            page.wait_for_url(lambda url: "/hub/login" not in url, wait_until="commit")
            part("login")
        page.wait_for_url("**/user/**/lab**", wait_until="commit")
        part("spawn")
        lab = Lab(page)
        lab.wait_until_ready()
        part("lab")
        page.locator(".jp-LauncherCard[data-category='Notebook']").first.click()
        lab.notebook.locator(".jp-Cell").first.wait_for()
        lab.wait_for_kernel(seconds=PATIENCE_SECONDS)
        part("kernel")
        assert lab.run_cell("1 + 1") == "2"
        part("cell")
        seconds["total"] = time.perf_counter() - began
    return seconds


def api(place: Place) -> httpx.Client:
    return httpx.Client(
        base_url=place.url, headers={"Authorization": f"token {place.token()}"}, trust_env=False, timeout=60
    )


def forget_layout(place: Place) -> None:
    """What Lab would open again, so that the next visit finds the launcher."""
    with api(place) as client:
        base = f"/user/{place.name}/lab/api/workspaces"
        for workspace in client.get(base).raise_for_status().json()["workspaces"]["ids"]:
            client.delete(f"{base}/{workspace}").raise_for_status()


def stop_server(place: Place) -> None:
    with api(place) as client:
        client.delete(f"/hub/api/users/{place.name}/server")
        eventually(lambda: not client.get(f"/hub/api/users/{place.name}").json()["servers"], what="the server's end")


def round_trips(place: Place, count: int) -> list[float]:
    """Milliseconds of `1+1` from request to reply and idle, over the websocket that a browser uses."""
    with api(place) as client:
        base = f"/user/{place.name}/api/kernels"
        kernel = client.post(base, json={"name": "python3"}).raise_for_status().json()["id"]
        url = f"{place.url}{base}/{kernel}/channels".replace("http", "ws", 1)
        found = []
        with connect(url, additional_headers={"Authorization": client.headers["Authorization"]}, proxy=None) as socket:
            for index in range(count + 5):
                began = time.perf_counter()
                execute(socket)
                if index >= 5:
                    found.append((time.perf_counter() - began) * 1000)
        client.delete(f"{base}/{kernel}")
    return found


def execute(socket: object) -> None:
    message = uuid.uuid4().hex
    header = {"msg_id": message, "msg_type": "execute_request", "session": "bench", "username": "", "version": "5.3"}
    content = {"code": "1+1", "silent": False, "store_history": False, "allow_stdin": False, "user_expressions": {}}
    ask = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
    socket.send(json.dumps(ask))  # type: ignore[attr-defined]
    waiting = {"execute_reply", "idle"}
    while waiting:
        answer = json.loads(socket.recv(timeout=60))  # type: ignore[attr-defined]
        if answer["parent_header"].get("msg_id") == message:
            waiting -= {answer["msg_type"], answer["content"].get("execution_state")}


@contextlib.contextmanager
def ours() -> Iterator[Place]:
    with reachable_folder() as folder, running_workbench(folder / "home") as running:
        browser = running.log_in("admin")
        token = browser.new_token()
        yield Place(running.settings.public_url, "admin", running.passwords["admin"], True, lambda: token)


@contextlib.contextmanager
def peer() -> Iterator[Place]:
    """JupyterHub as it comes, with the same proxy, Lab and kernel environment."""
    hub, user = ROOT / ".envs/hub/bin", ROOT / ".envs/user/bin"
    with reachable_folder() as folder:
        port, password, token = free_port_range(), uuid.uuid4().hex, uuid.uuid4().hex
        config = folder / "jupyterhub_config.py"
        command = [str(hub / "configurable-http-proxy")]
        text = PEER.format(
            port=port,
            proxy=port + 2,
            proxy_command=command,
            password=password,
            folder=folder,
            singleuser=user / "jupyterhub-singleuser",
        )
        text += f'c.JupyterHub.services = [{{"name": "bench", "api_token": "{token}"}}]\n'
        text += 'c.JupyterHub.load_roles = [{"name": "bench", "services": ["bench"], "scopes": ["admin:users", "admin:servers", "access:servers"]}]\n'  # noqa: E501
        config.write_text(text)
        env = {**os.environ, "PATH": f"{user}:{os.environ['PATH']}"}
        with (folder / "hub.log").open("w") as log:
            process = subprocess.Popen(
                [hub / "jupyterhub", "-f", config], cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT
            )
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: answers(f"{url}/hub/login"), seconds=180, what="the peer's login page")
            yield Place(url, "bench", password, False, lambda: token)
        except Exception:
            print((folder / "hub.log").read_text()[-3000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trips", type=int, default=100)
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    walks: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    trips: dict[str, list[float]] = {}
    failed = dict.fromkeys(walks, 0)
    with ours() as mine, peer() as other:
        places = {"ours": mine, "peer": other}
        for index in range(options.rounds + 1):
            for name, place in places.items():
                try:
                    measured = walk(place)
                except (PlaywrightError, AssertionError) as error:
                    # Stock: its proxy at times loses the first message of a kernel's websocket, whose state then
                    # stays unknown.
                    failed[name] += 1
                    print(f"round {index} of {name} did not end: {error}", file=sys.stderr, flush=True)
                else:
                    print("cold" if index == 0 else f"warm {index}", name, json.dumps(measured), flush=True)
                    if index:
                        walks[name].append(measured)
                forget_layout(place)
                if index < options.rounds:
                    stop_server(place)
        for name, place in places.items():
            trips[name] = round_trips(place, options.trips)
            stop_server(place)
    totals = {name: statistics.median(item["total"] for item in found) for name, found in walks.items()}
    result = {
        "name": "first_cell",
        "ratio": round(totals["peer"] / totals["ours"], 2),
        "unit": "s",
        "ours": [round(item["total"], 3) for item in walks["ours"]],
        "peer": [round(item["total"], 3) for item in walks["peer"]],
        "ours_median": round(totals["ours"], 3),
        "peer_median": round(totals["peer"], 3),
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total >> 30} GB",
        "load": os.getloadavg()[0],
        "n": {name: len(found) for name, found in walks.items()},
        "failed": failed,
        "parts": {
            name: {part: spread([item[part] for item in found]) for part in (*PARTS, "total")}
            for name, found in walks.items()
        },
        "round_trip_ms": {name: spread(found) for name, found in trips.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
