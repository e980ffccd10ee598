"""The rows of the Clusters panel, and what the person may start: profiles, prices, quota."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fastapi import FastAPI

from labwright.api import clusters, usage
from labwright.api.errors import QuotaExceeded

from .world import CORE, GIB, NOW, World, one


def cluster(
    key: str, engine: clusters.Engine, state: clusters.ClusterState, workers: int, stops: datetime | None
) -> clusters.Cluster:
    return clusters.Cluster(
        id=key,
        name=key,
        engine=engine,
        owner="alice",
        state=state,
        workers=workers,
        workers_wanted=max(2, workers),
        cpu=2,
        memory_bytes=4 * GIB,
        memory_used_bytes=int(1.3 * GIB) if workers else None,
        price_per_hour=0.2,
        cost=0.07 if workers else 0,
        currency="EUR",
        dashboard_url=f"/services/core/clusters/{key}/dashboard/status",
        created=NOW - timedelta(minutes=21),
        idle_stops_at=stops,
    )


def card(slug: str, name: str, cpu: float, gib: int, price: float, **more: Any) -> usage.ProfileCard:
    return usage.ProfileCard(
        **{
            "slug": slug,
            "name": name,
            "cpu": cpu,
            "memory_bytes": gib * GIB,
            "image": "user",
            "price_per_hour": price,
            "available": True,
            **more,
        }
    )


def notice() -> usage.BudgetNotice:
    return usage.BudgetNotice(
        account="user:alice",
        threshold=80,
        percent=84,
        since=NOW.replace(day=1, hour=0),
        until=NOW + timedelta(days=9),
        message="The budget of alice is 84 % spent: 421.30 € of 500.00 € this month.",
        remedy="Once it is spent, nothing that costs starts. Stop what you no longer need.",
    )


def me(world: World) -> usage.Me:
    ask = usage.Ask(cpu=1, memory_bytes=2 * GIB, price_per_hour=0.05)
    held = usage.Reservation(
        id="1",
        user="alice",
        account="user:alice",
        kind="server",
        key="server:alice/",
        ask=ask,
        profile="small",
        created=NOW - timedelta(hours=6),
        expires=NOW + timedelta(hours=1),
        cost=0.31,
    )
    gpu = {"gpu": {"nvidia.com/gpu": 1}, "available": False, "reason": "All 4 GPUs are taken; Large is free."}
    cards = [
        card("small", "Small", 1, 2, 0.05),
        card("large", "Large", 8, 32, 0.42),
        card("gpu", "One GPU", 8, 64, 2.4, **gpu),
    ]
    amounts = [("servers", 1, 1), ("clusters", 2, 3), ("cpu", 5, 10), ("memory_bytes", 10 * GIB, 20 * GIB)]
    lines = [usage.QuotaLine(resource=name, used=used, limit=limit, left=limit - used) for name, used, limit in amounts]
    return usage.Me(
        name="alice",
        groups=["everyone"],
        admin=False,
        currency="EUR",
        quotas=[usage.Quota(account="user:alice", lines=lines, notice=notice() if world.fault == "budget" else None)],
        profiles=cards,
        running=[held],
    )


def add_clusters(app: FastAPI, world: World) -> None:
    listed = [
        cluster("dask-7f3a", "dask", "running", 2, NOW + timedelta(minutes=12)),
        cluster("spark-19bc", "spark", "starting", 0, None),
    ]

    @app.get(f"{CORE}/me")
    def get_me() -> usage.Me:
        return me(world)

    @app.get(f"{CORE}/clusters")
    def get_clusters() -> clusters.ClusterPage:
        return clusters.ClusterPage(items=[] if world.fault == "empty" else listed)

    @app.post(f"{CORE}/clusters", status_code=201)
    def post_cluster(ask: clusters.ClusterRequest) -> clusters.Cluster:
        if len(listed) > 2:
            raise QuotaExceeded("clusters", 1, 0, "user:alice")
        made = cluster(f"{ask.engine}-{len(listed)}", ask.engine, "running", ask.workers, None)
        listed.append(made)
        return made

    @app.delete(CORE + "/clusters/{key}", status_code=204)
    def delete_cluster(key: str) -> None:
        listed.remove(one(listed, key))
