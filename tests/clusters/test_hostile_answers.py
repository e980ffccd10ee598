"""A cluster's dashboard is a process of its owner's: whatever it answers, core goes on, and soon."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from labwright.hub import untrusted
from labwright.hub.clusters.dask import DaskEngine
from labwright.hub.clusters.spark import SparkEngine
from labwright.hub.tokens import Signer, create_signing_key, load_private_key
from labwright.hub.untrusted import NoAnswer, ask_json

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DEADLINE_SECONDS = 30.0


@asynccontextmanager
async def server_that(answer: Any) -> AsyncIterator[str]:
    """A loopback server that gives each connection to `answer(writer)`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def drips(writer: asyncio.StreamWriter) -> None:
    """Never silent for long enough to time out a read, and never at its end."""
    writer.write(HEAD + b"\r\n[")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def never_ends(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"\r\n[")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


def says(body: bytes, head: bytes = b"") -> Any:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + head + b"Connection: close\r\n\r\n" + body)
        await writer.drain()

    return answer


BOMB = gzip.compress(b" " * (64 << 20))
HOSTILE = {
    "drips": drips,
    "endless": never_ends,
    "bomb": says(BOMB, b"Content-Encoding: gzip\r\n"),
    "no json": says(b"<html>"),
    "no text": says(b"\xff\xfe\x00"),
    "deep": says(b"[" * 100_000),
    "a number": says(b"7"),
    "a list of numbers": says(b"[1, 2]"),
    "odd names": says(b'[{"id": {"a": 1}}]'),
    "null": says(b"null"),
}


@pytest.fixture
def core(tmp_path: Path) -> Any:
    create_signing_key(tmp_path / "key", tmp_path / "pub")
    return SimpleNamespace(
        signer=Signer(load_private_key(tmp_path / "key")), settings=SimpleNamespace(gateway_api_port=1)
    )


@pytest.mark.parametrize("kind", HOSTILE)
async def test_both_engines_take_any_answer_for_none(core: Any, kind: str) -> None:
    started = time.monotonic()
    async with server_that(HOSTILE[kind]) as url, httpx.AsyncClient(trust_env=False) as core.http:
        report = {"dashboard_address": url, "dashboard_token": "x"}
        assert await DaskEngine(core)._counts(report) == {}
        cluster: Any = SimpleNamespace(id="c", dashboard=url, activity="before")
        assert await SparkEngine(core)._activity(cluster) == (False, "before")
    assert time.monotonic() - started < DEADLINE_SECONDS


async def test_what_is_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "MOST_BYTES", 10)
    async with httpx.AsyncClient(trust_env=False) as client:
        async with server_that(says(b"[" + b" " * 8 + b"]")) as url:
            assert await ask_json(client, url, {}, seconds=5.0) == []
        async with server_that(says(b"[" + b" " * 9 + b"]")) as url:
            with pytest.raises(NoAnswer, match="more than is read"):
                await ask_json(client, url, {}, seconds=5.0)
