"""Papermill's ordinary engine behind the contract: one fresh interpreter and one ZeroMQ kernel per run.

It runs what the fork server cannot (another language's kernel, another environment), and it is the
yardstick that the fork server's engine is compared with.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager
from papermill.exceptions import PapermillExecutionError
from papermill.execute import (
    prepare_notebook_metadata,
    raise_for_execution_errors,
    remove_error_markers,
)
from papermill.utils import nb_kernel_name

from labwright.kernels.execution import CellError, CellProgress, Execution, Outcome
from labwright.kernels.notebooks import load_for_papermill, write_notebook

# How long a kernel may take to answer an interrupt before it is killed.
GRACE_SECONDS = 2.0


class OrdinaryEngine:
    """Runs each notebook in a kernel of its own, started from its kernelspec."""

    def execute(
        self,
        execution: Execution,
        *,
        on_cell: Callable[[CellProgress], None],
        cancelled: threading.Event,
    ) -> Outcome:
        notebook = prepare(execution)
        record = DurableRecord(notebook, execution.output_path, on_cell)
        record.notebook_start()
        client = PapermillNotebookClient(
            record,
            kernel_name=execution.kernel_name or nb_kernel_name(notebook),
            startup_timeout=max(1, round(execution.start_timeout_seconds)),
        )
        with KernelWatch(client, execution.timeout_seconds, cancelled) as watch:
            reason = run_to_end(client, execution)
        record.notebook_complete()
        error = find_error(notebook)
        mark_error(notebook, execution.output_path)
        return watch.conclude(error, reason)


def prepare(execution: Execution) -> NotebookNode:
    """The notebook as papermill hands it to an engine: upgraded, with metadata, without old error marks."""
    notebook = load_for_papermill(execution.notebook)
    known = notebook.metadata.papermill.get("input_path")
    notebook = prepare_notebook_metadata(notebook, known, str(execution.output_path))
    cleaned: NotebookNode = remove_error_markers(notebook)
    return cleaned


def run_to_end(client: PapermillNotebookClient, execution: Execution) -> str | None:
    """Run every cell; the answer is None, or the sentence that says why the kernel did not get there."""
    try:
        with loop_of_its_own():
            client.execute(cwd=str(execution.cwd), env=dict(execution.env))
    except NoSuchKernel as missing:
        return f"No kernel named {missing.name!r} is installed; choose another or install it."
    except DeadKernelError:
        return "The kernel died; see the log for what it printed last."
    except CellTimeoutError as silent:
        return f"The kernel stopped sending output: {silent}"
    except RuntimeError as stillborn:
        return f"The kernel did not start: {stillborn}"
    return None


@contextlib.contextmanager
def loop_of_its_own() -> Iterator[None]:
    """Close the event loop that nbclient makes for the thread, and keeps for as long as the process lives."""
    kept = ensure_event_loop()
    try:
        yield
    finally:
        kept.close()


def find_error(notebook: NotebookNode) -> CellError | None:
    """The error that papermill will raise for, read the way papermill reads it."""
    for index, cell in enumerate(notebook.cells):
        finished_by_exit = False
        for output in cell.get("outputs", []):
            if output.output_type != "error":
                continue
            if output.ename == "SystemExit" and output.evalue in ("", "0"):
                finished_by_exit = True
                continue
            text = "\n".join(output.traceback)
            return CellError(index, cell.get("id"), output.ename, output.evalue, text)
        if not finished_by_exit and cell.metadata.get("papermill", {}).get("exception") is True:
            return CellError(index, cell.get("id"), CellExecutionError.__name__, "", "")
    return None


def mark_error(notebook: NotebookNode, output_path: Path) -> None:
    """Put papermill's error cells around the cell that failed, if one did, and write the final notebook."""
    with contextlib.suppress(PapermillExecutionError):
        raise_for_execution_errors(notebook, None)
    write_notebook(notebook, output_path)


class DurableRecord(NotebookExecutionManager):  # type: ignore[misc]
    """Papermill's bookkeeping of a run, written in one step each time and told to the runner cell by cell."""

    def __init__(self, notebook: NotebookNode, output_path: Path, on_cell: Callable[[CellProgress], None]) -> None:
        super().__init__(notebook, output_path=str(output_path), progress_bar=False)
        self.on_cell = on_cell

    def save(self, **_: object) -> None:
        write_notebook(self.nb, Path(self.output_path))
        self.last_save_time = self.now()

    def cell_start(self, cell: NotebookNode, cell_index: int, **_: object) -> None:
        super().cell_start(cell, cell_index)
        self.on_cell(CellProgress(cell_index, len(self.nb.cells), cell, "started"))

    def cell_complete(self, cell: NotebookNode, cell_index: int, **_: object) -> None:
        super().cell_complete(cell, cell_index)
        self.on_cell(CellProgress(cell_index, len(self.nb.cells), cell, "finished"))


class KernelWatch:
    """A thread that stops a kernel when it is cancelled or late, and remembers what the kernel used."""

    interval_seconds = 0.1

    def __init__(
        self, client: PapermillNotebookClient, timeout_seconds: float | None, cancelled: threading.Event
    ) -> None:
        self.client = client
        self.cancelled = cancelled
        self.deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.timeout_seconds = timeout_seconds
        self.stopped_for: str | None = None
        self.cpu_seconds: float | None = None
        self.peak_memory_bytes: int | None = None
        self.finished = threading.Event()
        self.thread = threading.Thread(target=self.watch, name="kernel-watch", daemon=True)

    def __enter__(self) -> KernelWatch:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finished.set()
        self.thread.join()

    def watch(self) -> None:
        while not self.finished.wait(self.interval_seconds):
            self.sample()
            if self.cancelled.is_set():
                self.stopped_for = "cancelled"
            elif self.deadline is not None and time.monotonic() > self.deadline:
                self.stopped_for = "timed-out"
            else:
                continue
            self.stop()
            return

    def stop(self) -> None:
        self.send(signal.SIGINT)
        # The interrupted cell may end quickly, but a cell that swallows the interrupt must not go on.
        self.finished.wait(GRACE_SECONDS)
        while not self.finished.wait(self.interval_seconds):
            self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        pid = self.kernel_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)

    def kernel_pid(self) -> int | None:
        manager: Any = self.client.km
        provisioner = getattr(manager, "provisioner", None)
        return getattr(provisioner, "pid", None)

    def sample(self) -> None:
        pid = self.kernel_pid()
        if pid is None:
            return
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            self.cpu_seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.peak_memory_bytes = int(line.split()[1]) * 1024

    def conclude(self, error: CellError | None, reason: str | None) -> Outcome:
        used = (self.cpu_seconds, self.peak_memory_bytes)
        if self.stopped_for == "cancelled":
            return Outcome("cancelled", error, "The run was cancelled.", *used)
        if self.stopped_for == "timed-out":
            late = f"The run took longer than its timeout of {self.timeout_seconds:g} s; raise the timeout."
            return Outcome("timed-out", error, late, *used)
        if reason is not None:
            return Outcome("died", error, reason, *used)
        return Outcome("succeeded" if error is None else "failed", error, None, *used)
