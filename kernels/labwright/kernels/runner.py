"""The runner: leases one person's runs from core and executes them, one after the other (python -m …kernels.runner).

It runs under the person's own user, outlives restarts of core, ends when it has been idle for a while, and finishes
its run when it gets SIGTERM. Its tokens live in its memory; a kernel gets a token of its own, in a file.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from labwright.api import names
from labwright.api.errors import LabwrightError, NotAuthenticated
from labwright.api.runner import Lease
from labwright.kernels.attempt import Attempt
from labwright.kernels.errors import ForkServerError
from labwright.kernels.execution import NotebookEngine
from labwright.kernels.protocol import RunnerClient

if TYPE_CHECKING:
    from labwright.kernels.engine import ForkServerEngine

log = logging.getLogger("labwright.runner")
WAIT_SECONDS = 20.0
IDLE_SECONDS = 60.0
LONGEST_BACKOFF_SECONDS = 10.0
# Only a runner that was killed leaves its fork server to end by itself.
FORK_SERVER_IDLE_SECONDS = 30.0


@dataclass(frozen=True)
class RunnerSettings:
    core_url: str
    data_url: str
    tracking_url: str
    profile: str
    runner_id: str
    idle_seconds: float

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> RunnerSettings:
        return cls(
            core_url=environ[names.CORE_URL].rstrip("/"),
            data_url=environ.get(names.DATA_URL, "").rstrip("/"),
            tracking_url=environ.get("MLFLOW_TRACKING_URI", ""),
            profile=environ[names.PROFILE],
            runner_id=environ[names.RUNNER_ID],
            idle_seconds=float(environ.get("LABWRIGHT_RUNNER_IDLE_SECONDS", IDLE_SECONDS)),
        )


class Draining(BaseException):
    """Raised in the main thread by SIGTERM while the runner waits for work."""


class Runner:
    """Leases and executes until idle, drained or no longer known to core."""

    def __init__(self, settings: RunnerSettings, client: RunnerClient, engine: NotebookEngine) -> None:
        self._settings = settings
        self._client = client
        self._engine = engine
        self._draining = False
        self._waiting = False

    def drain(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Finish the run at hand, take no other."""
        self._draining = True
        if self._waiting:
            raise Draining

    def work(self) -> None:
        """Until there is nothing to do for `idle_seconds`. The last words to core are a courtesy."""
        try:
            self._serve()
        except Draining:
            log.info("drained")
        try:
            self._client.leave(self._settings.runner_id)
        except LabwrightError as error:
            log.info("core was not told of the end: %s", error)

    def _serve(self) -> None:
        idle_since = time.monotonic()
        backoff = 0.2
        while not self._draining:
            left = self._settings.idle_seconds - (time.monotonic() - idle_since)
            if left <= 0:
                return
            try:
                lease = self._lease(min(WAIT_SECONDS, left))
            except NotAuthenticated:
                log.warning("core no longer knows this runner's token")
                return
            except LabwrightError as error:
                # Core restarts: that is not idleness, and no reason to go.
                log.info("core does not answer: %s", error)
                threading.Event().wait(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
                continue
            backoff = 0.2
            if lease is None:
                continue
            Attempt(lease, self._client, self._engine, self.kernel_environment()).execute()
            idle_since = time.monotonic()

    def _lease(self, wait_seconds: float) -> Lease | None:
        self._waiting = True
        try:
            return self._client.lease(self._settings.runner_id, self._settings.profile, wait_seconds)
        finally:
            self._waiting = False

    def kernel_environment(self) -> dict[str, str]:
        """What every kernel gets: the person's surroundings and where the services are, nothing of the runner's."""
        kept = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR")
        found = {name: value for name, value in os.environ.items() if name in kept or name.startswith("DASK_GATEWAY__")}
        path = os.environ.get("PATH", os.defpath)
        here = os.path.join(sys.prefix, "bin")  # noqa: PTH118 - a search path entry
        settings = self._settings
        return {
            **found,
            "PATH": path if path.split(":")[0] == here else f"{here}:{path}",
            names.CORE_URL: settings.core_url,
            names.DATA_URL: settings.data_url,
            "MLFLOW_TRACKING_URI": settings.tracking_url,
            **names.LIBRARY_DEFAULTS,
            names.PROFILE: settings.profile,
        }


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Taken out of the environment, so that no child of ours inherits it.
    token = os.environ.pop(names.RUNNER_TOKEN, "")
    settings = RunnerSettings.from_environment(os.environ)
    client = RunnerClient(settings.core_url, token)
    engine = fork_server_engine()
    runner = Runner(settings, client, engine)
    signal.signal(signal.SIGTERM, runner.drain)
    signal.signal(signal.SIGINT, runner.drain)
    # While the first lease is on its way.
    threading.Thread(target=warm_up, args=(engine, runner.kernel_environment()), daemon=True).start()
    try:
        runner.work()
    finally:
        # Not `stop`: outside of a launch another runner of the person may share the server.
        engine.server.close()


def warm_up(engine: ForkServerEngine, env: Mapping[str, str]) -> None:
    try:
        engine.server.warm(env, frozenset())
    except ForkServerError as error:
        log.warning("runs start without a fork server: %s", error)


def fork_server_engine() -> ForkServerEngine:
    """On the fork server of this launch, which shares the runner's limits and does not outlive it."""
    # Imported here: papermill takes half a second, and what reads this module's settings does not need it.
    from labwright.kernels.client import ForkServer
    from labwright.kernels.engine import ForkServerEngine

    return ForkServerEngine(ForkServer(idle_seconds=FORK_SERVER_IDLE_SECONDS, shows_output=False))


if __name__ == "__main__":
    main()
