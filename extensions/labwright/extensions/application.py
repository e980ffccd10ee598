"""Puts the server extension together: its services, its routes, and the managers of Jupyter Server that are ours."""

from __future__ import annotations

from functools import cached_property

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from traitlets.config import Config

from labwright.extensions.services import Services

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

        own = {"services": self.services}
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
    def services(self) -> Services:
        return Services()

    async def stop_extension(self) -> None:
        await self.services.close()


def serve_kernels_by_forks(config: Config) -> None:
    """Let every kernelspec that names no provisioner, above all `python3`, start as a fork where it can be one."""
    if "default_provisioner_name" not in config.KernelProvisionerFactory:
        config.KernelProvisionerFactory.default_provisioner_name = PROVISIONER
