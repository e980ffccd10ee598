"""What people ask of clusters, as transactions: the wish is stored and booked, the reconciler does the rest."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from labwright.api.clusters import Cluster, ClusterRequest
from labwright.api.errors import Conflict, Forbidden, InvalidRequest, NotFound
from labwright.api.usage import Ask, ReservationRequest
from labwright.hub.callers import Caller
from labwright.hub.clusters.engine import ClusterRow, row_of
from labwright.hub.clusters.tables import clusters
from labwright.hub.core.context import Core
from labwright.spawner.profiles import Profile

RESERVATION_SECONDS = 600
# How long an ended cluster stays in the list, so that its reason can be read.
SHOW_ENDED = timedelta(minutes=10)
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class ClusterService:
    def __init__(self, core: Core) -> None:
        self._core = core

    def create(self, ask: ClusterRequest, caller: Caller) -> ClusterRow:
        """Reserve and store; `QuotaExceeded` when the ledger refuses, and then nothing is started."""
        profile = self._profile(ask.profile, caller)
        if ask.group is not None and ask.group not in caller.groups:
            raise Forbidden(f"You are not in the group '{ask.group}'.", remedy="Choose one of your groups.")
        if ask.name is not None and not NAME.fullmatch(ask.name):
            raise InvalidRequest(
                f"'{ask.name}' cannot be a cluster's name.",
                remedy="Use lower-case letters, digits and dashes, and start with a letter or digit.",
            )
        now = self._core.now()
        with self._core.database.write() as connection:
            live = {row.name for row in self._live(connection, caller.name)}
            if ask.name in live:
                raise Conflict(f"You already have a cluster '{ask.name}'.", remedy="Stop it, or choose another name.")
            cluster = ClusterRow(
                id=secrets.token_hex(8),
                owner=caller.name,
                name=ask.name or next(name for n in range(1, 10_000) if (name := f"{ask.engine}-{n}") not in live),
                engine=ask.engine,
                account_group=ask.group,
                profile=profile.slug,
                cpu=profile.cpu,
                memory_bytes=profile.memory_bytes,
                gpu=profile.gpu_count,
                price_per_hour=profile.price_per_hour,
                workers_wanted=max(ask.workers, 1) if ask.engine == "spark" else ask.workers,
                target="running",
                state="starting",
                reason=None,
                remote=None,
                port=None,
                dashboard=None,
                attempts=0,
                workers=0,
                memory_used_bytes=None,
                activity="",
                created=now,
                started=None,
                stopped=None,
                last_active=now,
                renewed=now,
            )
            self._core.ledger.reserve(connection, reservation(cluster), now=now)
            connection.execute(clusters.insert().values(**vars(cluster)))
            details = {"name": cluster.name, "engine": cluster.engine, "workers": cluster.workers_wanted}
            self._tell(connection, cluster, "cluster.start", caller.name, now, details, action="created")
        return cluster

    def _profile(self, slug: str | None, caller: Caller) -> Profile:
        mine = {"everyone", *caller.groups}
        allowed = [profile for profile in self._core.workbench().profiles if mine & set(profile.groups)]
        if slug is not None:
            for profile in allowed:
                if profile.slug == slug:
                    return profile
            raise NotFound("profile", slug)
        if not allowed:
            raise Forbidden("No profile is open to you.", remedy="Ask your admin for one.")
        return min(allowed, key=lambda profile: (profile.gpu_count, profile.cpu, profile.price_per_hour))

    def get(self, id_or_name: str, caller: Caller) -> ClusterRow:
        """One of the caller's own, by id or by the name of a live one."""
        with self._core.database.read() as connection:
            return self._mine(connection, id_or_name, caller)

    def page(self, caller: Caller) -> list[ClusterRow]:
        """The caller's clusters, newest first: the live ones and those that ended a moment ago."""
        since = self._core.now() - SHOW_ENDED
        query = (
            sa.select(clusters)
            .where(clusters.c.owner == caller.name)
            .where(clusters.c.stopped.is_(None) | (clusters.c.stopped > since))
            .order_by(clusters.c.created.desc(), clusters.c.id)
        )
        with self._core.database.read() as connection:
            return [row_of(row) for row in connection.execute(query)]

    def scale(self, id: str, workers: int, caller: Caller) -> ClusterRow:
        """Book the new size and store it as wanted. The reservation changes whole or not at all."""
        now = self._core.now()
        with self._core.database.write() as connection:
            cluster = self._mine(connection, id, caller)
            if cluster.engine == "spark":
                raise Conflict(
                    f"The Spark session '{cluster.name}' has a fixed number of threads.",
                    remedy="Stop it and start one with more: %cluster start spark --workers N.",
                )
            if cluster.target != "running":
                raise Conflict(f"The cluster '{cluster.name}' is {cluster.state}.", remedy="Start a new one.")
            wanted = ClusterRow(**{**vars(cluster), "workers_wanted": workers, "last_active": now})
            if workers != cluster.workers_wanted:
                self._core.ledger.release(connection, ledger_key(cluster.id), now=now)
                self._core.ledger.reserve(connection, reservation(wanted), now=now)
            change(connection, cluster.id, workers_wanted=workers, last_active=now)
            self._tell(connection, cluster, "cluster.scale", caller.name, now, {"workers": workers})
        return wanted

    def stop(self, id: str, caller: Caller) -> ClusterRow:
        """Store that it is to end; stopping twice is stopping once."""
        now = self._core.now()
        with self._core.database.write() as connection:
            cluster = self._mine(connection, id, caller)
            if cluster.target == "running" and cluster.stopped is None:
                self.want_stopped(connection, cluster, None, caller.name, now)
            return self._mine(connection, cluster.id, caller)

    def want_stopped(
        self, connection: sa.Connection, cluster: ClusterRow, reason: str | None, who: str, now: datetime
    ) -> None:
        change(connection, cluster.id, target="stopped", state="stopping", reason=reason)
        self._tell(connection, cluster, "cluster.stop", who, now, {"reason": reason} if reason else {})

    def ended(self, cluster: ClusterRow, state: str, reason: str | None) -> None:
        """Nothing of it is left: give back what it held, and say so."""
        now = self._core.now()
        with self._core.database.write() as connection:
            self._core.ledger.release(connection, ledger_key(cluster.id), now=now)
            change(
                connection, cluster.id, target="stopped", state=state, reason=reason, stopped=now, workers=0,
                memory_used_bytes=None,
            )  # fmt: skip
            self._tell(connection, cluster, "cluster.end", "core", now, {"state": state, "reason": reason})

    def record(self, cluster: ClusterRow, **values: Any) -> None:
        """Write down what was seen or done, and tell of it when a person could see the difference."""
        now = self._core.now()
        with self._core.database.write() as connection:
            change(connection, cluster.id, **values)
            if values.keys() & {"state", "workers", "memory_used_bytes", "dashboard", "remote"}:
                self._core.events.append(
                    connection, owner=cluster.owner, topic="cluster", key=cluster.id, action="updated", now=now
                )

    def renew(self, cluster: ClusterRow) -> None:
        now = self._core.now()
        with self._core.database.write() as connection:
            self._core.ledger.renew(connection, ledger_key(cluster.id), ttl_seconds=RESERVATION_SECONDS, now=now)
            change(connection, cluster.id, renewed=now)

    def unfinished(self) -> list[ClusterRow]:
        """Every cluster that there is still something to do for."""
        with self._core.database.read() as connection:
            return [row_of(row) for row in connection.execute(sa.select(clusters).where(clusters.c.stopped.is_(None)))]

    def shown(self, cluster: ClusterRow) -> Cluster:
        """The cluster on the wire."""
        with self._core.database.read() as connection:
            cost = self._core.ledger.cost(connection, ledger_key(cluster.id), now=self._core.now())
        bench = self._core.workbench()
        idle = timedelta(seconds=bench.idle.cluster_seconds)
        live = cluster.state == "running"
        return Cluster(
            id=cluster.id,
            name=cluster.name,
            engine=cluster.engine,
            owner=cluster.owner,
            state=cluster.state,
            workers=cluster.workers,
            workers_wanted=cluster.workers_wanted,
            cpu=cluster.cpu * cluster.workers_wanted,
            memory_bytes=cluster.memory_bytes * cluster.workers_wanted,
            memory_used_bytes=cluster.memory_used_bytes,
            price_per_hour=cluster.price_per_hour * cluster.workers_wanted,
            cost=cost,
            currency=bench.currency,
            dashboard_url=f"/services/core/clusters/{cluster.id}/dashboard/" if live and cluster.dashboard else None,
            reason=cluster.reason,
            profile=cluster.profile,
            created=cluster.created,
            idle_stops_at=cluster.last_active + idle if live else None,
        )

    def _live(self, connection: sa.Connection, owner: str) -> list[ClusterRow]:
        query = sa.select(clusters).where(clusters.c.owner == owner, clusters.c.stopped.is_(None))
        return [row_of(row) for row in connection.execute(query)]

    def _mine(self, connection: sa.Connection, id_or_name: str, caller: Caller) -> ClusterRow:
        row = connection.execute(sa.select(clusters).where(clusters.c.id == id_or_name)).one_or_none()
        if row is not None and row.owner == caller.name:
            return row_of(row)
        for cluster in self._live(connection, caller.name):
            if cluster.name == id_or_name:
                return cluster
        raise NotFound("cluster", id_or_name)

    def _tell(
        self,
        connection: sa.Connection,
        cluster: ClusterRow,
        what: str,
        who: str,
        now: datetime,
        details: dict[str, Any],
        *,
        action: Any = "updated",
    ) -> None:
        self._core.audit.append(connection, now=now, who=who, action=what, what=cluster.id, details=details)
        self._core.events.append(
            connection, owner=cluster.owner, topic="cluster", key=cluster.id, action=action, now=now
        )


def ledger_key(id: str) -> str:
    return f"cluster:{id}"


def reservation(cluster: ClusterRow) -> ReservationRequest:
    """What the whole cluster takes; `ask` is the sum over its workers."""
    count = cluster.workers_wanted
    return ReservationRequest(
        user=cluster.owner,
        group=cluster.account_group,
        kind="cluster",
        key=ledger_key(cluster.id),
        ask=Ask(
            cpu=cluster.cpu * count,
            memory_bytes=cluster.memory_bytes * count,
            gpu=cluster.gpu * count,
            count=1,
            price_per_hour=cluster.price_per_hour * count,
        ),
        ttl_seconds=RESERVATION_SECONDS,
        profile=cluster.profile,
    )


def change(connection: sa.Connection, id: str, **values: Any) -> None:
    connection.execute(clusters.update().where(clusters.c.id == id).values(**values))
