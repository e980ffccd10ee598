"""The worker processes as the service sees them: started at first use, started again when they die."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

from labwright.api.errors import LabwrightError, Unavailable
from labwright.hub.data.frames import FRAME
from labwright.hub.data.store import Definition

log = logging.getLogger("labwright.data")
BUFFER_BYTES = 4 * 1024 * 1024
CATALOG_SECONDS = 60.0
STOP_SECONDS = 5.0


class WorkerFailure(Exception):
    """What a worker answered instead of a result: kind, message, position, hint."""

    def __init__(self, failure: Mapping[str, Any]) -> None:
        super().__init__(str(failure.get("message")))
        self.kind = str(failure["kind"])
        self.position: int | None = failure.get("position")
        self.hint = str(failure.get("hint") or "")


class Exchange:
    """One request to a worker and the frames that come back. Closing it early cancels the request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def frames(self) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """(kind, payload) until the answer is complete; `WorkerFailure` for a failure."""
        while True:
            try:
                kind, length = FRAME.unpack(await self._reader.readexactly(FRAME.size))
                payload = await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                raise Unavailable("The connection's worker") from None
            if kind == b"E":
                raise WorkerFailure(json.loads(payload))
            yield kind, payload
            if kind in (b"J", b"Z"):
                return

    def close(self) -> None:
        self._writer.close()


class Worker:
    """The process of one source."""

    def __init__(self, definition: Definition, timeout_seconds: float) -> None:
        self.version = definition.version
        secret = definition.unlock()
        self._control, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with child:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "labwright.hub.data.worker", str(child.fileno())],
                pass_fds=[child.fileno()],
                stdin=subprocess.DEVNULL,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                cwd="/",
            )
        setup = {
            "driver": definition.driver,
            "options": dict(definition.options),
            "secret": secret,
            "timeout_seconds": timeout_seconds,
        }
        self._control.setblocking(False)
        self._control.send(json.dumps(setup).encode())

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    async def ask(self, request: Mapping[str, Any]) -> Exchange:
        """Send a request; `OSError` when the process is gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"q"], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=BUFFER_BYTES)
        body = json.dumps(request).encode()
        writer.write(struct.pack("!I", len(body)) + body)
        return Exchange(reader, writer)

    def close(self) -> None:
        """End it; it leaves by itself when the control socket closes."""
        self._control.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Catalog:
    """What a source has, as its worker told."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.tables: list[dict[str, Any]] = answer["tables"]
        self.functions: frozenset[str] = frozenset(answer["functions"])


class Workers:
    """All workers, by the connection's name. Lives on one event loop."""

    def __init__(self, timeout_seconds: float = 600.0) -> None:
        self.timeout_seconds = timeout_seconds
        self._workers: dict[str, Worker] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._catalogs: dict[str, tuple[float, str, Catalog]] = {}

    async def ask(self, definition: Definition, request: Mapping[str, Any]) -> Exchange:
        for _attempt in range(2):
            worker = await self._worker(definition)
            with suppress(OSError):
                return await worker.ask(request)
        raise Unavailable(f"The connection '{definition.name}'")

    async def _worker(self, definition: Definition) -> Worker:
        lock = self._locks.setdefault(definition.name, asyncio.Lock())
        async with lock:
            worker = self._workers.get(definition.name)
            if worker is not None and worker.alive() and worker.version == definition.version:
                return worker
            if worker is not None:
                log.info("the worker of %s is started again", definition.name)
                self._catalogs.pop(definition.name, None)
                await asyncio.to_thread(worker.close)
            worker = await asyncio.to_thread(Worker, definition, self.timeout_seconds)
            self._workers[definition.name] = worker
            return worker

    async def catalog(self, definition: Definition, *, fresh: bool = False) -> Catalog:
        """What the source has; at most `CATALOG_SECONDS` old, or asked for now."""
        now = asyncio.get_running_loop().time()
        known = self._catalogs.get(definition.name)
        if not fresh and known and known[1] == definition.version and now - known[0] < CATALOG_SECONDS:
            return known[2]
        exchange = await self.ask(definition, {"what": "catalog"})
        try:
            async with asyncio.timeout(60):
                async for _kind, payload in exchange.frames():
                    catalog = Catalog(json.loads(payload))
        except TimeoutError:
            raise Unavailable(f"The connection '{definition.name}'") from None
        except WorkerFailure as failure:
            raise unreachable(definition.name, failure) from None
        finally:
            exchange.close()
        self._catalogs[definition.name] = (now, definition.version, catalog)
        return catalog

    async def try_out(self, definition: Definition) -> Catalog:
        """Open a source in a process of its own that ends afterwards, to see whether it works."""
        trial = Workers(self.timeout_seconds)
        try:
            return await trial.catalog(definition)
        finally:
            await trial.close()

    async def forget(self, name: str) -> None:
        """End a connection's worker."""
        self._catalogs.pop(name, None)
        if (worker := self._workers.pop(name, None)) is not None:
            await asyncio.to_thread(worker.close)

    def pids(self) -> dict[str, int]:
        return {name: worker.pid for name, worker in self._workers.items() if worker.alive()}

    async def close(self) -> None:
        for name in list(self._workers):
            await self.forget(name)


def unreachable(name: str, failure: WorkerFailure) -> LabwrightError:
    """`Unavailable` with the source's own sentence, which has no credential in it."""
    error = Unavailable(f"The connection '{name}'", remedy="Try again in a few seconds, or tell your admin.")
    if failure.kind == "unreachable":
        error.details["reason"] = str(failure)
    return error
