"""Answers as a person's server does when the hub looks whether it is up: `python -m tests.kube.any_server PORT`.

A process of its own, so that it takes nothing from the one that measures.
"""

from __future__ import annotations

import asyncio
import json
import sys

import jupyterhub

BODY = json.dumps({"version": jupyterhub.__version__})
ANSWER = (
    f"HTTP/1.1 200 OK\r\nX-JupyterHub-Version: {jupyterhub.__version__}\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n{BODY}"
).encode()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        writer.write(ANSWER)
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        pass  # who asked has gone
    finally:
        writer.close()


async def serve(port: int) -> None:
    server = await asyncio.start_server(answer, "0.0.0.0", port, backlog=1024)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
