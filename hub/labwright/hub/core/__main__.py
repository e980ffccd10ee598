"""The core service: `python -m labwright.hub.core`."""

from __future__ import annotations

import logging
from collections.abc import Callable

import uvicorn

from labwright.hub.core.app import AREAS, build_core, create_app
from labwright.hub.settings import Settings, from_environment
from labwright.hub.usage.ledger import SqlLedger
from labwright.spawner import listeners
from labwright.spawner.gpus import count_gpus
from labwright.spawner.local import LocalLauncher
from labwright.spawner.profiles import Workbench
from labwright.spawner.workbench import WatchedWorkbench

log = logging.getLogger("labwright.core")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = from_environment()
    workbench = WatchedWorkbench(settings.workbench_file, lambda problem: log.error("%s", problem))
    core = build_core(
        settings,
        ledger=ledger_of(settings, workbench, gpus=count_gpus()),
        launcher=LocalLauncher(settings.launcher_socket),
        workbench=workbench,
    )
    config = uvicorn.Config(
        create_app(core, AREAS),
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=3,  # event streams never end by themselves
    )
    uvicorn.Server(config).run([listeners.bind(settings.core_port, held=settings.by_user)])


def ledger_of(settings: Settings, workbench: Callable[[], Workbench], *, gpus: int) -> SqlLedger:
    """The ledger of a core on a machine with so many GPUs."""
    return SqlLedger(workbench, gpus=gpus, servers_here=settings.spawner == "local")


if __name__ == "__main__":
    main()
