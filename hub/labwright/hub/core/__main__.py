"""The core service: `python -m labwright.hub.core`."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any, cast

import uvicorn

from labwright.api.errors import Unavailable
from labwright.hub.core.app import AREAS, build_core, create_app
from labwright.hub.core.context import Ledger
from labwright.hub.settings import from_environment
from labwright.spawner.local import LocalLauncher
from labwright.spawner.profiles import Workbench
from labwright.spawner.workbench import WatchedWorkbench

log = logging.getLogger("labwright.core")


class NoLedger:
    """Refuses everything, while there is no ledger in this checkout."""

    def __getattr__(self, name: str) -> Any:
        raise Unavailable("The ledger", remedy="This version of core has none.")


def make_ledger(workbench: Callable[[], Workbench]) -> Ledger:
    try:
        module = importlib.import_module("labwright.hub.usage.ledger")
    except ModuleNotFoundError:
        log.warning("there is no ledger: nothing is metered")
        return cast(Ledger, NoLedger())
    return cast(Ledger, module.SqlLedger(workbench))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = from_environment()
    workbench = WatchedWorkbench(settings.workbench_file, lambda problem: log.error("%s", problem))
    core = build_core(
        settings,
        ledger=make_ledger(workbench),
        launcher=LocalLauncher(settings.launcher_socket),
        workbench=workbench,
    )
    uvicorn.run(
        create_app(core, AREAS),
        host="127.0.0.1",
        port=settings.core_port,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=3,  # event streams never end by themselves
    )


if __name__ == "__main__":
    main()
