"""The proxy's process: the routes of configurable-http-proxy, and our own forwarding (docs/decisions/0010)."""

from __future__ import annotations

import asyncio
import logging

from tornado.httpserver import HTTPServer

from labwright.hub.settings import Settings, from_environment


async def serve(settings: Settings) -> None:
    from configurable_http_proxy.configproxy import PythonProxy

    from labwright.hub.forwarding import ANY_SIZE, PIECE_BYTES, Forwarder

    hub = f"http://127.0.0.1:{settings.hub_port}"
    token = (settings.hub_folder / "proxy.token").read_text().strip()  # a file: it shows in no environment
    # Until the hub has given its routes everything is the hub's.
    routes = PythonProxy({"default_target": hub, "auth_token": token, "log": logging.getLogger("labwright.proxy")})
    public = HTTPServer(Forwarder(routes, f"{hub}/hub/error"), max_body_size=ANY_SIZE, chunk_size=PIECE_BYTES)
    public.listen(settings.port, "127.0.0.1")
    HTTPServer(routes.api_app).listen(settings.proxy_api_port, "127.0.0.1")
    await asyncio.Event().wait()


def main() -> None:
    logging.getLogger("labwright").setLevel(logging.WARNING)  # configurable_http_proxy sets the format
    asyncio.run(serve(from_environment()))


if __name__ == "__main__":
    main()
