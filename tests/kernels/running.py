"""Making small notebooks and running them through an engine."""

from __future__ import annotations

import threading
from collections.abc import Callable

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labwright.kernels.execution import CellProgress, Execution, NotebookEngine, Outcome


def make_notebook(*sources: str, kernel_name: str = "python3") -> NotebookNode:
    """A notebook of code cells; a source that starts with '# ' and a capital is a markdown title."""
    cells = [new_markdown_cell(source) if source.startswith("# T") else new_code_cell(source) for source in sources]
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": kernel_name, "display_name": "Python 3", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


class Run:
    """One execution and everything that can be asked about it afterwards."""

    def __init__(self, engine: NotebookEngine, execution: Execution) -> None:
        self.engine = engine
        self.execution = execution
        self.progress: list[tuple[int, str]] = []
        self.cancelled = threading.Event()
        self.on_cell: Callable[[CellProgress], None] = lambda progress: None

    def __call__(self) -> Outcome:
        def note(progress: CellProgress) -> None:
            self.progress.append((progress.index, progress.phase))
            self.on_cell(progress)

        return self.engine.execute(self.execution, on_cell=note, cancelled=self.cancelled)

    @property
    def output(self) -> NotebookNode:
        return nbformat.read(self.execution.output_path, as_version=4)

    def text(self, index: int) -> str:
        """Everything a code cell printed or showed as text."""
        outputs = self.output.cells[index].outputs
        return "".join(
            output.text if output.output_type == "stream" else output.get("data", {}).get("text/plain", "")
            for output in outputs
        )
