"""Puts the server extension together: where the services are, one HTTP client, the routes."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from traitlets.config import Config

from labwright.api import names
from labwright.api.client import Endpoints, endpoints_from, raise_for_problem
from labwright.api.errors import LabwrightError, Unavailable

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 10.0
PROVISIONER = "labwright-provisioner"


class LabwrightExtension(ExtensionApp):
    """`{base_url}labwright/…`"""

    name = "labwright"

    def _link_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Before the server makes its managers: ours, unless the server was configured otherwise."""
        from labwright.extensions.kernels import NotebookSessionManager, PromptConnection

        if "kernel_websocket_connection_class" not in serverapp.config.ServerApp:
            serverapp.kernel_websocket_connection_class = PromptConnection
        if "session_manager_class" not in serverapp.config.ServerApp:
            serverapp.session_manager_class = NotebookSessionManager
        serve_kernels_by_forks(serverapp.config)
        super()._link_jupyter_server_extension(serverapp)

    def initialize_settings(self) -> None:
        # Lab would spend a second to find that it needs no build; nobody here can build it.
        assert self.serverapp is not None
        page = self.serverapp.web_app.settings.setdefault("page_config_data", {})
        page.update({"buildCheck": False, "buildAvailable": False})

    def initialize_handlers(self) -> None:
        from labwright.extensions.activity import ActivityHandler
        from labwright.extensions.door import DoorHandler
        from labwright.extensions.examples import ExampleHandler, ExamplesHandler
        from labwright.extensions.exporters import ExportersHandler
        from labwright.extensions.kernels import DeathHandler
        from labwright.extensions.sockets import DashboardSocket
        from labwright.extensions.status import StatusHandler

        own = {"extension": self}
        self.handlers.extend(
            [
                (r"/api/nbconvert", ExportersHandler),
                (r"/labwright/status", StatusHandler, own),
                (r"/labwright/activity", ActivityHandler, own),
                (r"/labwright/kernels/([^/]+)/death", DeathHandler, own),
                (r"/labwright/examples", ExamplesHandler, own),
                (r"/labwright/examples/([^/]+)", ExampleHandler, own),
                (r"/labwright/clusters/[^/]+/dashboard/(?:.*/)?ws", DashboardSocket, own),
                (r"/labwright/clusters/[^/]+/dashboard/.*", DoorHandler, {**own, "part": "clusters"}),
                *[
                    (rf"/labwright/{part}/.*", DoorHandler, {**own, "part": part})
                    for part in ("core", "data", "mlflow")
                ],
            ]
        )

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

    async def stop_extension(self) -> None:
        if "client" in self.__dict__:
            await self.client.aclose()


def serve_kernels_by_forks(config: Config) -> None:
    """Let every kernelspec that names no provisioner, above all `python3`, start as a fork where it can be one."""
    if "default_provisioner_name" not in config.KernelProvisionerFactory:
        config.KernelProvisionerFactory.default_provisioner_name = PROVISIONER
