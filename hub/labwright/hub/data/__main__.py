"""Run the data service: python -m labwright.hub.data"""

from __future__ import annotations

import logging
from pathlib import Path

import uvicorn

from labwright.hub.data.app import create_app
from labwright.hub.settings import from_environment
from labwright.spawner.profiles import Workbench
from labwright.spawner.workbench import load


class WorkbenchFile:
    """The workbench file as last read without errors; read again when it changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._stat()
        self._workbench = load(path)

    def _stat(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size

    def __call__(self) -> Workbench:
        try:
            stamp = self._stat()
            if stamp != self._stamp:
                self._stamp = stamp
                self._workbench = load(self._path)
        except Exception as error:  # the admin is in the middle of an edit: keep what worked
            logging.getLogger("labwright.data").error("workbench.yaml is left as it was: %s", error)
        return self._workbench


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    settings = from_environment()
    app = create_app(settings, WorkbenchFile(settings.workbench_file))
    uvicorn.run(app, host="127.0.0.1", port=settings.data_port, access_log=False, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
