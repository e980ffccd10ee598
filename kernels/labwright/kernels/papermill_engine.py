"""The entry point `papermill.engine`: `papermill in.ipynb out.ipynb --engine labwright`.

Papermill loads it whenever it is imported, and our own modules import papermill: so nothing else is
imported here before a notebook is executed.
"""

from __future__ import annotations

from typing import Any

from nbformat import NotebookNode
from papermill.engines import Engine


class LabwrightEngine(Engine):  # type: ignore[misc]
    """The fork server as papermill sees it."""

    @classmethod
    def execute_notebook(cls, nb: NotebookNode, kernel_name: str | None, **options: Any) -> NotebookNode:
        from labwright.kernels.papermill_runs import execute_notebook

        return execute_notebook(nb, kernel_name, **options)
