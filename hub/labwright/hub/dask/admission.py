"""How the gateway reaches core with a person's own token, when code makes or scales a cluster at the gateway."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

from labwright.api import names
from labwright.api.client import raise_for_problem
from labwright.api.errors import LabwrightError, Unavailable

WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class CoreDoor:
    url: str
    http: httpx.AsyncClient

    async def create_cluster(self, token: str) -> str:
        """Have core make a Dask cluster; returns the gateway's name for it."""
        made = await self._ask("POST", "/clusters", token, {"engine": "dask", "workers": 0})
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            found = await self._ask("GET", f"/clusters/{made['id']}/address?starting=true", token)
            if found["cluster_name"]:
                return str(found["cluster_name"])
            await asyncio.sleep(0.1)
        raise Unavailable("The cluster")

    async def scale_cluster(self, token: str, id: str, workers: int) -> None:
        await self._ask("POST", f"/clusters/{id}/scale", token, {"workers": workers})

    async def _ask(self, method: str, path: str, token: str, json: Any = None) -> dict[str, Any]:
        try:
            answer = await self.http.request(
                method,
                f"{self.url}{names.API}{path}",
                json=json,
                headers={"Authorization": f"Bearer {token}"},
                timeout=15.0,
            )
        except httpx.TransportError:
            raise Unavailable("Core") from None
        raise_for_problem(answer)
        body = answer.json()
        if not isinstance(body, dict):
            raise LabwrightError("Core gave an answer that cannot be read.")
        return body
