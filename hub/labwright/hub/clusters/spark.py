"""Spark sessions: one Spark Connect server per cluster, started through the Launcher as its owner.

Both of its ports are on loopback, where every account of the machine can connect: the gRPC port asks for a token, the
UI for a signed header. Both secrets are derived from core's signing key, so that no store holds them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import time

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from labwright.api.clusters import ClusterAddress
from labwright.hub.cluster_folders import clean_up, cluster_folder, where_logs_are
from labwright.hub.clusters.engine import ClusterRow, Observation, Started
from labwright.hub.core.context import Core
from labwright.hub.untrusted import NoAnswer, ask_json
from labwright.spawner import listeners
from labwright.spawner.accounts import account_number
from labwright.spawner.launcher import Limits, Principal

JVM_OVERHEAD_BYTES = 512 << 20
START_SECONDS = 120.0


class SparkEngine:
    def __init__(self, core: Core) -> None:
        self._core = core
        raw = core.signer.key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        self._key = hmac.digest(raw, b"labwright spark", hashlib.sha256)

    def _secret(self, purpose: str, cluster: ClusterRow) -> bytes:
        return hmac.digest(self._key, f"{purpose} {cluster.id}".encode(), hashlib.sha256)

    def _token(self, cluster: ClusterRow) -> str:
        return base64.urlsafe_b64encode(self._secret("connect", cluster)).decode().rstrip("=")

    async def start(self, cluster: ClusterRow, idle_seconds: int) -> Started:
        folder = await cluster_folder(self._core.launcher, cluster.owner, cluster.id)
        port, ui_port = free_ports(2)
        memory = cluster.memory_bytes * cluster.workers_wanted
        # A third of the memory, at least half a gigabyte, is left to Python workers and the JVM outside its heap.
        heap = min(int(memory * 0.65), memory - JVM_OVERHEAD_BYTES)
        launched = await self._core.launcher.launch(
            Principal(cluster.owner),
            [str(self._core.settings.python("user")), "-m", "labwright.kernels.cluster_process", "spark"],
            env={
                "LABWRIGHT_CLUSTER_FOLDER": str(folder),
                "LABWRIGHT_CLUSTER_FILES": json.dumps(
                    {"spark.properties": self._properties(cluster, str(folder), port, ui_port)}
                ),
                "LABWRIGHT_SPARK_HEAP_MB": str(max(heap >> 20, 512)),
                "SPARK_LOCAL_IP": "127.0.0.1",  # what the UI binds to
            },
            # No limit on address space would be honest here: a JVM reserves far more than it uses.
            limits=Limits(
                cpu=cluster.cpu * cluster.workers_wanted,
                memory_bytes=memory + JVM_OVERHEAD_BYTES,
                gpus=self._core.workbench().visible_gpus(cluster.gpu * cluster.workers_wanted),
            ),
            name="spark",
            log=folder / "spark.log",
        )
        return Started(launched.id, port, f"http://127.0.0.1:{ui_port}")

    def _properties(self, cluster: ClusterRow, folder: str, port: int, ui_port: int) -> str:
        settings = {
            "spark.master": f"local[{cluster.workers_wanted}]",
            "spark.app.name": cluster.name,
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": port,
            "spark.connect.authenticate.token": self._token(cluster),
            "spark.authenticate": "true",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.port.maxRetries": 0,
            "spark.ui.port": ui_port,
            "spark.ui.filters": "org.apache.spark.ui.JWSFilter",
            "spark.org.apache.spark.ui.JWSFilter.param.secretKey": base64.urlsafe_b64encode(
                self._secret("ui", cluster)
            ).decode(),
            "spark.redaction.regex": "(?i)secret|password|token|access[.]?key|filters|JWSFilter",
            "spark.ui.showConsoleProgress": "false",
            "spark.local.dir": f"{folder}/tmp",  # noqa: S108 - the cluster's own, below its owner's home
            "spark.sql.warehouse.dir": f"{folder}/warehouse",
            # A local engine with few threads: 200 partitions only cost time.
            "spark.sql.shuffle.partitions": max(2, 2 * cluster.workers_wanted),
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    async def observe(self, cluster: ClusterRow) -> Observation:
        assert cluster.remote is not None
        status = await self._core.launcher.status(cluster.remote)
        logs = where_logs_are(cluster.id)
        if not status.running:
            code = "" if status.exit_code is None else f" with code {status.exit_code}"
            return Observation("ended", reason=status.reason or f"The Spark server ended{code}.", logs=logs)
        if not (await answers(cluster.port) and self._is_owners(cluster)):
            return Observation("starting", memory_bytes=status.memory_bytes, logs=logs)
        busy, activity = await self._activity(cluster)
        return Observation(
            "running", cluster.workers_wanted, status.memory_bytes, busy, activity, dashboard=cluster.dashboard
        )

    def _is_owners(self, cluster: ClusterRow) -> bool:
        """Whether the port was not taken by somebody else first, who would be given the token and the code."""
        if not self._core.settings.by_user or cluster.port is None:
            return True
        return listeners.owner(cluster.port) in (None, account_number(cluster.owner))

    async def _activity(self, cluster: ClusterRow) -> tuple[bool, str]:
        """Whether tasks run now, and how many have run."""
        headers = self.dashboard_headers(cluster)
        base = f"{cluster.dashboard}/api/v1/applications"
        try:
            found = await ask_json(self._core.http, base, headers, seconds=5.0)
            url = f"{base}/{found[0]['id']}/executors"
            executors = await ask_json(self._core.http, url, headers, seconds=5.0)
            return any(one["activeTasks"] for one in executors), str(sum(one["totalTasks"] for one in executors))[:20]
        except (NoAnswer, LookupError, TypeError):
            return False, cluster.activity

    async def scale(self, cluster: ClusterRow) -> None:
        """Threads of a local Spark are fixed at its start: the service refuses before it comes to this."""

    async def stop(self, cluster: ClusterRow) -> bool:
        if cluster.remote is None:
            return True
        await self._core.launcher.stop(cluster.remote, grace_seconds=5.0)
        await clean_up(self._core.launcher, cluster.owner, cluster.id)
        return True

    def address(self, cluster: ClusterRow) -> ClusterAddress:
        # The name localhost, not 127.0.0.1: with any other host a token makes pyspark ask for TLS.
        address = f"sc://localhost:{cluster.port}/;token={self._token(cluster)}"
        return ClusterAddress(engine="spark", address=address, cluster_name=cluster.id)

    def dashboard_headers(self, cluster: ClusterRow) -> dict[str, str]:
        token = jwt.encode({"exp": int(time.time()) + 300}, self._secret("ui", cluster), algorithm="HS256")
        return {"Authorization": f"Bearer {token}"}

    def dashboard_page(self) -> str:
        return "jobs/"


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now; a server that loses one to somebody else fails and is started again."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


async def answers(port: int | None) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 2.0)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
