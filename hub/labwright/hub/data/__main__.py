"""Run the data service: python -m labwright.hub.data"""

from __future__ import annotations

import logging

import uvicorn

from labwright.hub.data.app import create_app
from labwright.hub.settings import from_environment
from labwright.spawner import listeners
from labwright.spawner.workbench import WatchedWorkbench

log = logging.getLogger("labwright.data")


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    settings = from_environment()
    app = create_app(
        settings, WatchedWorkbench(settings.workbench_file, lambda problem: log.error("%s", problem.sentence()))
    )
    config = uvicorn.Config(app, access_log=False, timeout_graceful_shutdown=5)
    uvicorn.Server(config).run([listeners.bind(settings.data_port, held=settings.by_user)])


if __name__ == "__main__":
    main()
