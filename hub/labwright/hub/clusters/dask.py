"""Dask clusters: asked of Dask Gateway through its door for core."""

from __future__ import annotations

import time
from typing import Any

import httpx

from labwright.api import names
from labwright.api.client import raise_for_problem
from labwright.api.clusters import ClusterAddress
from labwright.api.errors import Unavailable
from labwright.hub.cluster_folders import where_logs_are
from labwright.hub.clusters.engine import ClusterRow, Observation, Started
from labwright.hub.core.context import Core
from labwright.hub.untrusted import NoAnswer, ask_json

LIST_SECONDS = 0.4  # one listing serves all clusters of a round
SCHEDULER_MEMORY_BYTES = 1 << 30


class DaskEngine:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._url = f"http://127.0.0.1:{core.settings.gateway_api_port}/labwright/v1/clusters"
        self._listed: tuple[float, dict[str, dict[str, Any]]] = (0.0, {})
        self._scaled: set[tuple[str, int]] = set()

    async def start(self, cluster: ClusterRow, idle_seconds: int) -> Started:
        sizes = {
            "worker_cores": max(1, int(cluster.cpu)),
            "worker_memory": cluster.memory_bytes,
            "scheduler_memory": SCHEDULER_MEMORY_BYTES,
            # Core stops idle clusters; this is for the hour in which core is away.
            "idle_timeout": idle_seconds + 300,
        }
        gpus = self._core.workbench().visible_gpus(cluster.gpu)
        ask = {
            "id": cluster.id,
            "user": cluster.owner,
            "workers": cluster.workers_wanted,
            "gpus": gpus,
            "sizes": sizes,
        }
        made = await self._call("POST", "", ask)
        return Started(remote=made["name"])

    async def observe(self, cluster: ClusterRow) -> Observation:
        report = (await self._list()).get(cluster.id)
        if report is None:
            return Observation("ended", reason="The Dask gateway no longer knows it. Start a new one.")
        status, logs = report["status"], where_logs_are(report["name"])
        if status == "pending":
            return Observation("starting", memory_bytes=report["memory_bytes"], logs=logs)
        if status != "running":
            reason = report["reason"] or ("Its scheduler ended." if status == "failed" else None)
            return Observation("ended", reason=reason, logs=logs)
        if report["workers_allowed"] != cluster.workers_wanted or not report["scaled"]:
            await self.scale(cluster)
        counts = await self._counts(report)
        return Observation(
            "running",
            workers=report["workers"],
            memory_bytes=report["memory_bytes"],
            busy=any(counts.get(name) for name in ("processing", "waiting")),
            activity=" ".join(f"{name}={counts.get(name)}" for name in ("tasks", "memory", "released", "erred"))[:200],
            dashboard=report["dashboard_address"] or None,
        )

    async def scale(self, cluster: ClusterRow) -> None:
        await self._call("PUT", f"/{cluster.remote}/workers", {"workers": cluster.workers_wanted})

    async def stop(self, cluster: ClusterRow) -> bool:
        if cluster.remote is None:
            return True
        await self._call("DELETE", f"/{cluster.remote}")
        report = (await self._list()).get(cluster.id)
        return report is None or report["status"] in ("stopped", "failed")

    def address(self, cluster: ClusterRow) -> ClusterAddress:
        settings = self._core.settings
        return ClusterAddress(
            engine="dask",
            address=settings.gateway_url,
            proxy_address=f"gateway://127.0.0.1:{settings.gateway_tcp_port}",
            cluster_name=cluster.remote or "",
        )

    def dashboard_headers(self, cluster: ClusterRow) -> dict[str, str]:
        report = self._listed[1].get(cluster.id) or {}
        return {"X-Labwright-Dashboard": report.get("dashboard_token", "")}

    def dashboard_page(self) -> str:
        return "status"

    async def _counts(self, report: dict[str, Any]) -> dict[str, Any]:
        """How many tasks are in which state, from the scheduler's dashboard."""
        if not report["dashboard_address"]:
            return {}
        headers = {"X-Labwright-Dashboard": report["dashboard_token"]}
        url = f"{report['dashboard_address']}/json/counts.json"
        try:
            counts = await ask_json(self._core.http, url, headers, seconds=5.0)
        except NoAnswer:
            return {}
        return counts if isinstance(counts, dict) else {}

    async def _list(self) -> dict[str, dict[str, Any]]:
        now = time.monotonic()
        if now - self._listed[0] > LIST_SECONDS:
            found = await self._call("GET", "")
            self._listed = (time.monotonic(), {report["id"]: report for report in found})
        return self._listed[1]

    async def _call(self, method: str, path: str, json: Any = None) -> Any:
        token = self._core.signer.mint("core", "cluster", [names.SCOPE_LEDGER], seconds=60)
        headers = {"Authorization": f"Bearer {token}"}
        try:
            answer = await self._core.http.request(method, self._url + path, json=json, headers=headers, timeout=15.0)
        except httpx.TransportError:
            raise Unavailable("The Dask gateway") from None
        raise_for_problem(answer)
        return answer.json()
