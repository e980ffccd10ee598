"""The embedded `Launcher`: asks the launcher process over its Unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labwright.api.errors import Unavailable, from_problem
from labwright.spawner.launcher import Launched, Limits, Principal, Status

DEADLINE_SECONDS = 30.0


class LocalLauncher:
    """Implements `labwright.spawner.launcher.Launcher`. Holds no connection; any event loop may use it."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def prepare(self, principal: Principal) -> Path:
        return Path((await self._ask({"op": "prepare", "principal": principal.name}))["home"])

    async def launch(
        self,
        principal: Principal,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        limits: Limits,
        cwd: Path | None = None,
        name: str,
        log: Path | None = None,
    ) -> Launched:
        ask = {
            "op": "launch",
            "principal": principal.name,
            "argv": [str(part) for part in argv],
            "env": dict(env),
            "limits": asdict(limits),
            "cwd": str(cwd) if cwd else None,
            "name": name,
            "log": str(log) if log else None,
        }
        return Launched(**await self._ask(ask))

    async def status(self, id: str) -> Status:
        return Status(**await self._ask({"op": "status", "id": id}))

    async def signal(self, id: str, number: int) -> None:
        await self._ask({"op": "signal", "id": id, "number": number})

    async def stop(self, id: str, *, grace_seconds: float = 10.0) -> Status:
        ask = {"op": "stop", "id": id, "grace_seconds": grace_seconds}
        return Status(**await self._ask(ask, DEADLINE_SECONDS + grace_seconds))

    async def running(self) -> list[dict[str, Any]]:
        """Every living process: id, principal, name, pid."""
        processes: list[dict[str, Any]] = (await self._ask({"op": "list"}))["processes"]
        return processes

    async def controllers(self) -> list[str]:
        """What control groups limit for a launch with its children together: cpu, memory, pids, or nothing."""
        controllers: list[str] = (await self._ask({"op": "controllers"}))["controllers"]
        return controllers

    async def stop_all(self, *, grace_seconds: float = 5.0) -> int:
        """End every person's processes; how many there were."""
        reply = await self._ask({"op": "stop_all", "grace_seconds": grace_seconds}, DEADLINE_SECONDS + grace_seconds)
        return int(reply["stopped"])

    async def _ask(self, ask: dict[str, Any], deadline_seconds: float = DEADLINE_SECONDS) -> dict[str, Any]:
        try:
            async with asyncio.timeout(deadline_seconds):
                reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=1 << 22)
                try:
                    writer.write(json.dumps(ask).encode() + b"\n")
                    await writer.drain()
                    line = await reader.readline()
                finally:
                    writer.close()
            reply = json.loads(line)
        except (OSError, TimeoutError, ValueError):
            raise Unavailable("The launcher") from None
        if "error" in reply:
            raise from_problem(reply["error"], int(reply["error"].get("status", 500)))
        answer: dict[str, Any] = reply["ok"]
        return answer
