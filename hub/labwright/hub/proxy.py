"""The proxy's process: the routes of configurable-http-proxy, and our own forwarding (docs/decisions/0010)."""

from __future__ import annotations

import asyncio
import logging
import os
from urllib.parse import unquote

from tornado.httpserver import HTTPServer

from labwright.hub.settings import Settings, from_environment
from labwright.spawner import listeners
from labwright.spawner.accounts import account_number

log = logging.getLogger("labwright.proxy")
BACKLOG = 128
NOBODY = -1


def account_of_route(prefix: str) -> int | None:
    """The number of the account that must answer below `prefix`; None where the launcher holds the port anyway."""
    if not prefix.startswith("/user/"):
        return None
    number = account_number(unquote(prefix.split("/")[2]))
    return NOBODY if number is None else number


async def serve(settings: Settings) -> None:
    from configurable_http_proxy.configproxy import PythonProxy

    from labwright.hub.forwarding import ANY_SIZE, PIECE_BYTES, Forwarder

    hub = f"http://127.0.0.1:{settings.hub_port}"
    token = (settings.hub_folder / "proxy.token").read_text().strip()  # a file: it shows in no environment
    # Until the hub has given its routes everything is the hub's.
    routes = PythonProxy({"default_target": hub, "auth_token": token, "log": logging.getLogger("labwright.proxy")})
    forwarder = Forwarder(routes, f"{hub}/hub/error")
    for server, port in (
        (HTTPServer(forwarder, max_body_size=ANY_SIZE, chunk_size=PIECE_BYTES), settings.port),
        (HTTPServer(routes.api_app), settings.proxy_api_port),
    ):
        listener = listeners.bind(port, held=settings.by_user)
        listener.listen(BACKLOG)
        server.add_socket(listener)
    if settings.by_user:
        if listeners.owner(settings.port) == os.getuid():
            forwarder.account = account_of_route
        else:
            log.warning("the kernel does not tell who listens (tcp_diag): people's ports are not checked")
    await asyncio.Event().wait()


def main() -> None:
    logging.getLogger("labwright").setLevel(logging.WARNING)  # configurable_http_proxy sets the format
    asyncio.run(serve(from_environment()))


if __name__ == "__main__":
    main()
