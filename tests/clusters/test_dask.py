"""Dask clusters with a real gateway, scheduler and workers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from labwright.api import names

from .conftest import World, start_gateway, until

COMPUTE = """
import json, os, sys
from dask_gateway import Gateway
gateway = Gateway()
if sys.argv[1] == "new":
    cluster = gateway.new_cluster(shutdown_on_close=False)
    cluster.scale(1)
else:
    cluster = gateway.connect(sys.argv[1], shutdown_on_close=False)
client = cluster.get_client()
total = sum(client.gather(client.map(lambda n: n * n, range(10))))
print(json.dumps({"total": total, "name": cluster.name}))
client.close(); cluster.close(); gateway.close()
"""


def person_environment(world: World, token: str = "alice-token") -> dict[str, str]:
    settings = world.settings
    return {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "LANG")},
        "HOME": str(settings.homes / "alice"),
        names.CORE_URL: settings.core_url,
        names.DATA_URL: settings.data_url,
        "LABWRIGHT_TOKEN": token,
        "DASK_GATEWAY__ADDRESS": settings.gateway_url,
        "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://127.0.0.1:{settings.gateway_tcp_port}",
        "DASK_GATEWAY__AUTH__TYPE": "labwright.kernels.dask_auth.TokenAuth",
    }


async def python(world: World, code: str, *arguments: str, token: str = "alice-token") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments,
        env=person_environment(world, token), stdout=-1, stderr=-1,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 400)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def dashboard_address(world: World, id: str) -> str:
    rows = world.core.database.engine
    with rows.connect() as connection:
        return str(connection.exec_driver_sql("select dashboard from clusters where id = ?", (id,)).scalar_one())


async def test_a_cluster_computes_is_its_owners_alone_survives_restarts_and_stops_whole(world: World) -> None:
    made = await world.start(engine="dask", workers=1, name="mine")
    running = await world.until_state(made["id"], "running", workers=1)
    assert running["dashboard_url"] == f"/services/core/clusters/{made['id']}/dashboard/"

    address = (await world.call("GET", "/clusters/mine/address")).json()
    code, out, err = await python(world, COMPUTE, address["cluster_name"])
    assert code == 0, err
    assert json.loads(out)["total"] == 285

    await nobody_else_reaches_it(world, made["id"], address["cluster_name"])
    await nothing_secret_shows(world)
    await no_port_tells_a_stranger_anything(world)
    await its_dashboard_is_proxied(world, made["id"])

    # A restart of core and gateway: the same processes go on.
    before = world.launcher.alive()
    await world.restart_core()
    await world.gateway.cleanup()
    world.gateway = await start_gateway(world)
    found = await world.until_state(made["id"], "running", workers=1)
    assert found["name"] == "mine"
    assert world.launcher.alive() == before
    code, out, err = await python(world, COMPUTE, address["cluster_name"])
    assert code == 0, err

    scaled = await world.call("POST", "/clusters/mine/scale", json={"workers": 2})
    assert scaled.json()["workers_wanted"] == 2
    assert world.ledger.held[f"cluster:{made['id']}"].ask.cpu == 2
    await world.until_state(made["id"], "running", workers=2)

    semaphores = semaphores_of(world)
    assert semaphores
    await world.call("DELETE", "/clusters/mine")
    await world.until_state(made["id"], "stopped")
    assert world.ledger.held == {}

    async def gone() -> bool:
        left = [*world.settings.homes.rglob("dask.pem"), *(file for file in semaphores if file.exists())]
        return not world.launcher.alive() and not left

    await until(gone)


def processes_of(world: World) -> list[psutil.Process]:
    leaders = [psutil.Process(pid) for pid in world.launcher.alive()]
    return [*leaders, *(child for leader in leaders for child in leader.children(recursive=True))]


def semaphores_of(world: World) -> set[Path]:
    """Files of the semaphores that the clusters' processes have; the machine's others are somebody else's."""
    maps = [mapped.path for process in processes_of(world) for mapped in process.memory_maps()]
    return {Path(path) for path in maps if path.startswith("/dev/shm/sem.")}


async def nobody_else_reaches_it(world: World, id: str, name: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/address"), ("POST", "/scale")):
        body = {"workers": 1} if path == "/scale" else None
        answer = await world.call(method, f"/clusters/{id}{path}", "bob-token", json=body)
        assert answer.status_code == 404, path
        assert (await world.call(method, f"/clusters/{id}{path}", "wrong", json=body)).status_code == 401
    assert (await world.call("GET", "/clusters", "bob-token")).json() == {"items": []}
    gateway = f"http://127.0.0.1:{world.settings.gateway_port}/api/v1/clusters/{name}"
    for token, status in (("wrong", 401), ("bob-token", 403)):
        headers = {"Authorization": f"Bearer {token}"}
        assert (await world.http.get(gateway, headers=headers)).status_code == status
        scale = await world.http.post(f"{gateway}/scale", json={"count": 9}, headers=headers)
        assert scale.status_code == status
    door = f"http://127.0.0.1:{world.settings.gateway_port}/labwright/v1/clusters"
    assert (await world.http.get(door)).status_code == 401
    assert (await world.http.get(door, headers={"Authorization": "Bearer alice-token"})).status_code == 403
    # A signed token is good for the gateway too, and a revoked one is refused at the next request.
    signed = world.core.signer.mint("alice", "run", [names.SCOPE_CLUSTERS])
    for token in (signed, "alice-token"):
        assert (await world.http.get(gateway, headers={"Authorization": f"Bearer {token}"})).status_code == 200
    unscoped = world.core.signer.mint("alice", "run", [names.SCOPE_DATA])
    assert (await world.http.get(gateway, headers={"Authorization": f"Bearer {unscoped}"})).status_code == 403
    world.resolver.revoked.add("alice-token")
    headers = {"Authorization": "Bearer alice-token"}
    assert (await world.http.get(gateway, headers=headers)).status_code == 401
    world.resolver.revoked.clear()


async def no_port_tells_a_stranger_anything(world: World) -> None:
    """Neither the scheduler's nor a worker's: Dask's own would tell memory, tasks and versions to whoever asks."""
    ports = {
        connection.laddr.port
        for process in processes_of(world)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert len(ports) >= 4  # of scheduler, dashboard, worker and nanny
    for port in ports:
        for path in ("/metrics", "/health", "/status", "/info/main/workers.html", "/json/counts.json"):
            try:
                status = (await world.http.get(f"http://127.0.0.1:{port}{path}")).status_code
            except httpx.TransportError:
                continue  # it speaks TLS
            assert status in (401, 403, 404), (port, path)


async def nothing_secret_shows(world: World) -> None:
    keys = list(world.settings.homes.rglob("dask.pem"))
    assert keys
    for key in keys:
        assert key.stat().st_mode & 0o077 == 0
        assert key.parent.stat().st_mode & 0o077 == 0
    for pid in world.launcher.alive():
        shown = "".join(Path(f"/proc/{pid}/{part}").read_text() for part in ("cmdline", "environ"))  # noqa: ASYNC240
        assert "PRIVATE KEY" not in shown
        for token in world.settings.homes.rglob("*.token"):
            assert token.read_text() not in shown


async def its_dashboard_is_proxied(world: World, id: str) -> None:
    direct = await dashboard_address(world, id)
    for path in ("/status", "/json/counts.json", "/info/main/workers.html"):
        assert (await world.http.get(direct + path)).status_code == 401
    base = f"{world.settings.core_url}/clusters/{id}/dashboard"
    mine = {"Authorization": "Bearer alice-token"}
    page = await world.http.get(f"{base}/status", headers=mine)
    assert page.status_code == 200
    assert "bokeh" in page.text.lower()
    assert (await world.http.get(f"{base}/status", headers={"Authorization": "Bearer bob-token"})).status_code == 404
    assert (await world.http.get(f"{base}/status")).status_code == 401
    browser = await world.http.get(f"{base}/status", headers={"Accept": "text/html"})
    assert browser.headers["location"] == f"/hub/user-redirect/labwright/clusters/{id}/dashboard/status"


async def test_a_cluster_made_by_code_at_the_gateway_is_booked_and_listed(world: World) -> None:
    code, out, err = await python(world, COMPUTE, "new")
    assert code == 0, err
    assert json.loads(out)["total"] == 285
    (item,) = (await world.call("GET", "/clusters")).json()["items"]
    assert (item["engine"], item["workers_wanted"]) == ("dask", 1)
    assert world.ledger.held[f"cluster:{item['id']}"].ask.cpu == 1

    world.ledger.cpu_limit = 2
    scale = f"http://127.0.0.1:{world.settings.gateway_port}/api/v1/clusters/{json.loads(out)['name']}/scale"
    headers = {"Authorization": "Bearer alice-token"}
    refused = await world.http.post(scale, json={"count": 50}, headers=headers)
    assert refused.status_code in (409, 422), refused.text
    assert "quota" in refused.text
    assert (await world.cluster(item["id"]))["workers_wanted"] == 1


async def test_a_dask_cluster_that_cannot_start_says_where_its_logs_are(world: World) -> None:
    world.user_python_fails("dask is not installed here")
    made = await world.start(engine="dask", workers=1)
    failed = await world.until_state(made["id"], "failed")
    assert failed["reason"].startswith("Its scheduler ended.")
    assert "dask is not installed here" in await world.logs_named_in(failed["reason"])
    assert world.ledger.held == {}


async def test_a_socket_of_the_dashboard_passes_for_the_owner_alone(world: World) -> None:
    import websockets

    made = await world.start(engine="dask", workers=0)
    await world.until_state(made["id"], "running")

    async def open_socket(token: str) -> Any:
        url = f"{world.settings.core_url}/clusters/{made['id']}/dashboard/eventstream".replace("http", "ws")
        headers = {"Authorization": f"Bearer {token}"}
        return await websockets.connect(url, additional_headers=headers, proxy=None)

    async def dashboard() -> bool:
        return bool((await world.cluster(made["id"]))["dashboard_url"])

    await until(dashboard)
    mine = await open_socket("alice-token")
    await mine.send(json.dumps({"name": "ping"}))
    assert "pong" in str(await asyncio.wait_for(mine.recv(), 60))
    await mine.close()
    for token in ("bob-token", "wrong"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await open_socket(token)
        assert refused.value.response.status_code == 403


async def test_the_gateway_refuses_when_it_has_no_core(world: World) -> None:
    await world.core_stack.aclose()
    url = f"http://127.0.0.1:{world.settings.gateway_port}/api/v1/clusters/"
    headers = {"Authorization": "Bearer alice-token"}
    refused: httpx.Response = await world.http.post(url, json={}, headers=headers)
    assert refused.status_code == 422
    assert "Core cannot be reached" in refused.json()["error"]
    assert world.launcher.names == []


async def test_a_worker_is_shown_its_profiles_gpus_and_the_scheduler_none(world: World) -> None:
    made = await world.start(engine="dask", workers=1, profile="gpus")
    await world.until_state(made["id"], "running", workers=1)
    limits = world.launcher.limits
    assert [limits[name].gpus for name in ("dask-scheduler", "dask-worker")] == [0, 2]
