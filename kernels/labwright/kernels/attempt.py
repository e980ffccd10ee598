"""One attempt of one run: its folder and token file, its heartbeat, its frames, its commit.

Three threads share it: the caller executes, one beats and sends frames. Once core says that the attempt is over
(`stale`), the kernel is stopped and nothing more is sent.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from labwright.api import names
from labwright.api.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    LabwrightError,
    NotAuthenticated,
    NotFound,
    TooLarge,
)
from labwright.api.runner import Lease
from labwright.kernels.execution import CellProgress, Execution, NotebookEngine, Outcome, parameterise
from labwright.kernels.outputs import capped
from labwright.kernels.protocol import RunnerClient

log = logging.getLogger("labwright.runner")
FRAME_SECONDS = 0.25  # how long changes are gathered before they are sent
COMMIT_SECONDS = 15 * 60  # as long as the attempt's token can live
OVER = (Conflict, Forbidden, NotAuthenticated, NotFound)  # answers after which nothing of the attempt is wanted


class Attempt:
    """Executes a lease and says how it went."""

    def __init__(
        self, lease: Lease, client: RunnerClient, engine: NotebookEngine, environment: Mapping[str, str]
    ) -> None:
        self._lease = lease
        self._client = client
        self._engine = engine
        self._environment = environment
        self._token = lease.token
        self._cancelled = threading.Event()
        self._finished = threading.Event()
        self._frames: dict[int, dict[str, Any]] = {}
        self._frames_lock = threading.Lock()
        self._current: CellProgress | None = None
        self._done = 0
        self._total = 0
        self.stale = False

    def execute(self) -> None:
        """Run to the end and commit. Raises nothing that a notebook could cause."""
        folder = private_folder()
        beat = threading.Thread(target=self._beat, args=(folder / "token",), name="heartbeat", daemon=True)
        try:
            write_token(folder / "token", self._lease.run_token)
            beat.start()
            outcome = self._outcome(folder)
            self._finished.set()
            beat.join()
            if not self.stale:
                self._commit(outcome, folder / "output.ipynb")
        finally:
            self._finished.set()
            shutil.rmtree(folder, ignore_errors=True)

    def _outcome(self, folder: Path) -> Outcome:
        source = nbformat.from_dict(self._lease.notebook)  # type: ignore[no-untyped-call]
        home = Path(self._environment.get("HOME") or Path.home())
        cwd = (home / self._lease.notebook_path).parent
        if not cwd.is_dir():
            gone = (
                f"The folder of the notebook, {cwd}, is not there; save the notebook in your home and submit it again."
            )
            return Outcome("died", None, gone)
        try:
            notebook = prepared(source, self._lease.parameters, self._lease.dates)
            self._announce(notebook)
            return self._engine.execute(
                Execution(
                    notebook=notebook,
                    output_path=folder / "output.ipynb",
                    cwd=cwd,
                    env=self._kernel_environment(folder / "token"),
                    timeout_seconds=self._lease.timeout_seconds,
                ),
                on_cell=self._on_cell,
                cancelled=self._cancelled,
            )
        except OSError as error:
            return Outcome("died", None, f"The runner could not write its files: {error.strerror}. Free some space.")
        except Exception as error:  # an engine's own failure ends the run, not the runner
            log.exception("the engine failed")
            return Outcome("died", None, f"The notebook could not be executed ({type(error).__name__}); see the log.")

    def _kernel_environment(self, token_file: Path) -> dict[str, str]:
        return {
            **self._environment,
            names.TOKEN_FILE: str(token_file),
            names.RUN_ID: self._lease.run_id,
            names.NOTEBOOK: self._lease.notebook_path,
        }

    # What is shown while it runs

    def _announce(self, notebook: NotebookNode) -> None:
        bare = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]
        for cell in bare.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        self._total = sum(cell.cell_type == "code" for cell in bare.cells)
        with self._frames_lock:
            self._frames[-1] = {"index": 0, "notebook": bare, "finished": 0, "total": self._total}

    def _on_cell(self, progress: CellProgress) -> None:
        if progress.cell.cell_type != "code":
            return
        if progress.phase == "finished":
            self._done += 1
        with self._frames_lock:
            self._frames[progress.index] = self._frame(progress)
            self._current = progress if progress.phase == "started" else None

    def _frame(self, progress: CellProgress) -> dict[str, Any]:
        return {
            "index": progress.index,
            # A copy: the engine goes on writing into the cell while this waits to be sent.
            "cell": json.loads(json.dumps(capped(progress.cell))),
            "finished": self._done,
            "total": self._total,
        }

    def _look_into_cell(self) -> None:
        """The outputs so far of the cell that is running; it changes under our hands, so a look may fail."""
        with self._frames_lock:
            if self._current is not None:
                try:
                    self._frames[self._current.index] = self._frame(self._current)
                except RuntimeError:
                    log.debug("the cell changed while it was read")

    # The thread that speaks to core

    def _beat(self, token_file: Path) -> None:
        next_beat = 0.0
        while True:
            ended = self._finished.wait(FRAME_SECONDS)
            try:
                if time.monotonic() >= next_beat and not ended:
                    self._heartbeat(token_file)
                    self._look_into_cell()
                    next_beat = time.monotonic() + self._lease.heartbeat_seconds
                self._send_frames()
            except OVER as error:
                log.warning("run %s is over for this runner: %s", self._lease.run_id, error)
                self.stale = True
                self._cancelled.set()
                return
            except LabwrightError as error:
                log.info("core does not answer: %s", error)
                next_beat = time.monotonic() + 1.0
            except OSError as error:
                log.warning("the token file could not be renewed: %s", error)
            if ended:
                return

    def _heartbeat(self, token_file: Path) -> None:
        answer = self._client.heartbeat(self._lease.run_id, self._token)
        self._token = answer.token
        write_token(token_file, answer.run_token)
        if answer.cancel:
            self._cancelled.set()

    def _send_frames(self) -> None:
        with self._frames_lock:
            sent = dict(sorted(self._frames.items()))
        if not sent:
            return
        try:
            self._client.frames(self._lease.run_id, self._token, list(sent.values()))
        except (InvalidRequest, TooLarge) as error:
            log.warning("core refused what the cells show: %s", error)
        with self._frames_lock:
            for index, frame in sent.items():
                if self._frames.get(index) is frame:
                    del self._frames[index]

    # The end

    def _commit(self, outcome: Outcome, output: Path) -> None:
        """Say how it ended until core has heard it, or wants nothing of it; the lease is kept meanwhile."""
        body = self._ending(outcome, output)
        deadline = time.monotonic() + COMMIT_SECONDS
        wait = 0.1
        while time.monotonic() < deadline:
            try:
                self._client.commit(self._lease.run_id, self._token, body)
                return
            except OVER as error:
                log.warning("run %s: its commit was refused: %s", self._lease.run_id, error)
                self.stale = True
                return
            except (InvalidRequest, TooLarge) as error:
                log.warning("run %s: its output was refused: %s", self._lease.run_id, error)
                body = {**body, "notebook": None, "reason": f"Its output could not be stored: {error}"}
            except LabwrightError as error:
                log.info("core does not answer: %s", error)
                self._keep_lease(output.parent / "token")
            threading.Event().wait(wait)
            wait = min(wait * 2, 5.0)

    def _keep_lease(self, token_file: Path) -> None:
        """Core may hear this where it cannot store an end: what has been executed is not given to somebody else."""
        try:
            self._heartbeat(token_file)
        except (LabwrightError, OSError) as error:
            log.info("the lease was not renewed: %s", error)

    def _ending(self, outcome: Outcome, output: Path) -> dict[str, Any]:
        notebook: NotebookNode | None = None
        if output.exists():
            notebook = nbformat.read(output, as_version=4)  # type: ignore[no-untyped-call]
            notebook.cells = [capped(cell) for cell in notebook.cells]
        error = None
        if (found := outcome.error) is not None:
            error = {
                "cell": self._source_index(found.cell_index, found.cell_id),
                "name": found.ename,
                "message": found.evalue[:10_000],
                "traceback": plain(found.traceback)[-50_000:],
            }
        return {
            "state": outcome.state,
            "notebook": notebook,
            "error": error,
            "reason": outcome.reason,
            "cpu_seconds": outcome.cpu_seconds,
            "peak_memory_bytes": outcome.peak_memory_bytes,
            "log": outcome.log[-1_000_000:],
        }

    def _source_index(self, index: int, cell_id: str | None) -> int:
        """Where a cell of the prepared notebook stands in the source, which lacks the injected parameters."""
        cells = self._lease.notebook["cells"]
        for position, cell in enumerate(cells):
            if cell_id is not None and cell.get("id") == cell_id:
                return position
        injected = 1 if self._lease.parameters and not has_tag(cells, "injected-parameters") else 0
        parameters = next((at for at, cell in enumerate(cells) if has_tag([cell], "parameters")), -1)
        return max(0, index - injected if index > parameters else index)


def prepared(source: NotebookNode, parameters: Mapping[str, Any], dates: list[str]) -> NotebookNode:
    """The notebook with its parameters injected; those that are dates become `datetime.date` in the same cell."""
    notebook = parameterise(source, parameters)
    if dates:
        cell = next(cell for cell in notebook.cells if has_tag([cell], "injected-parameters"))
        lines = [f"{name} = __import__('datetime').date.fromisoformat({name})" for name in dates]
        cell.source = cell.source.rstrip("\n") + "\n" + "\n".join(lines) + "\n"
    return notebook


def has_tag(cells: list[Any], tag: str) -> bool:
    return any(tag in (cell.get("metadata", {}).get("tags") or ()) for cell in cells)


def plain(text: str) -> str:
    """Text without terminal colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def private_folder() -> Path:
    """A new folder that only its owner can enter."""
    parent = Path.home() / ".local" / "state" / "labwright" / "runs"
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Path(tempfile.mkdtemp(dir=parent))


def write_token(path: Path, token: str) -> None:
    """Replace the token in one step, readable by its owner only."""
    scratch = path.with_suffix(".new")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(token)
    scratch.replace(path)
