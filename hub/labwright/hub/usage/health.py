"""Whether each part of the workbench answers, for the admin's page."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import httpx

from labwright.api import names
from labwright.hub.core.context import Core

SECONDS = 3.0


@dataclass(frozen=True)
class PartHealth:
    name: str
    ready: bool
    remedy: str = ""


async def health_of_parts(core: Core) -> list[PartHealth]:
    """Every part, asked at once."""
    settings = core.settings
    web = {
        "hub": f"{settings.hub_api_url}/",
        "proxy": f"{settings.public_url}/hub/api/",
        "data": f"{settings.data_url}/health",
        "Dask Gateway": f"http://127.0.0.1:{settings.gateway_port}/api/health",
    }
    asked = await asyncio.gather(
        *(answers_web(core.http, url) for url in web.values()),
        answers_socket(str(settings.mlflow_socket), f"{names.MLFLOW_PREFIX}/health"),
        accepts(str(settings.launcher_socket)),
    )
    found = dict(zip((*web, "MLflow", "launcher"), asked, strict=True))
    remedies = {"MLflow": "It starts last; wait half a minute, then see mlflow.log."}
    return [
        PartHealth("core", True),
        *(
            PartHealth(name, ready, "" if ready else remedies.get(name, f"Run labwright doctor; see {settings.logs}."))
            for name, ready in found.items()
        ),
    ]


async def answers_web(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url, timeout=SECONDS)).status_code < 500
    except httpx.TransportError:
        return False


async def answers_socket(path: str, url: str) -> bool:
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=SECONDS) as client:
        return await answers_web(client, url)


async def accepts(path: str) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_unix_connection(path), SECONDS)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
