"""HTTP of usage: who am I, quota, the hub's reservations, usage and cost, the audit trail."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from labwright.api import names
from labwright.api.errors import Forbidden, InvalidRequest, NotAuthenticated, NotFound
from labwright.api.usage import (
    AuditPage,
    Me,
    ProfileCard,
    Quota,
    Renewal,
    Reservation,
    ReservationKey,
    ReservationRequest,
    UsageReport,
)
from labwright.hub.callers import Caller, LedgerCaller, UsageCaller
from labwright.hub.core.context import Core
from labwright.hub.usage import people
from labwright.hub.usage.ledger import SqlLedger
from labwright.hub.usage.limits import month_of

router = APIRouter()


def core_of(request: Request) -> Core:
    core: Core = request.app.state.core
    return core


def ledger_of(request: Request) -> SqlLedger:
    ledger = core_of(request).ledger
    assert isinstance(ledger, SqlLedger)
    return ledger


CoreParts = Annotated[Core, Depends(core_of)]
TheLedger = Annotated[SqlLedger, Depends(ledger_of)]
Everybody = Annotated[bool, Query(description="Of all people; for admins.")]


def whose(caller: Caller, everybody: bool) -> str | None:
    """Whose rows the caller sees: his own, or everybody's (None) when an admin asks for them."""
    if not everybody:
        return caller.name
    if not caller.admin:
        raise Forbidden(
            "Only an admin sees everybody.",
            remedy="Leave out everybody to see yours, or use an admin's token from the hub's page 'Tokens'.",
        )
    return None


@router.get("/me")
def get_me(caller: UsageCaller, core: CoreParts, ledger: TheLedger) -> Me:
    """Who the caller is: groups, quota, profiles, and what runs."""
    workbench, now = core.workbench(), core.now()
    with core.database.read() as connection:
        return people.me(
            ledger, connection, workbench, user=caller.name, groups=caller.groups, admin=caller.admin, now=now
        )


@router.get("/profiles")
def get_profiles(caller: UsageCaller, core: CoreParts, ledger: TheLedger) -> list[ProfileCard]:
    """The profiles that the caller may choose, and which of them fit the quota now."""
    workbench, now = core.workbench(), core.now()
    with core.database.read() as connection:
        return people.profile_cards(ledger, connection, workbench, user=caller.name, groups=caller.groups, now=now)


@router.get("/quota")
def get_quota(caller: UsageCaller, core: CoreParts, ledger: TheLedger) -> list[Quota]:
    """What the caller's accounts may hold, hold, and have left."""
    workbench, now = core.workbench(), core.now()
    with core.database.read() as connection:
        return people.quotas_of(ledger, connection, workbench, user=caller.name, groups=caller.groups, now=now)


@router.get("/ledger/people/{name}")
async def get_person(name: str, caller: LedgerCaller, core: CoreParts, ledger: TheLedger) -> Me:
    """For the hub's spawn page: profiles, quota and what runs, of anybody."""
    try:
        person = await core.directory.person(name)
    except NotAuthenticated:
        raise NotFound("person", name) from None
    groups = list(person.get("groups", ()))

    def read() -> Me:
        with core.database.read() as connection:
            return people.me(
                ledger, connection, core.workbench(), user=name, groups=groups, admin=False, now=core.now()
            )

    return await run_in_threadpool(read)


@router.post("/ledger/reservations", status_code=201)
def reserve(ask: ReservationRequest, caller: LedgerCaller, core: CoreParts, ledger: TheLedger) -> Reservation:
    """Take what a server needs, or 409 with the limit that is reached. Asking again for the key renews it."""
    now = core.now()
    with core.database.write() as connection:
        reservation = ledger.reserve(connection, ask, now=now)
        if reservation.created == now:
            details = {"account": reservation.account, "profile": ask.profile, **ask.ask.model_dump()}
            core.audit.append(
                connection, now=now, who=ask.user, action=f"{ask.kind}.reserve", what=ask.key, details=details
            )
        core.events.append(connection, owner=ask.user, topic="reservation", key=ask.key, action="created", now=now)
    core.events.wake()
    return reservation


@router.post("/ledger/renew", status_code=204)
def renew(renewal: Renewal, caller: LedgerCaller, core: CoreParts, ledger: TheLedger) -> None:
    """Say that what was reserved is still in use."""
    with core.database.write() as connection:
        ledger.renew(connection, renewal.key, ttl_seconds=renewal.ttl_seconds, now=core.now())


@router.post("/ledger/release")
def release(given: ReservationKey, caller: LedgerCaller, core: CoreParts, ledger: TheLedger) -> Reservation | None:
    """Give back; null when nothing live is under the key."""
    with core.database.write() as connection:
        return release_and_tell(core, ledger, connection, given.key, by=None)


def release_and_tell(
    core: Core, ledger: SqlLedger, connection: Any, key: str, *, by: str | None, now: datetime | None = None
) -> Reservation | None:
    now = now or core.now()
    reservation = ledger.release(connection, key, now=now)
    if reservation is not None:
        details = {"cost": round(reservation.cost, 6), "account": reservation.account}
        core.audit.append(
            connection,
            now=now,
            who=by or reservation.user,
            action=f"{reservation.kind}.release",
            what=key,
            details=details,
        )
        core.events.append(connection, owner=reservation.user, topic="reservation", key=key, action="deleted", now=now)
    return reservation


Moment = Annotated[datetime | None, Query(description="ISO 8601; UTC when it has no zone.")]


def usage_report(
    core: Core, ledger: SqlLedger, user: str | None, since: datetime | None, until: datetime | None
) -> UsageReport:
    """Usage of this month, unless other moments are given."""
    now = core.now()
    begin = with_zone(since) or month_of(now)
    end = with_zone(until) or now
    if begin >= end:
        raise InvalidRequest("'since' must be before 'until'.", remedy="Leave them out for this month.")
    with core.database.read() as connection:
        rows = ledger.usage(connection, since=begin, until=end, now=now, user=user)
        running = ledger.live(connection, now=now, user=user)
    return UsageReport(since=begin, until=end, currency=core.workbench().currency, rows=rows, running=running)


def with_zone(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


@router.get("/usage")
def get_usage(
    caller: UsageCaller,
    core: CoreParts,
    ledger: TheLedger,
    since: Moment = None,
    until: Moment = None,
    everybody: Everybody = False,
) -> UsageReport:
    """Hours and cost of this month, or between two moments; `everybody` is for admins."""
    return usage_report(core, ledger, whose(caller, everybody), since, until)


@router.get("/usage.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
def get_usage_csv(
    caller: UsageCaller,
    core: CoreParts,
    ledger: TheLedger,
    since: Moment = None,
    until: Moment = None,
    everybody: Everybody = False,
) -> Response:
    """The same as comma-separated values."""
    return csv_response(usage_report(core, ledger, whose(caller, everybody), since, until))


def csv_response(report: UsageReport) -> Response:
    return Response(
        usage_csv(report),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="usage-{report.since:%Y-%m-%d}.csv"'},
    )


def usage_csv(report: UsageReport) -> str:
    """One line per user, account, kind and profile."""
    text = io.StringIO()
    writer = csv.writer(text)
    columns = ("user", "account", "kind", "profile", "hours", "cpu_hours", "gpu_hours", "cost")
    writer.writerow(("since", "until", *columns, "currency"))
    for row in report.rows:
        cells = [_cell(getattr(row, column)) for column in columns]
        writer.writerow((report.since.isoformat(), report.until.isoformat(), *cells, report.currency))
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6)
    text = "" if value is None else str(value)
    # A spreadsheet would take such a name for a formula.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


@router.get("/audit")
def get_audit(
    caller: UsageCaller,
    core: CoreParts,
    before: Annotated[int | None, Query(ge=1, le=names.MOST_WHOLE)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    search: Annotated[str | None, Query(max_length=200)] = None,
    everybody: Everybody = False,
) -> AuditPage:
    """Core's audit trail, newest first."""
    who = whose(caller, everybody)
    with core.database.read() as connection:
        return core.audit.page(connection, before=before, who=who, search=search, limit=limit)
