"""The services behind the server extension: where they are, and one HTTP client for all requests to them."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from labwright.api import names
from labwright.api.client import Endpoints, endpoints_from, raise_for_problem
from labwright.api.errors import LabwrightError, Unavailable

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 10.0


class Services:
    """One for each server; `close` ends its connections."""

    @cached_property
    def endpoints(self) -> Endpoints:
        """Where the services are; read at the first request, so that a server without them still starts."""
        return endpoints_from(os.environ)

    @cached_property
    def client(self) -> httpx.AsyncClient:
        import httpx

        # No deadline between bytes: an event stream may be silent. trust_env=False: a proxy set for the internet must
        # not see the token.
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS)
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=10)
        return httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False, follow_redirects=False)

    def upstream(self, part: str, cluster: str = "") -> tuple[str, str]:
        """The address of the service behind a part of the door, and the prefix of its paths there."""
        if part == "clusters":
            return self.endpoints.core, f"/clusters/{cluster}/dashboard"
        if part == "mlflow":
            return self.endpoints.core, names.MLFLOW_PREFIX.removeprefix(names.CORE_PREFIX)
        return (self.endpoints.data if part == "data" else self.endpoints.core), names.API

    async def ask_core(self, path: str, seconds: float) -> dict[str, Any]:
        """A small JSON object from core, within `seconds`."""
        import httpx

        headers = {"Authorization": f"Bearer {self.endpoints.bearer()}"}
        try:
            response = await self.client.get(
                f"{self.endpoints.core}{names.API}{path}", headers=headers, timeout=seconds
            )
        except httpx.TransportError:
            raise Unavailable("The core service") from None
        raise_for_problem(response)
        body = response.json()
        if not isinstance(body, dict):
            raise LabwrightError("Core's answer cannot be read.")
        return body

    async def close(self) -> None:
        if "client" in self.__dict__:
            await self.client.aclose()
