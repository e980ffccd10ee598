"""What the status bar shows: profile, memory, cost and idle stop of this server, and budgets that near their end."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from labwright.api import names
from labwright.api.errors import LabwrightError
from labwright.extensions.activity import is_busy, last_activity
from labwright.extensions.handler import LabwrightHandler

CORE_SECONDS = 5.0
CGROUP = Path("/sys/fs/cgroup")


class StatusHandler(LabwrightHandler):
    """`{base_url}labwright/status`."""

    async def get(self) -> None:
        await self.execute(self.show())

    async def show(self) -> None:
        loop = asyncio.get_running_loop()
        used, limit = await loop.run_in_executor(None, memory, os.environ.get("MEM_LIMIT"))
        mine = await self.reservation()
        last_active = datetime.now(UTC) if is_busy(self.settings) else last_activity(self.application)
        idle = os.environ.get(names.IDLE_SECONDS, "")
        stops = last_active + timedelta(seconds=int(idle)) if idle.isdecimal() and int(idle) else None
        self.set_header("Cache-Control", "no-store")
        self.finish(
            {
                "profile": mine.get("profile") or os.environ.get(names.PROFILE),
                "profile_name": mine.get("profile_name"),
                "memory_used_bytes": used,
                "memory_limit_bytes": limit or mine.get("memory_bytes"),
                "cost": mine.get("cost"),
                "currency": mine.get("currency"),
                "price_per_hour": mine.get("price_per_hour"),
                "started": mine.get("started") or self.settings["started"].isoformat(),
                "idle_stops_at": stops.isoformat() if stops else None,
                "core_available": bool(mine),
                "budgets": mine.get("budgets", []),
            }
        )

    async def reservation(self) -> dict[str, Any]:
        """What the ledger holds for this server; empty while core cannot be asked."""
        try:
            me = await self.services.ask_core("/me", CORE_SECONDS)
        except LabwrightError:
            return {}
        return own_server(me, os.environ.get(names.PROFILE))


def own_server(me: dict[str, Any], profile: str | None) -> dict[str, Any]:
    """The newest reservation of a server with this profile, with the profile's name and size, and what budgets say."""
    servers = [held for held in me.get("running", []) if held["kind"] == "server"]
    fitting = [held for held in servers if profile is None or held.get("profile") == profile] or servers
    found: dict[str, Any] = {"currency": me.get("currency"), "budgets": budget_notices(me)}
    if fitting:
        held = max(fitting, key=lambda each: str(each["created"]))
        found |= {"cost": held["cost"], "price_per_hour": held["ask"]["price_per_hour"], "started": held["created"]}
        found |= {"profile": held.get("profile"), "memory_bytes": held["ask"]["memory_bytes"]}
    slug = found.get("profile") or profile
    for card in me.get("profiles", []):
        if card["slug"] == slug:
            found |= {"profile": slug, "profile_name": card["name"]}
            found.setdefault("memory_bytes", card["memory_bytes"])
            found.setdefault("price_per_hour", card["price_per_hour"])
    return found


def budget_notices(me: dict[str, Any]) -> list[dict[str, Any]]:
    """What there is to tell of the budgets that pay for this person's work."""
    return [quota["notice"] for quota in me.get("quotas", []) if quota.get("notice")]


def memory(limit: str | None) -> tuple[int, int | None]:
    """Bytes used by this server and all it started, and the bytes it may use where that is known."""
    allowed = int(limit) if limit and limit.isdecimal() and int(limit) else None
    group = own_cgroup()
    if group is not None:
        ceiling = (group / "memory.max").read_text().strip()
        if ceiling.isdecimal():  # a group of our own; without a limit it may hold the whole machine
            return cgroup_used(group), allowed or int(ceiling)
    return tree_memory(psutil.Process()), allowed


def own_cgroup() -> Path | None:
    """The cgroup (version 2) that this process is in, where it can be read."""
    try:
        line = Path("/proc/self/cgroup").read_text().strip().splitlines()[-1]
        group = CGROUP / line.split("::", 1)[1].lstrip("/")
        (group / "memory.max").read_text()
        (group / "memory.current").read_text()
    except (OSError, IndexError):
        return None
    return group


def cgroup_used(group: Path) -> int:
    """What would count against the limit: file pages that can be dropped do not."""
    current = int((group / "memory.current").read_text())
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return max(0, current - int(stat.get("inactive_file", 0)))


def tree_memory(root: psutil.Process) -> int:
    total = 0
    for process in (root, *root.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue  # it has just ended
    return total
