"""The handlers that forward to core and data with the person's token, streaming both ways.

In front of each stand Jupyter's own authentication, authorisation and XSRF check. Only listed headers pass, so no
cookie leaves and none comes back; a redirect is never followed. Nothing here counts as activity of the person: an
open panel must not keep an idle server alive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tornado import web
from tornado.iostream import StreamClosedError

from labwright.api.errors import Unavailable
from labwright.extensions.handler import LabwrightHandler
from labwright.extensions.paths import REQUEST_HEADERS, RESPONSE_HEADERS, is_interface, moved, safe_path

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("labwright")


@web.stream_request_body
class DoorHandler(LabwrightHandler):
    """`{base_url}labwright/{core,data,mlflow}/<path>` and the dashboards of clusters."""

    _task: asyncio.Task[None] | None = None

    async def prepare(self) -> None:  # type: ignore[override]
        self._body: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=4)
        await super().prepare()
        # The body is read after this returns, so forwarding starts here and takes the body as it comes.
        self._task = asyncio.create_task(self.execute(self.forward()))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        if self._task is None:  # refused with the body unread, after which tornado closes the connection
            self.set_header("Connection", "close")
        super().write_error(status_code, **kwargs)

    async def data_received(self, chunk: bytes) -> None:
        assert self._task is not None
        put = asyncio.ensure_future(self._body.put(chunk))
        # When the service has already answered nobody reads the queue any more; the rest is dropped.
        await asyncio.wait({put, self._task}, return_when=asyncio.FIRST_COMPLETED)
        put.cancel()

    async def answer(self, *_path: str) -> None:
        assert self._task is not None
        put = asyncio.ensure_future(self._body.put(None))
        await asyncio.wait({put, self._task}, return_when=asyncio.FIRST_COMPLETED)
        put.cancel()
        try:
            await self._task
        except StreamClosedError:
            pass
        except asyncio.CancelledError:
            if not self._task.cancelled():
                raise

    get = head = post = put = patch = delete = answer

    def on_connection_close(self) -> None:
        """The browser went away: let go of the service too."""
        super().on_connection_close()
        if self._task is not None:
            self._task.cancel()

    def target(self) -> tuple[str, str, str]:
        """The service's address, the prefix there, and the path below it (percent-coded as it came)."""
        ours = f"{self.base_url}labwright/"
        below = self.request.path[len(ours) :]
        part, _, path = below.partition("/")
        if part == "clusters":
            cluster, _, path = path.partition("/")
            path = path.partition("/")[2]
            return *self.services.upstream(part, safe_path(cluster)), safe_path(path)
        return *self.services.upstream(part), safe_path(path)

    async def forward(self) -> None:
        base, prefix, path = self.target()
        address = f"{base}{prefix}/{path}" + (f"?{self.request.query}" if self.request.query else "")
        request = self.services.client.build_request(
            self.request.method or "GET", address, headers=self.outgoing_headers(), content=self.outgoing_body()
        )
        import httpx

        try:
            response = await self.services.client.send(request, stream=True)
        except httpx.TransportError:
            raise Unavailable(service_name(self.part)) from None
        try:
            self.begin(response, base, prefix, path)
            await self.relay(response)
        finally:
            await response.aclose()

    def outgoing_headers(self) -> dict[str, str]:
        found = {name: self.request.headers[name] for name in REQUEST_HEADERS if name in self.request.headers}
        found.setdefault("Accept-Encoding", "identity")
        if self.part == "clusters":
            # Under which path the browser sees the dashboard: Spark's writes it into its pages.
            cluster = self.request.path[len(f"{self.base_url}labwright/clusters/") :].partition("/")[0]
            found["X-Forwarded-Context"] = f"{self.base_url}labwright/clusters/{cluster}/dashboard"
        return {**found, "Authorization": f"Bearer {self.services.endpoints.bearer()}"}

    def outgoing_body(self) -> AsyncIterator[bytes] | None:
        headers = self.request.headers
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            return None
        return self.chunks()

    async def chunks(self) -> AsyncIterator[bytes]:
        while (chunk := await self._body.get()) is not None:
            yield chunk

    def begin(self, response: httpx.Response, base: str, prefix: str, path: str) -> None:
        """Status and headers, before the first byte of the body."""
        location = self.leads_to(response, base, prefix, path) if response.is_redirect else None
        self.set_status(response.status_code)
        self.clear_header("Content-Type")
        for name in RESPONSE_HEADERS:
            if name in response.headers:
                self.set_header(name, response.headers[name])
        self.set_header("X-Content-Type-Options", "nosniff")
        if location is not None:
            self.set_header("Location", location)
        if self.part == "mlflow" and is_interface(path):
            self.open_interface()
        elif self.part == "clusters":
            self.set_header("Content-Security-Policy", "frame-ancestors 'self'")

    def leads_to(self, response: httpx.Response, base: str, prefix: str, path: str) -> str:
        """Where a redirect leads through this door; one that leads out of the service is refused."""
        ours = self.request.path[: len(self.request.path) - len(path)].rstrip("/")
        location = moved(response.headers.get("Location", ""), base, urlsplit(base).path + prefix, ours)
        if location is None:
            raise Unavailable(service_name(self.part), remedy="It answered with an address outside itself.")
        return location

    def open_interface(self) -> None:
        """Let MLflow's own pages work behind Jupyter's XSRF check.

        Its client turns cookies named mlflow-request-header-* into headers of each call.
        """
        self.set_header("Content-Security-Policy", "frame-ancestors 'self'")
        token = self.xsrf_token.decode()
        self.set_cookie("mlflow-request-header-X-XSRFToken", token, path=f"{self.base_url}labwright/mlflow")

    async def relay(self, response: httpx.Response) -> None:
        """The body as it arrives, undecoded; each piece waits until the browser has taken the one before."""
        import httpx

        await self.flush()
        try:
            async for chunk in response.aiter_raw():
                self.write(chunk)
                await self.flush()
        except httpx.TransportError:
            # Too late for a status. Cutting the connection tells the browser that this was not all.
            log.warning("%s broke off in the middle of an answer", service_name(self.part))
            if self.request.connection is not None:
                self.request.connection.stream.close()  # type: ignore[attr-defined]
            return
        await self.finish()


def service_name(part: str) -> str:
    return {
        "core": "The core service",
        "data": "The data service",
        "mlflow": "MLflow",
        "clusters": "The cluster's dashboard",
    }.get(part, "The service")
