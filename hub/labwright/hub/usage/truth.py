"""Keeps the ledger true against the hub: servers that run are renewed, those that are gone are released."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import httpx
from starlette.concurrency import run_in_threadpool

from labwright.api.errors import Unavailable
from labwright.api.usage import Reservation, server_key
from labwright.hub.core.context import Core
from labwright.hub.usage.ledger import SqlLedger
from labwright.hub.usage.routes import release_and_tell

log = logging.getLogger("labwright.usage")

INTERVAL_SECONDS = 15.0
SERVER_TTL_SECONDS = 300
# A server is reserved before the hub knows of it.
GRACE = timedelta(seconds=30)


class Truth:
    """The background task."""

    def __init__(self, core: Core, ledger: SqlLedger) -> None:
        self._core = core
        self._ledger = ledger
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="usage-truth")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.step()
            except Exception:
                log.exception("the ledger could not be compared with the hub")
            await asyncio.sleep(INTERVAL_SECONDS)

    async def step(self) -> None:
        """One comparison. While the hub does not answer nobody loses what he holds: servers outlive the hub."""
        try:
            servers = await active_servers(self._core)
        except Unavailable:
            servers = None
        await run_in_threadpool(self.settle, servers)

    def settle(self, servers: dict[str, set[str]] | None) -> None:
        """Renew and release server reservations, then close what nobody renewed. `servers`: names by user."""
        now = self._core.now()
        with self._core.database.write() as connection:
            for held in self._ledger.held_servers(connection):
                if servers is None or runs(held, servers) or held.created > now - GRACE:
                    self._ledger.renew(connection, held.key, ttl_seconds=SERVER_TTL_SECONDS, now=now)
                else:
                    release_and_tell(self._core, self._ledger, connection, held.key, by=None, now=now)
            for ended in self._ledger.end_expired(connection, now=now):
                log.info("reservation %s of %s expired", ended.key, ended.user)
                self._core.events.append(
                    connection, owner=ended.user, topic="reservation", key=ended.key, action="deleted", now=now
                )
        self._core.events.wake()


def runs(held: Reservation, servers: dict[str, set[str]]) -> bool:
    """Whether the hub knows of the server that a reservation is for; of any of the person's when the key is foreign."""
    names = servers.get(held.user, set())
    if held.key.startswith(server_key(held.user)):
        return held.key in {server_key(held.user, name) for name in names}
    return bool(names)


async def active_servers(core: Core) -> dict[str, set[str]]:
    """The names of the servers that run, start or stop now, by person. `Unavailable` when the hub does not say."""
    try:
        token = core.settings.service_token_file("core").read_text().strip()
    except OSError:
        raise Unavailable("The hub") from None
    found: dict[str, set[str]] = {}
    offset: int | None = 0
    while offset is not None:
        page = await _page(core, token, offset)
        for user in page["items"]:
            found[user["name"]] = set(user.get("servers") or {})
        following = (page.get("_pagination") or {}).get("next")
        offset = following["offset"] if following else None
    return found


async def _page(core: Core, token: str, offset: int) -> dict[str, Any]:
    headers = {"Authorization": f"token {token}", "Accept": "application/jupyterhub-pagination+json"}
    try:
        answer = await core.http.get(
            f"{core.settings.hub_api_url}/users",
            params={"state": "active", "offset": offset, "limit": 200},
            headers=headers,
            timeout=10.0,
        )
    except httpx.TransportError:
        raise Unavailable("The hub") from None
    if answer.is_error:
        log.warning("the hub answers %s when asked who runs what", answer.status_code)
        raise Unavailable("The hub")
    page: dict[str, Any] = answer.json()
    return page
