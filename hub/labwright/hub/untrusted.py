"""Questions to processes that run a person's code. They may answer anything, endlessly or never to the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx

MOST_BYTES = 1 << 20


class NoAnswer(Exception):
    """Nothing came that can be used: no connection, too late, too large, no JSON."""


async def ask_json(client: httpx.AsyncClient, url: str, headers: Mapping[str, str], *, seconds: float) -> Any:
    """What a GET answers with 200, read in `seconds` altogether and of at most `MOST_BYTES`; else `NoAnswer`."""
    body = bytearray()
    plain = {**headers, "Accept-Encoding": "identity"}  # and read raw: a compressed megabyte may be a gigabyte
    try:
        async with asyncio.timeout(seconds), client.stream("GET", url, headers=plain) as answer:
            if answer.status_code != 200:
                raise NoAnswer(f"status {answer.status_code}")
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > MOST_BYTES:
                    raise NoAnswer("more than is read")
        return json.loads(body)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, RecursionError) as error:
        raise NoAnswer(type(error).__name__) from None
