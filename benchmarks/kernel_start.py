"""From POST /api/kernels to pandas and scikit-learn usable: a kernel of the fork server against the ordinary one.

    make bench NAME=kernel_start

One jupyter_server with a kernelspec for each, the sides taking turns. Also: eight kernels at once, and the round trip
of `1+1` over the websocket, with TCP_NODELAY set on the server's websocket (as Labwright's server extension does).
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
from pathlib import Path

import httpx
import tornado.httpclient
import tornado.websocket
from jupyter_client.kernelspec import KernelSpecManager
from side_by_side import describe, machine

CODE = "import pandas as pd, sklearn.linear_model\nfloat(pd.DataFrame({'a': [1, 2]}).a.sum())"
NODELAY = """
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler as Handler
opening = Handler.open
async def open(self, *args, **kwargs):
    self.set_nodelay(True)
    return await opening(self, *args, **kwargs)
Handler.open = open
"""


def install_kernelspec(folder: Path) -> None:
    """`labwright`: as `python3`, with our provisioner."""
    spec = KernelSpecManager().get_kernel_spec("python3").to_dict()
    spec["metadata"] = {**spec["metadata"], "kernel_provisioner": {"provisioner_name": "labwright-provisioner"}}
    (folder / "kernels" / "labwright").mkdir(parents=True)
    (folder / "kernels" / "labwright" / "kernel.json").write_text(json.dumps(spec))


class Server:
    """A jupyter_server of the benchmark's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.token = secrets.token_hex(16)
        config = folder / "jupyter_server_config.py"
        config.write_text(NODELAY)
        env = {**os.environ, "JUPYTER_RUNTIME_DIR": str(folder / "run"), "XDG_RUNTIME_DIR": str(folder)}
        env["JUPYTER_CONFIG_DIR"] = env["JUPYTER_PATH"] = str(folder)
        install_kernelspec(folder)
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

    async def start(self, name: str) -> str:
        answer = await self.http.post("/api/kernels", json={"name": name})
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


async def execute(connection: tornado.websocket.WebSocketClientConnection, code: str) -> None:
    """Until the reply and the idle status are both there."""
    sent = uuid.uuid4().hex
    header = {"msg_id": sent, "msg_type": "execute_request", "session": "bench", "username": "", "version": "5.4"}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    await connection.write_message(json.dumps({**message, "buffers": []}))
    waiting = {"execute_reply", "idle"}
    while waiting:
        answer = json.loads(await connection.read_message())
        if answer["parent_header"].get("msg_id") == sent:
            waiting -= {answer["msg_type"], answer["content"].get("execution_state")}
            assert answer["msg_type"] != "error", answer["content"]


async def time_start(server: Server, name: str) -> float:
    began = time.perf_counter()
    kernel = await server.start(name)
    connection = await server.connect(kernel)
    await execute(connection, CODE)
    seconds = time.perf_counter() - began
    connection.close()
    await server.delete(kernel)
    return seconds


async def wait_until_warm(server: Server) -> None:
    """Until its set is warm, kernels start from the bare parent: what is measured is the state that lasts."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        kernel = await server.start("labwright")
        connection = await server.connect(kernel)
        try:
            await execute(connection, "import sys\nassert 'sklearn' in sys.modules")
        except AssertionError:
            continue
        else:
            return
        finally:
            connection.close()
            await server.delete(kernel)
    raise SystemExit((server.folder / "server.log").read_text())


async def time_eight(server: Server, name: str) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(time_start(server, name) for _ in range(8)))
    return time.perf_counter() - began


async def time_round_trips(server: Server, name: str, count: int) -> list[float]:
    kernel = await server.start(name)
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
    server = Server(folder)
    try:
        await server.ready()
        for name in ("labwright", "python3"):
            await time_start(server, name)
        await wait_until_warm(server)
        ours, peer = [], []
        for _ in range(options.rounds):
            peer.append(await time_start(server, "python3"))
            ours.append(await time_start(server, "labwright"))
        eight = {name: await time_eight(server, name) for name in ("python3", "labwright")}
        trips = {name: await time_round_trips(server, name, 50) for name in ("python3", "labwright")}
    finally:
        server.process.terminate()
        server.process.wait()
        await server.http.aclose()
    print(f"machine: {machine()}")
    print(describe("ours", ours, "s"))
    print(describe("peer", peer, "s"))
    print(f"eight at once: ours {eight['labwright']:.2f} s, peer {eight['python3']:.2f} s")
    print(describe("1+1 ours", trips["labwright"], "ms"))
    print(describe("1+1 peer", trips["python3"], "ms"))
    a, b = statistics.median(ours), statistics.median(peer)
    result = {"name": "kernel_start", "ratio": round(b / a, 2), "unit": "s", "ours": a, "peer": b}
    more = {"eight_ratio": round(eight["python3"] / eight["labwright"], 2)}
    print(json.dumps({**result, **more, "round_trip_ms": statistics.median(trips["labwright"])}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(parser.parse_args(), Path(folder)))


if __name__ == "__main__":
    main()
