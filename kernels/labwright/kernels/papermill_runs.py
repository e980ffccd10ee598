"""Papermill's engine interface on the fork server.

Options of papermill that the fork server does not know (a kernel manager of one's own, hooks, extra
arguments) make it hand the notebook to papermill's ordinary engine, with a line in papermill's log.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.engines import NBClientEngine
from papermill.iorw import papermill_io
from papermill.log import logger

from labwright.kernels.client import ForkServer
from labwright.kernels.engine import ForkServerEngine, Run
from labwright.kernels.execution import Execution
from labwright.kernels.record import Record
from labwright.kernels.suitability import unsuitable

KNOWN_OPTIONS = frozenset(
    "input_path log_output stdout_file stderr_file start_timeout execution_timeout timeout allow_errors "
    "interrupt_on_timeout raise_on_iopub_timeout store_widget_state record_timing nest_asyncio".split()
)
# One engine per process: its connection and its warm parents serve every notebook that the process runs.
engines: dict[str, ForkServerEngine] = {}
making = threading.Lock()


def shared_engine() -> ForkServerEngine:
    """The engine of this process, on the fork server of LABWRIGHT_KERNELS_DIRECTORY or the user's own."""
    directory = os.environ.get("LABWRIGHT_KERNELS_DIRECTORY", "")
    with making:
        if directory not in engines:
            engines[directory] = ForkServerEngine(ForkServer(Path(directory) if directory else None))
        return engines[directory]


def execute_notebook(
    nb: NotebookNode,
    kernel_name: str | None,
    output_path: str | None = None,
    progress_bar: bool | dict[str, Any] = True,
    log_output: bool = False,
    autosave_cell_every: int = 30,
    **options: Any,
) -> NotebookNode:
    """What `papermill.engines.Engine.execute_notebook` promises, on the fork server where that is faithful."""
    reason = why_not(nb, kernel_name, output_path, options)
    if reason is not None:
        logger.warning("Falling back to papermill's ordinary engine because %s.", reason)
        executed: NotebookNode = NBClientEngine.execute_notebook(
            nb, kernel_name, output_path, progress_bar, log_output, autosave_cell_every, **options
        )
        return executed
    record = Record(nb, place_of(output_path), lambda progress: None, progress_bar)
    record.log_output = log_output
    record.is_read = may_be_read(nb, record.output_path)
    try:
        logger.info(f"Executing notebook with kernel: {kernel_name}")
        run_to_end(record, kernel_name, log_output, options)
    finally:
        record.cleanup_pbar()
        record.notebook_complete()
    return record.nb  # type: ignore[no-any-return]


def place_of(output_path: str | None) -> Path | None:
    """Where papermill writes: from the folder that it was started in, not from the notebook's working directory."""
    if not output_path:
        return None
    return Path.cwd().joinpath(papermill_io.get_handler("local")._cwd or "", output_path)


def may_be_read(nb: NotebookNode, output: Path | None) -> bool:
    """Whether the code names the notebook that is being written, or what notebooks are read with."""
    signs = ("nbconvert", ".ipynb", "log_artifacts", output.name) if output else ()
    return any(sign in cell.source for cell in nb.cells if cell.cell_type == "code" for sign in signs)


def run_to_end(record: Record, kernel_name: str | None, log_output: bool, options: Mapping[str, Any]) -> None:
    timeout = options.get("execution_timeout") or options.get("timeout")
    passed = {key: options[key] for key in CLIENT_OPTIONS if key in options}
    execution = Execution(
        record.nb,
        Path(),
        Path.cwd(),
        os.environ,
        kernel_name,
        start_timeout_seconds=options.get("start_timeout") or 60,
    )
    watched = {"log": logger, "log_output": log_output, **passed}
    run = Run(shared_engine(), execution, record, threading.Event(), watched)
    run.limit_cells(timeout, options.get("interrupt_on_timeout", False))
    try:
        run.execute()
    finally:
        run.end()
    raise_for_outcome(run, timeout)


CLIENT_OPTIONS = ("stdout_file", "stderr_file", "allow_errors", "store_widget_state", "record_timing")


def why_not(
    nb: NotebookNode, kernel_name: str | None, output_path: str | None, options: Mapping[str, Any]
) -> str | None:
    """Why papermill's ordinary engine has to do it, or None."""
    if unknown := [name for name, value in options.items() if name not in KNOWN_OPTIONS and value]:
        return f"it does not know the option {unknown[0]!r}"
    if output_path and papermill_io.get_handler(output_path) is not papermill_io.get_handler("local"):
        return f"the output {output_path!r} is not a local file"
    return unsuitable(nb, kernel_name)


def raise_for_outcome(run: Run, timeout: float | None) -> None:
    """Raise what papermill raises for a run that did not come to its end."""
    if run.late_cell is not None:
        assert timeout is not None
        raise CellTimeoutError.error_from_timeout_and_cell("Cell execution timed out", int(timeout), run.late_cell)
    outcome = run.outcome(None)
    if outcome.state == "died":
        logger.error(outcome.reason)
        raise DeadKernelError(f"Kernel died: {outcome.reason}")
