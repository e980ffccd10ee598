"""`client` and `spark` without an import: bound to the real object before the first cell that uses them runs.

A hook looks at each cell's names. When one of the two is read, not assigned there and not defined yet, and a cluster
of its engine runs (started by magic, panel or shell), the cell finds the real Client or SparkSession: isinstance,
completion and pickling work as ever, which a stand-in object could not promise. Until then nothing heavy is imported.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from typing import TYPE_CHECKING, Any

from labwright.api.source import parse

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

NAMES = {"client": "dask", "spark": "spark"}
_WORD = re.compile(r"\b(client|spark)\b")


def install(shell: InteractiveShell) -> None:
    def before_cell(info: Any) -> None:
        cell = info.raw_cell or ""
        if _WORD.search(cell):
            bind_used(shell, cell)

    shell.events.register("pre_run_cell", before_cell)


def bind_used(shell: InteractiveShell, cell: str) -> None:
    """Bind what the cell reads; say why in a line when it cannot be bound, and let Python raise its NameError."""
    from labwright.api.errors import LabwrightError

    code = shell.transform_cell(cell)  # type: ignore[no-untyped-call]
    for name in sorted(used_names(code)):
        sessions = importlib.import_module("labwright.magics.sessions")
        if name in shell.user_ns and not sessions.is_ours(shell, name):
            continue
        try:
            sessions.bind(shell, NAMES[name])
        except LabwrightError as error:
            if name not in shell.user_ns:
                print(error.sentence(), file=sys.stderr)


def used_names(code: str) -> set[str]:
    """Which of our names the code reads and does not make itself; the text of other magics counts as reading."""
    try:
        tree = parse(code)
    except SyntaxError:
        return set()
    read: set[str] = set()
    made: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.alias):
            made.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.Call) and _is_magic(node):
            words = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            if words and words[0] in ("time", "timeit", "prun", "capture"):
                read |= set(_WORD.findall(" ".join(words[1:])))
    return (read & NAMES.keys()) - made


def _is_magic(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr in ("run_line_magic", "run_cell_magic")
