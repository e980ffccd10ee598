"""What the server tells kernels and of kernels: at once, where they were started, and why they died."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from jupyter_client.jsonutil import json_default
from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.sessions.sessionmanager import SessionManager

from labwright.api import names
from labwright.api.errors import NotFound
from labwright.extensions.handler import LabwrightHandler


class PromptConnection(ZMQChannelsWebsocketConnection):
    """A kernel's websocket that sends each message at once.

    Nagle's algorithm holds small messages back until the browser's delayed acknowledgement: 48 ms a cell instead of 7.
    """

    _last_ask: str | bytes = b""

    def connect(self) -> Any:
        self.websocket_handler.set_nodelay(True)
        return super().connect()

    def handle_incoming_message(self, incoming_msg: Any) -> None:  # text or bytes
        mark: Any = b"execute_request" if isinstance(incoming_msg, bytes) else "execute_request"
        if mark in incoming_msg:
            self._last_ask = incoming_msg
        super().handle_incoming_message(incoming_msg)

    def on_kernel_restarted(self) -> None:
        self._tell_death()
        super().on_kernel_restarted()  # type: ignore[no-untyped-call]

    def on_restart_failed(self) -> None:
        self._tell_death()
        super().on_restart_failed()  # type: ignore[no-untyped-call]

    def _tell_death(self) -> None:
        """Says below the cell why its kernel is gone: Lab says only that it died."""
        if death := why_it_died(self.kernel_manager):
            self._tell(f"{death}\n")

    def _tell(self, text: str) -> None:
        asked = self._last_header()
        message = self.session.msg("stream", {"name": "stderr", "text": text}, parent=asked)
        if self.subprotocol == "v1.kernel.websocket.jupyter.org":
            self.write_message(serialize_msg_to_ws_v1(message, "iopub", self.session.pack), binary=True)  # type: ignore[no-untyped-call]
        else:
            message["channel"] = "iopub"
            self.write_message(json.dumps(message, default=json_default))

    def _last_header(self) -> dict[str, Any] | None:
        """Of the cell that ran: what is told without it shows nowhere."""
        if not self._last_ask:
            return None
        if self.subprotocol == "v1.kernel.websocket.jupyter.org":
            _channel, parts = deserialize_msg_from_ws_v1(self._last_ask)  # type: ignore[no-untyped-call]
            return {"header": self.session.unpack(parts[0])}
        if isinstance(self._last_ask, bytes):
            return {"header": deserialize_binary_message(self._last_ask)["header"]}  # type: ignore[no-untyped-call]
        return {"header": json.loads(self._last_ask)["header"]}


def why_it_died(kernel_manager: Any) -> str | None:
    """Why the kernel last ended without being stopped, as its provisioner found."""
    return getattr(kernel_manager.provisioner, "death", None)


class DeathHandler(LabwrightHandler):
    """`{base_url}labwright/kernels/<id>/death`."""

    async def get(self, kernel: str) -> None:
        await self.execute(self.show(kernel))

    async def show(self, kernel: str) -> None:
        if kernel not in self.kernel_manager:
            raise NotFound("kernel", kernel)
        self.set_header("Cache-Control", "no-store")
        self.finish({"reason": why_it_died(self.kernel_manager.get_kernel(kernel))})


class NotebookSessionManager(SessionManager):
    """Tells each kernel which notebook it was started for: queries and runs record where they came from."""

    def get_kernel_env(self, path: str | None, name: Any | None = None) -> dict[str, str]:
        env: dict[str, str] = super().get_kernel_env(path, name)
        if path and path.endswith(".ipynb"):
            env[names.NOTEBOOK] = below_home(Path(env["JPY_SESSION_NAME"]), path)
        return env


def below_home(file: Path, path: str) -> str:
    """The notebook's path relative to its owner's home, or below Lab's root where that lies elsewhere."""
    full = os.path.normpath(file)
    home = os.path.normpath(Path.home())
    return os.path.relpath(full, home) if file.is_absolute() and full.startswith(home + os.sep) else path
