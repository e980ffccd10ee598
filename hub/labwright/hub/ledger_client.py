"""The hub's own calls to core's ledger: reserve before a server starts, give back when it ended, ask what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx

from labwright.api import names
from labwright.api.client import raise_for_problem
from labwright.api.errors import Unavailable
from labwright.api.usage import Me, ReservationRequest

DEADLINE_SECONDS = 10.0


class LedgerClient:
    """Speaks as the service `hub`, the only one that may reserve for anybody."""

    def __init__(self, core_url: str, token: Callable[[], str]) -> None:
        self._url = core_url + names.API
        self._token = token

    async def reserve(self, request: ReservationRequest) -> None:
        """Take what the server needs, or raise `QuotaExceeded`."""
        await self._ask("POST", "/ledger/reservations", request.model_dump(mode="json"))

    async def renew(self, key: str, ttl_seconds: int) -> None:
        await self._ask("POST", "/ledger/renew", {"key": key, "ttl_seconds": ttl_seconds})

    async def release(self, key: str) -> None:
        await self._ask("POST", "/ledger/release", {"key": key})

    async def person(self, name: str) -> Me:
        """Profiles, quota and what runs, of anybody."""
        return Me.model_validate(await self._ask("GET", f"/ledger/people/{quote(name, safe='')}", None))

    async def _ask(self, method: str, path: str, body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self._token()}"}
        try:
            # A client for each request, for each comes from a loop of its own; the certificates, a tenth of a second
            # of the hub's only thread, are read where they are of use.
            secure = self._url.startswith("https:")
            async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_SECONDS, verify=secure) as client:
                response = await client.request(method, self._url + path, json=body, headers=headers)
        except httpx.TransportError:
            raise Unavailable("The core service") from None
        raise_for_problem(response)
        return response.json() if response.content else None
