"""Core's door into the gateway: list all clusters, and have made what core has booked.

Below /labwright/v1 of the gateway's private address, for tokens with the ledger's scope alone (core signs them).
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from dask_gateway_server.backends.db_base import Cluster, JobStatus

from labwright.api import names
from labwright.api.errors import LabwrightError
from labwright.hub.dask.authentication import bearer
from labwright.hub.dask.backend import LaunchedBackend, dashboard_token

PREFIX = "/labwright/v1/clusters"
routes = web.RouteTableDef()


@web.middleware
async def core_only(request: web.Request, handler: Any) -> web.StreamResponse:
    if request.path.startswith("/labwright/"):
        try:
            caller = await request.app["authenticator"].resolver.resolve(bearer(request))
        except LabwrightError as error:
            return web.json_response(error.problem(), status=error.status)
        if names.SCOPE_LEDGER not in caller.scopes:
            return web.json_response({"error": "This is core's door."}, status=403)
    answer: web.StreamResponse = await handler(request)
    return answer


@routes.get(PREFIX)
async def list_clusters(request: web.Request) -> web.Response:
    backend: LaunchedBackend = request.app["backend"]
    known = [cluster for cluster in backend.db.name_to_cluster.values() if "id" in cluster.options]
    return web.json_response(list(await asyncio.gather(*(describe(backend, cluster) for cluster in known))))


async def describe(backend: LaunchedBackend, cluster: Cluster) -> dict[str, Any]:
    running = [worker for worker in cluster.active_workers() if worker.status == JobStatus.RUNNING]
    try:
        memory = await backend.memory_bytes(cluster) if cluster.status < JobStatus.STOPPED else 0
    except LabwrightError:
        memory = 0
    return {
        "id": cluster.options["id"],
        "name": cluster.name,
        "user": cluster.username,
        "status": cluster.model_status.name.lower(),
        "workers": len(running),
        "scaled": cluster.name in backend.scaled or cluster.count > 0,
        "workers_allowed": backend.allowed_workers(cluster),
        "dashboard_address": cluster.dashboard_address,
        "dashboard_token": dashboard_token(cluster.token),
        "memory_bytes": memory,
        "reason": backend.reasons.get(cluster.name),
    }


@routes.post(PREFIX)
async def create_cluster(request: web.Request) -> web.Response:
    backend: LaunchedBackend = request.app["backend"]
    ask = await request.json()
    wanted = {name: ask[name] for name in ("id", "user", "workers", "gpus", "sizes")}
    name = await backend.create(**wanted)
    return web.json_response({"name": name}, status=201)


@routes.put(PREFIX + "/{name}/workers")
async def resize_cluster(request: web.Request) -> web.Response:
    ask = await request.json()
    await request.app["backend"].resize(request.match_info["name"], ask["workers"])
    return web.json_response({})


@routes.delete(PREFIX + "/{name}")
async def stop_cluster(request: web.Request) -> web.Response:
    await request.app["backend"].stop_cluster(request.match_info["name"])
    return web.json_response({})
