"""The core service: `python -m labwright.hub.core`."""

from __future__ import annotations

import logging

import uvicorn

from labwright.hub.core.app import AREAS, build_core, create_app
from labwright.hub.settings import from_environment
from labwright.hub.usage.ledger import SqlLedger
from labwright.spawner.local import LocalLauncher
from labwright.spawner.workbench import WatchedWorkbench

log = logging.getLogger("labwright.core")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = from_environment()
    workbench = WatchedWorkbench(settings.workbench_file, lambda problem: log.error("%s", problem))
    core = build_core(
        settings,
        ledger=SqlLedger(workbench),
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
