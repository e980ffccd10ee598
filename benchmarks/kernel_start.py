"""From POST /api/kernels to pandas and scikit-learn usable: a kernel of the fork server against the ordinary one.

    make bench NAME=kernel_start

Two servers, the sides taking turns with the same request for `python3`: one with Labwright's extension, as people have
it, and a stock one without. Each kernel is asked afterwards what it is: a fork of a warm parent, or a process of its
own. Also: eight kernels at once, and the round trip of `1+1` over the websocket. The stock server's websocket gets
TCP_NODELAY, as the extension gives to ours: what is compared is the kernels.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import tornado.httpclient
import tornado.websocket
from side_by_side import describe, report

CODE = "import pandas as pd, sklearn.linear_model\nfloat(pd.DataFrame({'a': [1, 2]}).a.sum())"
STOCK = """
c.ServerApp.jpserver_extensions = {"labwright.extensions": False}
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler as Handler
opening = Handler.open
async def open(self, *args, **kwargs):
    self.set_nodelay(True)
    return await opening(self, *args, **kwargs)
Handler.open = open
"""
# What the command line of a kernel's process says: a fork has that of the parent it was forked from.
PROGRAMS = {"ours": b"labwright.kernels.parent", "peer": b"ipykernel_launcher"}


class Server:
    """A jupyter_server of the benchmark's own, for one side."""

    def __init__(self, side: str, folder: Path) -> None:
        self.side = side
        self.folder = folder
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.token = secrets.token_hex(16)
        config = folder / "jupyter_server_config.py"
        config.write_text(STOCK if side == "peer" else "")
        env = {**os.environ, "JUPYTER_RUNTIME_DIR": str(folder / "run"), "XDG_RUNTIME_DIR": str(folder)}
        env["JUPYTER_CONFIG_DIR"] = env["JUPYTER_PATH"] = str(folder)
        env["IPYTHONDIR"] = str(folder / "ipython")
        settings = (f"--port={self.port}", f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={folder}")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--config={config}", *settings],
            env=env,
            stdout=(folder / "server.log").open("w"),
            stderr=subprocess.STDOUT,
        )
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"token {self.token}"}, timeout=120
        )

    async def ready(self) -> None:
        while True:
            try:
                if (await self.http.get("/api/status")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.1)

    async def start(self) -> str:
        answer = await self.http.post("/api/kernels", json={"name": "python3"})
        answer.raise_for_status()
        kernel: str = answer.json()["id"]
        return kernel

    async def connect(self, kernel: str) -> tornado.websocket.WebSocketClientConnection:
        request = tornado.httpclient.HTTPRequest(
            f"ws://127.0.0.1:{self.port}/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}",
            request_timeout=120,
            connect_timeout=120,
            headers={"Authorization": f"token {self.token}"},
        )
        connection = await tornado.websocket.websocket_connect(request)
        connection.protocol.stream.set_nodelay(True)
        return connection

    async def delete(self, kernel: str) -> None:
        await self.http.delete(f"/api/kernels/{kernel}")

    async def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        await self.http.aclose()


async def execute(
    connection: tornado.websocket.WebSocketClientConnection, code: str, expressions: Mapping[str, str] = {}
) -> dict[str, Any]:
    """The reply, once it and the idle status are both there."""
    sent = uuid.uuid4().hex
    header = {"msg_id": sent, "msg_type": "execute_request", "session": "bench", "username": "", "version": "5.4"}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": dict(expressions)}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": {**content, "allow_stdin": False}}
    await connection.write_message(json.dumps({**message, "channel": "shell", "buffers": []}))
    waiting = {"execute_reply", "idle"}
    reply: dict[str, Any] = {}
    while waiting:
        answer = json.loads(await connection.read_message())
        if answer["parent_header"].get("msg_id") == sent:
            waiting -= {answer["msg_type"], answer["content"].get("execution_state")}
            assert answer["msg_type"] != "error", answer["content"]
            if answer["msg_type"] == "execute_reply":
                reply = answer["content"]
    return reply


async def assert_kind(server: Server, connection: tornado.websocket.WebSocketClientConnection) -> None:
    """That the kernel is what its side says: a fork, or a process that was started for it."""
    reply = await execute(connection, "", {"pid": "__import__('os').getpid()"})
    pid = int(reply["user_expressions"]["pid"]["data"]["text/plain"])
    program = await asyncio.to_thread(Path(f"/proc/{pid}/cmdline").read_bytes)
    assert PROGRAMS[server.side] in program, f"a kernel of {server.side} is {program!r}"


async def time_start(server: Server) -> float:
    began = time.perf_counter()
    kernel = await server.start()
    connection = await server.connect(kernel)
    await execute(connection, CODE)
    seconds = time.perf_counter() - began
    await assert_kind(server, connection)
    connection.close()
    await server.delete(kernel)
    return seconds


async def wait_until_warm(server: Server) -> None:
    """Until its set is warm, kernels start from the bare parent: what is measured is the state that lasts."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        kernel = await server.start()
        connection = await server.connect(kernel)
        reply = await execute(connection, "import sys", {"warm": "'sklearn' in sys.modules"})
        connection.close()
        await server.delete(kernel)
        if reply["user_expressions"]["warm"]["data"]["text/plain"] == "True":
            return
        await asyncio.sleep(0.5)
    raise SystemExit("no parent with scikit-learn became warm")


async def time_eight(server: Server) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(time_start(server) for _ in range(8)))
    return time.perf_counter() - began


async def time_round_trips(server: Server, count: int) -> list[float]:
    kernel = await server.start()
    connection = await server.connect(kernel)
    await execute(connection, "1+1")
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await execute(connection, "1+1")
        times.append((time.perf_counter() - began) * 1000)
    connection.close()
    await server.delete(kernel)
    return times


async def measure(options: argparse.Namespace, folder: Path) -> None:
    servers = {side: Server(side, folder / side) for side in PROGRAMS}
    times: dict[str, list[float]] = {side: [] for side in PROGRAMS}
    try:
        for server in servers.values():
            await server.ready()
            await time_start(server)
        await wait_until_warm(servers["ours"])
        for _ in range(options.rounds):
            for side in ("peer", "ours"):
                times[side].append(await time_start(servers[side]))
        eight = {side: [await time_eight(servers[side]) for _ in range(options.eights)] for side in PROGRAMS}
        trips = {side: await time_round_trips(servers[side], 50) for side in PROGRAMS}
    except BaseException:
        print(*((server.folder / "server.log").read_text()[-5000:] for server in servers.values()), file=sys.stderr)
        raise
    finally:
        for server in servers.values():
            await server.close()
    tell(times, eight, trips)


def tell(times: Mapping[str, list[float]], eight: Mapping[str, list[float]], trips: Mapping[str, list[float]]) -> None:
    for side in PROGRAMS:
        print(describe(f"eight at once, {side}", eight[side], "s"))
        print(describe(f"1+1, {side}", trips[side], "ms"))
    medians = {f"eight_{side}": statistics.median(eight[side]) for side in PROGRAMS}
    medians["eight_ratio"] = round(medians["eight_peer"] / medians["eight_ours"], 2)
    medians |= {f"round_trip_ms_{side}": statistics.median(trips[side]) for side in PROGRAMS}
    report("kernel_start", times["ours"], times["peer"], "s", False, **medians)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--eights", type=int, default=3, help="how often to start eight at once")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(parser.parse_args(), Path(folder)))


if __name__ == "__main__":
    main()
