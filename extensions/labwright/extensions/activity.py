"""When this person's server last did something for somebody, and whether it still does: what the idle stop asks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psutil

from labwright.extensions.handler import LabwrightHandler


class ActivityHandler(LabwrightHandler):
    """`{base_url}labwright/activity`: Jupyter's own last activity; asking is none."""

    async def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish({"last_activity": last_activity(self.application).isoformat(), "busy": is_busy(self.settings)})


def last_activity(application: Any) -> datetime:
    found: datetime = application.last_activity()
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def is_busy(settings: Mapping[str, Any]) -> bool:
    """Whether a kernel executes, or something runs in a terminal besides its shell."""
    kernels = settings["kernel_manager"]
    if any(getattr(kernels.get_kernel(id), "execution_state", "") == "busy" for id in kernels.list_kernel_ids()):
        return True
    terminals = settings.get("terminal_manager")
    return terminals is not None and any(has_children(each.ptyproc.pid) for each in terminals.terminals.values())


def has_children(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).children())
    except psutil.Error:
        return False  # it has just ended
