"""The sockets that services listen on."""

from __future__ import annotations

import asyncio
import socket

from labwright.spawner import listeners


async def test_answers_leave_without_waiting_for_more() -> None:
    """Nagle's algorithm would hold back an answer's body until its head is acknowledged: 40 ms for each request."""
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()
        await writer.wait_closed()

    listening = listeners.bind(0, held=False)
    async with await asyncio.start_server(serve, sock=listening):
        _reader, writer = await asyncio.open_connection(*listening.getsockname())
        assert await asyncio.wait_for(told, 10) == 1
        writer.close()
        await writer.wait_closed()
