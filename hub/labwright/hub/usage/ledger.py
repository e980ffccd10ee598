"""The ledger: who holds what, within which limits, and what it cost.

Invariants:
- At most one live reservation (`ended` is null) per key.
- What an account holds never exceeds its limits by a reservation that was asked for: the judgement and the insert
  happen under SQLite's write lock, or under the lock of the account's row on PostgreSQL.
- A reservation is held from `created` to the moment it was released, or to its expiry (the last renewal + ttl) when
  whoever held it was killed. An ended row never changes.
- When the wall clock is set, live rows move along (clock.py), so a jump neither costs nor kills anything.

Amounts of an `Ask` are totals of the thing; `count` is what it counts as in servers, runs or clusters (0 for a part
of something that is counted already, such as a worker).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from labwright.api.errors import Conflict, InvalidRequest, QuotaExceeded
from labwright.api.usage import Ask, Quota, Reservation, ReservationRequest, UsageRow
from labwright.hub.usage.clock import Steady, insert_once, read_steady, settle_clock
from labwright.hub.usage.limits import (
    COUNTED,
    MACHINE,
    account_of,
    budget_period,
    judge,
    limits_of,
    may_be_billed,
    quota_of,
    rule_for,
)
from labwright.hub.usage.tables import accounts, reservations
from labwright.spawner.profiles import Workbench

columns = reservations.c


class SqlLedger:
    """The `Ledger` of core over its database. `workbench` gives the quotas in force at that moment.

    `gpus`: how many this machine has for what runs on it; None counts none. `servers_here`: whether servers run on it;
    those that are pods leave GPUs to the cluster's scheduler.
    """

    def __init__(
        self,
        workbench: Callable[[], Workbench],
        *,
        steady: Callable[[], Steady] = read_steady,
        gpus: int | None = None,
        servers_here: bool = True,
    ) -> None:
        self._workbench = workbench
        self._gpus = gpus
        self._elsewhere = () if servers_here else ("server",)
        self._steady = steady

    def reserve(self, connection: sa.Connection, request: ReservationRequest, *, now: datetime) -> Reservation:
        """Take what is asked, or raise `QuotaExceeded`. A live key of the same account is renewed instead."""
        account = account_of(request.user, request.group)
        workbench = self._workbench()
        if not may_be_billed(workbench, account):
            raise InvalidRequest(
                f"The group '{request.group}' has no quota, so nothing can be billed to it.",
                remedy="Leave the group out, or ask your admin for a quota of the group in workbench.yaml.",
            )
        settle_clock(connection, now, self._steady)
        self._lock(connection, account)
        self._end_expired(connection, now, account)
        held = connection.execute(sa.select(reservations).where(columns.key == request.key, columns.ended.is_(None)))
        if row := held.one_or_none():
            if (row.account, row.user) != (account, request.user):
                raise Conflict(f"'{request.key}' is held by somebody else.", remedy="Choose another name.")
            self._extend(connection, row.id, now + timedelta(seconds=request.ttl_seconds))
            return self._get(connection, row.id, now)
        self._admit(connection, workbench, account, request, now)
        return self._insert(connection, account, request, now)

    def renew(self, connection: sa.Connection, key: str, *, ttl_seconds: int, now: datetime) -> None:
        """Say that the thing still lives.

        One that expired in the meantime (core was away) is taken up again from its expiry on, whatever the limits:
        it runs, and the ledger tells the truth. A released or unknown key is left alone.
        """
        settle_clock(connection, now, self._steady)
        last = connection.execute(self._latest(key)).one_or_none()
        if last is None or last.outcome == "released":
            return
        expires = now + timedelta(seconds=ttl_seconds)
        if last.ended is None:
            self._extend(connection, last.id, expires)
            return
        values = dict(last._mapping)
        values |= {"id": new_id(), "created": last.ended, "expires": expires, "ended": None, "outcome": None}
        insert_once(connection, reservations, **values)

    def release(self, connection: sa.Connection, key: str, *, now: datetime) -> Reservation | None:
        """Give back; the metered cost is in the answer. None when there is nothing live under the key."""
        settle_clock(connection, now, self._steady)
        found = connection.execute(
            sa.select(reservations).where(columns.key == key, columns.ended.is_(None)).with_for_update()
        ).one_or_none()
        if found is None:
            return None
        expired = found.expires < now
        connection.execute(
            reservations.update()
            .where(columns.id == found.id)
            .values(
                ended=max(min(now, found.expires), found.created),
                outcome="expired" if expired else "released",
            )
        )
        return self._get(connection, found.id, now)

    def cost(self, connection: sa.Connection, key: str, *, now: datetime) -> float:
        """What the reservations of the key have cost so far, live or released."""
        rows = connection.execute(sa.select(reservations).where(columns.key == key)).all()
        return float(sum(row.price_per_hour * held_hours(row, now) for row in rows))

    def end_expired(self, connection: sa.Connection, *, now: datetime) -> list[Reservation]:
        """Close what nobody renewed, at its expiry; what was closed."""
        settle_clock(connection, now, self._steady)
        return self._end_expired(connection, now, None)

    def quota(self, connection: sa.Connection, account: str, *, now: datetime) -> Quota:
        used, spent = self._used(connection, account, now), self._spent(connection, account, now)
        return quota_of(self._workbench(), account, used, spent, now)

    def refusal(self, connection: sa.Connection, account: str, ask: Ask, *, now: datetime) -> QuotaExceeded | None:
        """Why a server with this ask could not be started now, or None."""
        if lacking := self._lacking(connection, "server", ask, now):
            return lacking
        limits = limits_of(rule_for(self._workbench(), account))
        used, spent = self._used(connection, account, now), self._spent(connection, account, now)
        refused = judge("server", ask, used, spent, limits)
        return QuotaExceeded(refused.resource, refused.asked, refused.left, account) if refused else None

    def live(
        self, connection: sa.Connection, *, now: datetime, user: str | None = None, kind: str | None = None
    ) -> list[Reservation]:
        """What is held now, oldest first; everybody's when `user` is None."""
        query = sa.select(reservations).where(columns.ended.is_(None), columns.expires > now)
        if user is not None:
            query = query.where(columns.user == user)
        if kind is not None:
            query = query.where(columns.kind == kind)
        return [as_reservation(row, now) for row in connection.execute(query.order_by(columns.created))]

    def held_servers(self, connection: sa.Connection) -> list[Reservation]:
        """Every server reservation that was not ended yet, expired or not."""
        query = sa.select(reservations).where(columns.ended.is_(None), columns.kind == "server")
        return [as_reservation(row, row.expires) for row in connection.execute(query)]

    def usage(
        self, connection: sa.Connection, *, since: datetime, until: datetime, now: datetime, user: str | None = None
    ) -> list[UsageRow]:
        """Hours and cost within [since, until), by user, account, kind and profile."""
        query = sa.select(
            columns.user,
            columns.account,
            columns.kind,
            columns.profile,
            *(sa.func.sum(hours_within(since, until, now) * factor) for factor in _FACTORS),
        ).where(columns.created < until, sa.or_(columns.ended.is_(None), columns.ended > since))
        if user is not None:
            query = query.where(columns.user == user)
        keys = (columns.user, columns.account, columns.kind, columns.profile)
        rows = connection.execute(query.group_by(*keys).order_by(*keys)).all()
        return [
            UsageRow(
                user=row[0],
                account=row[1],
                kind=row[2],
                profile=row[3],
                hours=row[4],
                cpu_hours=row[5],
                gpu_hours=row[6],
                cost=row[7],
            )
            for row in rows
        ]

    def _lock(self, connection: sa.Connection, account: str) -> None:
        """Let nobody else judge this account until the transaction ends."""
        query = sa.select(accounts.c.name).where(accounts.c.name == account).with_for_update()
        if connection.execute(query).one_or_none() is None:
            insert_once(connection, accounts, name=account)
            connection.execute(query).one()

    def _admit(
        self,
        connection: sa.Connection,
        workbench: Workbench,
        account: str,
        request: ReservationRequest,
        now: datetime,
    ) -> None:
        if request.ask.gpu and self._gpus:
            self._lock(connection, MACHINE)
        if lacking := self._lacking(connection, request.kind, request.ask, now):
            raise lacking
        limits = limits_of(rule_for(workbench, account))
        used = self._used(connection, account, now)
        spent = self._spent(connection, account, now) if limits["budget"] is not None else 0.0
        refused = judge(request.kind, request.ask, used, spent, limits)
        if refused is None:
            return
        holders = [held for held in self.live(connection, now=now) if held.account == account]
        names = ", ".join(f"{held.kind} {held.key}" for held in holders[:3])
        remedy = f"Held now: {names}. Stop something you no longer need, or ask your admin." if names else ""
        raise QuotaExceeded(refused.resource, refused.asked, refused.left, account, remedy=remedy)

    def _insert(
        self, connection: sa.Connection, account: str, request: ReservationRequest, now: datetime
    ) -> Reservation:
        id = new_id()
        inserted = insert_once(
            connection,
            reservations,
            id=id,
            key=request.key,
            user=request.user,
            account=account,
            kind=request.kind,
            profile=request.profile,
            created=now,
            expires=now + timedelta(seconds=request.ttl_seconds),
            **request.ask.model_dump(),
        )
        if not inserted:
            raise Conflict(f"'{request.key}' is held by somebody else.", remedy="Choose another name.")
        return self._get(connection, id, now)

    def _lacking(self, connection: sa.Connection, kind: str, ask: Ask, now: datetime) -> QuotaExceeded | None:
        """Why this machine cannot give the GPUs, whoever asks."""
        if self._gpus is None or not ask.gpu or kind in self._elsewhere:
            return None
        query = sa.select(sa.func.coalesce(sa.func.sum(columns.gpu), 0)).where(columns.kind.not_in(self._elsewhere))
        held = connection.execute(query.where(columns.ended.is_(None), columns.expires > now)).scalar_one()
        left = max(self._gpus - int(held), 0)
        if ask.gpu <= left:
            return None
        remedy = "Wait until one is free, or choose a profile without." if self._gpus else "Choose a profile without."
        return QuotaExceeded("gpu", ask.gpu, left, MACHINE, remedy=remedy)

    def _used(self, connection: sa.Connection, account: str, now: datetime) -> dict[str, float]:
        sums = [sa.func.coalesce(sa.func.sum(columns[name]), 0) for name in ("count", "cpu", "memory_bytes", "gpu")]
        query = (
            sa.select(columns.kind, *sums)
            .where(columns.account == account, columns.ended.is_(None), columns.expires > now)
            .group_by(columns.kind)
        )
        used: dict[str, float] = dict.fromkeys((*COUNTED.values(), "cpu", "memory_bytes", "gpu"), 0.0)
        for kind, count, cpu, memory_bytes, gpu in connection.execute(query):
            used[COUNTED[kind]] += float(count)
            used["cpu"] += float(cpu)
            used["memory_bytes"] += float(memory_bytes)
            used["gpu"] += float(gpu)
        return used

    def _spent(self, connection: sa.Connection, account: str, now: datetime) -> float:
        """The account's cost in the day, week or month of its budget."""
        since, _ = budget_period(self._workbench(), account, now)
        query = sa.select(sa.func.sum(hours_within(since, now, now) * columns.price_per_hour)).where(
            columns.account == account, sa.or_(columns.ended.is_(None), columns.ended > since)
        )
        return float(connection.scalar(query) or 0.0)

    def _end_expired(self, connection: sa.Connection, now: datetime, account: str | None) -> list[Reservation]:
        query = sa.select(reservations).where(columns.ended.is_(None), columns.expires <= now).with_for_update()
        if account is not None:
            query = query.where(columns.account == account)
        rows: Sequence[sa.Row[Any]] = connection.execute(query).all()
        if rows:
            connection.execute(
                reservations.update()
                .where(columns.id.in_([row.id for row in rows]))
                .values(ended=columns.expires, outcome="expired")
            )
        return [as_reservation(row, now).model_copy(update={"released": row.expires}) for row in rows]

    def _extend(self, connection: sa.Connection, id: str, expires: datetime) -> None:
        connection.execute(reservations.update().where(columns.id == id).values(expires=expires))

    def _latest(self, key: str) -> sa.Select[Any]:
        live_first = (columns.ended.is_not(None), columns.created.desc())
        return sa.select(reservations).where(columns.key == key).order_by(*live_first).limit(1).with_for_update()

    def _get(self, connection: sa.Connection, id: str, now: datetime) -> Reservation:
        return as_reservation(connection.execute(sa.select(reservations).where(columns.id == id)).one(), now)


_FACTORS: tuple[sa.ColumnElement[Any], ...] = (sa.literal(1.0), columns.cpu, columns.gpu, columns.price_per_hour)


def new_id() -> str:
    return secrets.token_hex(8)


def held_until(row: Any, now: datetime) -> datetime:
    """Up to when a reservation is metered: its end, or now while it lives, and never past its expiry."""
    end: datetime = row.ended or min(now, row.expires)
    created: datetime = row.created
    return max(end, created)


def held_hours(row: Any, now: datetime) -> float:
    seconds: float = (held_until(row, now) - row.created).total_seconds()
    return seconds / 3600


def hours_within(since: datetime, until: datetime, now: datetime) -> sa.ColumnElement[Any]:
    """In SQL: the hours of a reservation that lie in [since, until), metered up to `now`."""
    created = sa.type_coerce(columns.created, sa.BigInteger)
    expires = sa.type_coerce(columns.expires, sa.BigInteger)
    ended = sa.func.coalesce(sa.type_coerce(columns.ended, sa.BigInteger), expires)
    first, last = microseconds(since), microseconds(min(until, now))
    begin = sa.case((created > first, created), else_=first)
    end = sa.case((ended < last, ended), else_=last)
    return sa.case((end > begin, end - begin), else_=0) / 3.6e9


def microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def as_reservation(row: Any, now: datetime) -> Reservation:
    ask = Ask(
        cpu=row.cpu, memory_bytes=row.memory_bytes, gpu=row.gpu, count=row.count, price_per_hour=row.price_per_hour
    )
    return Reservation(
        id=row.id,
        user=row.user,
        account=row.account,
        kind=row.kind,
        key=row.key,
        ask=ask,
        profile=row.profile,
        created=row.created,
        expires=row.expires,
        released=row.ended,
        cost=row.price_per_hour * held_hours(row, now),
    )
