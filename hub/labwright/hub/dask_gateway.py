"""Run Dask Gateway, configured in code: `python -m labwright.hub.dask_gateway`.

Its state is in SQLite below the hub's folder, encrypted with a key of its own; clusters outlive a restart of it.
"""

from __future__ import annotations

import base64
import os
import secrets
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from typing import Any

import httpx
from aiohttp.web import TCPSite
from dask_gateway_server.app import DaskGateway
from traitlets.config import Config

from labwright.hub.callers import CallerResolver, HubDirectory, Resolver
from labwright.hub.dask.admission import CoreDoor
from labwright.hub.dask.authentication import TokenAuthenticator
from labwright.hub.dask.backend import LaunchedBackend
from labwright.hub.dask.door import core_only, routes
from labwright.hub.settings import Settings, from_environment
from labwright.hub.tokens import Verifier
from labwright.spawner.launcher import Launcher


@dataclass(frozen=True)
class Context:
    """What the authenticator and the backend need of ours."""

    settings: Settings
    launcher: Launcher
    resolver: Resolver
    core: CoreDoor
    http: httpx.AsyncClient


class Gateway(DaskGateway):  # type: ignore[misc]  # dask-gateway has no types
    """Dask Gateway with our parts and no configuration file."""

    context: Context

    def __init__(self, context: Context, **options: Any) -> None:
        super().__init__(**options)
        self.context = context

    def load_config_file(self, filename: str, **options: Any) -> None:
        self.update_config(configuration(self.context.settings))

    def initialize(self, argv: list[str] | None = None) -> None:
        super().initialize(argv or [])
        self.app.middlewares.append(core_only)
        self.app.add_routes(routes)

    async def cleanup(self) -> None:
        await super().cleanup()
        await self.context.http.aclose()


def configuration(settings: Settings) -> Config:
    folder = settings.hub_folder / "dask-gateway"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = Config()
    config.DaskGateway.address = f"127.0.0.1:{settings.gateway_api_port}"
    config.DaskGateway.authenticator_class = TokenAuthenticator
    config.DaskGateway.backend_class = LaunchedBackend
    config.Proxy.address = f"127.0.0.1:{settings.gateway_port}"
    config.Proxy.tcp_address = f"127.0.0.1:{settings.gateway_tcp_port}"
    # A dead proxy is seen after this long; clients wait for it meanwhile.
    config.Proxy.proxy_status_period = 2.0
    backend = config.LaunchedBackend
    backend.db_url = f"sqlite:///{folder / 'state.sqlite'}"
    backend.db_encrypt_keys = [state_key(folder / "state.key")]
    backend.stop_clusters_on_shutdown = False
    backend.cluster_heartbeat_period = 3
    backend.cluster_heartbeat_timeout = 60.0
    backend.cluster_status_period = backend.worker_status_period = 2.0
    backend.db_cleanup_period = 60.0
    backend.db_cluster_max_age = 3600.0
    config.ClusterConfig.scheduler_cmd = ["dask", "scheduler"]
    config.ClusterConfig.worker_cmd = ["dask", "worker"]
    return config


def state_key(file: Path) -> str:
    """The key of the state's encryption, made at the first start, readable by the service alone."""
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            handle.write(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    return file.read_text().strip()


def build(settings: Settings, launcher: Launcher, resolver: Resolver | None = None) -> Gateway:
    """The gateway, ready to be set up; `resolver` is the hub's and core's tokens unless given."""
    http = httpx.AsyncClient(trust_env=False, timeout=30.0)
    if resolver is None:
        directory = HubDirectory.of_service("gateway", settings, http)
        # Tokens for clusters are tokens for core: the gateway is a part of that service.
        resolver = CallerResolver("core", directory, Verifier(settings.public_key_file))
    gateway = Gateway(Context(settings, launcher, resolver, CoreDoor(settings.core_url, http), http))
    gateway.initialize([])
    return gateway


def main() -> None:
    from labwright.spawner.local import LocalLauncher

    settings = from_environment()
    if settings.by_user:
        # The launcher holds the port (`labwright.spawner.listeners`), and the parent passes no such option on.
        TCPSite.__init__ = partialmethod(TCPSite.__init__, reuse_port=True)  # type: ignore[method-assign, assignment]
    build(settings, LocalLauncher(settings.launcher_socket)).start()


if __name__ == "__main__":
    main()
