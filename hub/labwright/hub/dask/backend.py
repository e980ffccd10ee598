"""A Dask Gateway backend whose schedulers and workers start through the Launcher, as the person they belong to.

A cluster that code asks for here is made by core, which keeps the books: this forwards the wish with the caller's own
token. Core comes back through `labwright.hub.dask.door` to have it done. So there is one place that decides on quota,
and every cluster is listed, wherever it was made.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from dask_gateway_server import models
from dask_gateway_server.backends.base import PublicException
from dask_gateway_server.backends.db_base import Cluster, DBBackendBase, Worker

from labwright.api.errors import LabwrightError
from labwright.hub.cluster_folders import clean_up, cluster_folder
from labwright.hub.dask.admission import CoreDoor
from labwright.hub.dask.authentication import current_caller
from labwright.spawner.launcher import Launcher, Limits, Principal

# In each process of a cluster: what one TLS connection leaves behind ends no other.
TLS_PRELOAD = "labwright.kernels.tls_errors"
STARTER = ("-m", "labwright.kernels.cluster_process")


def dashboard_token(cluster_token: str) -> str:
    """What opens a scheduler's dashboard; derived, so that there is nothing more to store."""
    return hashlib.sha256(f"dashboard {cluster_token}".encode()).hexdigest()


class LaunchedBackend(DBBackendBase):  # type: ignore[misc]  # dask-gateway has no types
    """Configured by `labwright.hub.dask_gateway`; `parent.context` holds the launcher and core's door."""

    default_host = "127.0.0.1"

    async def do_setup(self) -> None:
        context = self.parent.context
        self.launcher: Launcher = context.launcher
        self.core: CoreDoor = context.core
        self.python: Path = context.settings.python("user")
        self.allowed: dict[str, int] = {}  # workers that core has reserved, by cluster
        self.scaled: set[str] = set()  # clusters whose scheduler has been told how many workers it has
        self.reasons: dict[str, str] = {}  # why a process of the cluster ended

    # What people's code asks of the gateway goes to core first.
    async def start_cluster(self, user: models.User, cluster_options: dict[str, Any]) -> str:
        caller = current_caller.get()
        if caller is None:
            raise PublicException("Clusters are made through Labwright.")
        if cluster_options:
            raise PublicException("Clusters take no options here; set the number of workers with scale().")
        try:
            return await self.core.create_cluster(caller.token)
        except LabwrightError as error:
            raise PublicException(error.sentence()) from None

    async def forward_message_to_scheduler(self, cluster: models.Cluster, msg: dict[str, Any]) -> None:
        caller = current_caller.get()
        if caller is not None and msg.get("op") == "scale":
            try:
                await self.core.scale_cluster(caller.token, cluster.options["id"], msg["count"])
            except LabwrightError as error:
                raise PublicException(error.sentence()) from None
            return
        await super().forward_message_to_scheduler(cluster, msg)

    async def on_cluster_heartbeat(self, cluster_name: str, msg: dict[str, Any]) -> None:
        # The scheduler is the person's own process: it may ask for any number, and gets what is reserved.
        cluster = self.db.get_cluster(cluster_name)
        if cluster is not None:
            msg["count"] = min(msg["count"], self.allowed_workers(cluster))
        await super().on_cluster_heartbeat(cluster_name, msg)

    def allowed_workers(self, cluster: Cluster) -> int:
        return self.allowed.get(cluster.name, max(int(cluster.count), int(cluster.options["workers"])))

    # What core asks, through the door.
    async def create(self, *, id: str, user: str, workers: int, gpus: int | None, sizes: dict[str, Any]) -> str:
        """The name of the cluster that stands for core's `id`; made when there is none yet. `gpus`: of each worker."""
        for cluster in self.db.name_to_cluster.values():
            if cluster.options.get("id") == id:
                return str(cluster.name)
        config = self.cluster_config_class(parent=self, **sizes)
        cluster = self.db.create_cluster(user, {"id": id, "workers": workers, "gpus": gpus}, config.to_dict())
        self.queue.put(cluster)
        return str(cluster.name)

    async def resize(self, name: str, workers: int) -> None:
        cluster = self.db.get_cluster(name)
        if cluster is None:
            return
        self.allowed[name] = workers
        model = cluster.to_model()
        if model.status == models.ClusterStatus.RUNNING:
            await super().forward_message_to_scheduler(model, {"op": "scale", "count": workers})
            self.scaled.add(name)

    # Processes.
    async def folder(self, cluster: Cluster) -> Path:
        return await cluster_folder(self.launcher, cluster.username, cluster.name)

    async def start_process(self, cluster: Cluster, command: Sequence[str], env: dict[str, str], name: str) -> str:
        folder = await self.folder(cluster)
        secrets = {
            "dask.crt": cluster.tls_cert.decode(),
            "dask.pem": cluster.tls_key.decode(),
            "api.token": cluster.token,
            "dashboard.token": dashboard_token(cluster.token),
        }
        tls = {
            variable: str(folder / file)
            for part in ("SCHEDULER", "WORKER", "CLIENT")
            for variable, file in (
                (f"DASK_DISTRIBUTED__COMM__TLS__{part}__KEY", "dask.pem"),
                (f"DASK_DISTRIBUTED__COMM__TLS__{part}__CERT", "dask.crt"),
            )
        }
        full = {
            **env,
            **tls,
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(folder / "dask.crt"),
            "DASK_TEMPORARY_DIRECTORY": str(folder / "tmp"),
            # A worker's own pages (/metrics among them) ask nobody for a token, and all people share the machine.
            "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
            "DASK_GATEWAY_API_TOKEN": str(folder / "api.token"),  # a path: dask-gateway reads the file
            "LABWRIGHT_CLUSTER_FOLDER": str(folder),
            "LABWRIGHT_CLUSTER_FILES": json.dumps(secrets),
            "PYTHONUNBUFFERED": "1",
        }
        launched = await self.launcher.launch(
            Principal(cluster.username),
            [str(self.python), *STARTER, *command],
            env=full,
            limits=self.limits(cluster, name),
            name=f"dask-{name.partition('-')[0]}",
            log=folder / f"{name}.log",
        )
        return launched.id

    def limits(self, cluster: Cluster, name: str) -> Limits:
        gpus = cluster.options.get("gpus")
        if name == "scheduler":
            return Limits(memory_bytes=cluster.config.scheduler_memory, gpus=None if gpus is None else 0)
        # Dask's nanny keeps a worker below worker_memory; the hard limit leaves room for the nanny itself.
        return Limits(
            cpu=cluster.config.worker_cores, memory_bytes=cluster.config.worker_memory + (512 << 20), gpus=gpus
        )

    def get_scheduler_command(self, cluster: Cluster) -> list[str]:
        command: list[str] = super().get_scheduler_command(cluster)
        return [*command, "--preload", "labwright.kernels.dask_guard", "--preload", TLS_PRELOAD]

    def get_worker_command(self, cluster: Cluster, worker_name: str, scheduler_address: str | None = None) -> list[str]:
        command: list[str] = super().get_worker_command(cluster, worker_name, scheduler_address)
        preloads = ["--preload", TLS_PRELOAD, "--preload-nanny", TLS_PRELOAD]
        return [*command, "--host", self.default_host, "--no-dashboard", *preloads]

    async def do_start_cluster(self, cluster: Cluster) -> AsyncIterator[dict[str, Any]]:
        folder = await self.folder(cluster)
        yield {"folder": str(folder)}
        command = self.get_scheduler_command(cluster)
        id = await self.start_process(cluster, command, self.get_scheduler_env(cluster), "scheduler")
        yield {"folder": str(folder), "launched": id}

    async def do_stop_cluster(self, cluster: Cluster) -> None:
        if id := cluster.state.get("launched"):
            await self.launcher.stop(id)
        if cluster.state.get("folder"):
            await clean_up(self.launcher, cluster.username, cluster.name)

    async def do_start_worker(self, worker: Worker) -> AsyncIterator[dict[str, Any]]:
        command = self.get_worker_command(worker.cluster, worker.name)
        env = self.get_worker_env(worker.cluster)
        yield {"launched": await self.start_process(worker.cluster, command, env, f"worker-{worker.name}")}

    async def do_stop_worker(self, worker: Worker) -> None:
        if id := worker.state.get("launched"):
            await self.launcher.stop(id)

    async def do_check_clusters(self, clusters: Sequence[Cluster]) -> list[bool]:
        return await asyncio.gather(*(self.runs(cluster.name, cluster.state) for cluster in clusters))

    async def do_check_workers(self, workers: Sequence[Worker]) -> list[bool]:
        return await asyncio.gather(*(self.runs(worker.cluster.name, worker.state) for worker in workers))

    async def runs(self, cluster_name: str, state: dict[str, Any]) -> bool:
        if not (id := state.get("launched")):
            return False
        status = await self.launcher.status(id)
        if not status.running and status.reason:
            self.reasons[cluster_name] = status.reason
        return status.running

    async def memory_bytes(self, cluster: Cluster) -> int:
        """What the scheduler and the workers use now."""
        states = [cluster.state, *(worker.state for worker in cluster.active_workers())]
        ids = [state["launched"] for state in states if state and state.get("launched")]
        found = await asyncio.gather(*(self.launcher.status(id) for id in ids))
        return sum(status.memory_bytes for status in found)
