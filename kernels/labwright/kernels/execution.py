"""The contract between whoever runs notebooks (the job runner, papermill) and the engines that execute them.

An engine is called from a thread of the runner, one call per run, and keeps these promises:

- `Execution.output_path` is replaced atomically after each cell: a reader sees a whole notebook or none.
- `on_cell` is called in the calling thread, in the order of the cells.
- Setting `cancelled` interrupts the kernel within a second and kills it soon after if it does not listen.
- A call returns exactly one `Outcome` and leaves no process behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from nbformat import NotebookNode

State = Literal["succeeded", "failed", "timed-out", "cancelled", "died"]
Phase = Literal["started", "finished"]


@dataclass(frozen=True)
class Execution:
    """What to run. `env` is the complete environment of the kernel: nothing is inherited from the runner."""

    notebook: NotebookNode
    output_path: Path
    cwd: Path
    env: Mapping[str, str]
    kernel_name: str | None = None
    timeout_seconds: float | None = None
    start_timeout_seconds: float = 60


@dataclass(frozen=True)
class CellProgress:
    """A code or markdown cell that has started or finished; `cell` is live and must not be changed."""

    index: int
    total: int
    cell: NotebookNode
    phase: Phase


@dataclass(frozen=True)
class CellError:
    """The error that ended a run. `cell_index` counts in the notebook that was handed in."""

    cell_index: int
    cell_id: str | None
    ename: str
    evalue: str
    traceback: str


@dataclass(frozen=True)
class Outcome:
    """The one final state of a run; `reason` says why it died or stopped, and what to do about it."""

    state: State
    error: CellError | None = None
    reason: str | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    log: str = ""


class NotebookEngine(Protocol):
    def execute(
        self,
        execution: Execution,
        *,
        on_cell: Callable[[CellProgress], None],
        cancelled: threading.Event,
    ) -> Outcome: ...


def parameterise(notebook: NotebookNode, parameters: Mapping[str, Any]) -> NotebookNode:
    """A copy of `notebook` with papermill's metadata and, if there are any, the parameters injected."""
    # Imported here: papermill takes 0.4 s to import, and most of what reads this contract never calls it.
    from papermill.parameterize import parameterize_notebook

    from labwright.kernels.notebooks import load_for_papermill

    prepared = load_for_papermill(notebook)
    return parameterize_notebook(prepared, dict(parameters)) if parameters else prepared
