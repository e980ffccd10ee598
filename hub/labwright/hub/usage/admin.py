"""The admin's page: who runs what, usage and cost, quota, the audit trail, and whether every part is well."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool

from labwright.api import names
from labwright.api.errors import LabwrightError, Unavailable
from labwright.api.money import money
from labwright.api.usage import AuditPage, Quota, Reservation, UsageReport, server_key
from labwright.hub.audit import after_the_act
from labwright.hub.core.context import Core
from labwright.hub.usage.health import health_of_parts
from labwright.hub.usage.ledger import SqlLedger
from labwright.hub.usage.limits import account_of
from labwright.hub.usage.login import Logins, Session, check_form
from labwright.hub.usage.routes import csv_response, usage_report

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
PAGE = f"{names.CORE_PREFIX}/admin"
LOGO_FOLDER = Path(__file__).parents[1] / "templates"


class AdminPages:
    """Routes below /services/core, for browsers with a session of their own."""

    def __init__(self, core: Core, ledger: SqlLedger) -> None:
        self._core = core
        self._ledger = ledger
        self.logins = Logins(core)
        self._pages = Environment(
            loader=FileSystemLoader([Path(__file__).parent / "templates", LOGO_FOLDER]),
            autoescape=True,
            undefined=StrictUndefined,
        )
        self.router = APIRouter(include_in_schema=False)
        self.router.add_api_route("/admin", self.show, methods=["GET"])
        self.router.add_api_route("/admin/usage.csv", self.usage_csv, methods=["GET"])
        self.router.add_api_route("/admin/stop", self.stop, methods=["POST"])
        self.router.add_api_route("/admin/logout", self.logout, methods=["POST"])
        self.router.add_api_route("/oauth_callback", self.callback, methods=["GET"])

    async def callback(self, request: Request, code: str = "", state: str = "") -> Response:
        try:
            return await self.logins.finish(request, code, state)
        except LabwrightError as error:
            return self._message(error)

    async def show(
        self, request: Request, search: Annotated[str, Query(max_length=200)] = "", said: str = ""
    ) -> Response:
        try:
            session = await self.logins.session(request)
            if session is None:
                return self.logins.begin()
            parts = await health_of_parts(self._core)
            seen = await run_in_threadpool(self._read, search)
            trails = [seen.pop("audit"), await self._data_audit(session, search)]
        except LabwrightError as error:
            return self._message(error)
        page = self._pages.get_template("admin.html").render(
            user=session.user,
            csrf=session.csrf,
            search=search,
            # Only words of our own are shown back: the address may come from anywhere.
            said={"stopped": "The server is being stopped.", "failed": "The hub did not stop it."}.get(said, ""),
            parts=parts,
            trails=trails,
            prefix=PAGE,
            **seen,
        )
        return HTMLResponse(page, headers=_HEADERS)

    def _read(self, search: str) -> dict[str, Any]:
        core, now = self._core, self._core.now()
        report = usage_report(core, self._ledger, None, None, None)
        with core.database.read() as connection:
            audit = core.audit.page(connection, search=search or None, limit=50)
            accounts = {row.account for row in report.rows} | {held.account for held in report.running}
            accounts |= {account_of("", rule.group) for rule in core.workbench().quotas if rule.group}
            quotas = [self._ledger.quota(connection, account, now=now) for account in sorted(accounts)]
        return {
            "report": report,
            "money": partial(money, currency=report.currency),
            "costs": costs_by_user(report),
            "quotas": [shown_quota(quota, report.currency) for quota in quotas],
            "running": [
                {
                    "held": held,
                    "server": server_of(held.user, held.key),
                    "what": describe_held(held),
                    "age": describe_age(now - held.created),
                }
                for held in report.running
            ],
            "audit": {"service": "core", "page": audit, "reason": ""},
        }

    async def _data_audit(self, session: Session, search: str) -> dict[str, Any]:
        """Data's trail, fetched as the admin: core has no right of its own to it."""
        params = {"limit": "50"} | ({"search": search} if search else {})
        trail: dict[str, Any] = {"service": "data", "page": None, "reason": "The data service does not answer."}
        try:
            answer = await self._core.http.get(
                f"{self._core.settings.data_url}{names.API}/audit",
                params=params,
                headers={"Authorization": f"Bearer {session.token}"},
                timeout=10.0,
            )
            if answer.status_code == 200:
                return trail | {"page": AuditPage.model_validate_json(answer.content), "reason": ""}
            trail["reason"] = f"The data service answers {answer.status_code}."
        except (httpx.TransportError, ValueError):
            pass
        return trail

    async def usage_csv(self, request: Request) -> Response:
        session = await self.logins.session(request)
        if session is None:
            return self.logins.begin()
        report = await run_in_threadpool(usage_report, self._core, self._ledger, None, None, None)
        return csv_response(report)

    async def stop(
        self,
        request: Request,
        user: Annotated[str, Form()],
        csrf: Annotated[str, Form()],
        server: Annotated[str, Form()] = "",
    ) -> Response:
        """Stop somebody's server, with the admin's own token and in his name."""
        session = await self.logins.session(request)
        if session is None:
            return self.logins.begin()
        check_form(request, session, csrf)
        await run_in_threadpool(self._core.audit.check, self._core.database, self._core.now())
        path = f"/users/{quote(user, safe='')}/" + (f"servers/{quote(server, safe='')}" if server else "server")
        try:
            answer = await self._core.http.delete(
                f"{self._core.settings.hub_api_url}{path}",
                headers={"Authorization": f"token {session.token}"},
                timeout=30.0,
            )
        except httpx.TransportError:
            raise Unavailable("The hub") from None
        stopped = answer.status_code < 300
        await run_in_threadpool(self._note_stop, session.user, server_key(user, server), answer.status_code)
        return RedirectResponse(f"{PAGE}?said={'stopped' if stopped else 'failed'}", status_code=303)

    def _note_stop(self, who: str, what: str, status: int) -> None:
        with after_the_act(), self._core.database.write() as connection:
            self._core.audit.append(
                connection, now=self._core.now(), who=who, action="server.stop", what=what, details={"answer": status}
            )

    async def logout(self, request: Request, csrf: Annotated[str, Form()]) -> Response:
        session = await self.logins.session(request)
        if session is not None:
            check_form(request, session, csrf)
            self.logins.end(request)
        return RedirectResponse("/hub/home", status_code=303)

    def _message(self, error: LabwrightError) -> Response:
        page = self._pages.get_template("message.html").render(what=str(error), remedy=error.remedy, prefix=PAGE)
        return HTMLResponse(page, status_code=error.status, headers=_HEADERS)


def server_of(user: str, key: str) -> str | None:
    """The server's name in a reservation's key ('' for the default one); None for what is no server of the hub."""
    prefix = server_key(user)
    return key.removeprefix(prefix) if key.startswith(prefix) else None


def costs_by_user(report: UsageReport) -> list[dict[str, Any]]:
    """Cost and hours by person, the dearest first, with the length of his bar (0 to 100)."""
    found: dict[str, dict[str, Any]] = {}
    for row in report.rows:
        person = found.setdefault(row.user, {"user": row.user, "cost": 0.0, "cpu_hours": 0.0, "gpu_hours": 0.0})
        for name in ("cost", "cpu_hours", "gpu_hours"):
            person[name] += getattr(row, name)
    most = max((person["cost"] for person in found.values()), default=0.0) or 1.0
    people = sorted(found.values(), key=lambda person: -person["cost"])
    return [person | {"bar": round(100 * person["cost"] / most, 1)} for person in people]


def describe_held(held: Reservation) -> str:
    """'server', 'server training', 'run 7f3a…': what a reservation holds for, in a person's words."""
    name = server_of(held.user, held.key) if held.kind == "server" else held.key.partition(":")[2]
    return f"{held.kind} {name}".strip()


def describe_age(age: timedelta) -> str:
    minutes = int(age.total_seconds()) // 60
    return f"{minutes} m" if minutes < 60 else f"{minutes // 60} h {minutes % 60} m"


def shown_quota(quota: Quota, currency: str) -> dict[str, Any]:
    kind, _, account = quota.account.partition(":")
    lines = []
    for line in quota.lines:
        if line.limit is None:
            continue
        name = {"memory_bytes": "memory", "cpu": "CPU", "gpu": "GPU"}.get(line.resource, line.resource)
        part = min(100.0, 100 * line.used / line.limit) if line.limit else 100.0
        used, limit, left = (
            amount(line.resource, value, currency) for value in (line.used, line.limit, line.left or 0)
        )
        text = f"{used} of {limit}, {left} left"
        lines.append({"name": name, "text": text, "part": round(part, 1), "full": part >= 80})
    return {"title": f"{account} (group)" if kind == "group" else account, "lines": lines}


def amount(resource: str, value: float, currency: str) -> str:
    if resource == "budget":
        return money(value, currency)
    return f"{value / 2**30:.4g} GB" if resource == "memory_bytes" else f"{value:.4g}"
