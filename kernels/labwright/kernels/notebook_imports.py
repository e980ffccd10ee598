"""What a notebook imports, as far as its text shows it: by this a warm parent is chosen for its kernel.

Read by whoever asks for a kernel, never by the parent: that holds no more modules than an ordinary kernel does.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import nbformat.v4
from nbformat import NotebookNode

from labwright.api.source import parse
from labwright.kernels.environment import import_time_variables
from labwright.kernels.preload import top_level

# What is installed now, or found first, was not there when a parent imported its set.
CHANGES_PACKAGES = re.compile(
    r"\b(?:pip|conda|mamba|micromamba)3?\s+(?:install|uninstall)\b|sys\.path(?:\.insert\b|\s*=[^=]|\[)"
)
SETS_VARIABLES = re.compile(r"environ|putenv|%(?:set_)?env\b")
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*_?[A-Z0-9_]+\b")
# Read by many notebooks, and by no library of the sets when it is imported.
OF_NO_LIBRARY = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV"})


def steers_imports(notebook: NotebookNode) -> bool:
    """Whether the notebook may change what an import brings, or set what a library reads then (OMP_NUM_THREADS)."""
    return any(steers(cell.source) for cell in notebook.cells if cell.cell_type == "code")


def steers(source: str) -> bool:
    if CHANGES_PACKAGES.search(source):
        return True
    if not SETS_VARIABLES.search(source):
        return False
    named = dict.fromkeys(VARIABLE.findall(source), "")
    return bool(import_time_variables(named).keys() - OF_NO_LIBRARY)


def imports_in_file(path: str, usual: Iterable[str] = (), most_bytes: int = 2 << 20) -> frozenset[str]:
    """What its kernel may have imported: what the notebook imports, and what is `usual`, or nothing if it steers.

    Of what is no notebook, cannot be read or is larger than `most_bytes`: what is usual.
    """
    try:
        file = Path(path)
        if file.suffix != ".ipynb" or file.stat().st_size > most_bytes:
            return frozenset(usual)
        notebook: NotebookNode = nbformat.v4.reads(file.read_text(encoding="utf-8"))  # type: ignore[no-untyped-call]
        return frozenset() if steers_imports(notebook) else imports_of(notebook) | frozenset(usual)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return frozenset(usual)


IMPORT_LINE = re.compile(r"^\s*(?:import|from)\s+([A-Za-z_][\w.]*)", re.MULTILINE)


def imports_of(notebook: NotebookNode) -> frozenset[str]:
    """Top-level names of the modules that may be imported ahead of the code cells, as far as the text shows it."""
    names: set[str] = set()
    if steers_imports(notebook):
        return frozenset()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            names |= imports_in(cell.source)
    return frozenset(names)


def imports_in(source: str) -> set[str]:
    # Magics do not parse as Python, and parsing costs 50 times what this does: lines are looked at instead.
    found = {top_level(name) for name in IMPORT_LINE.findall(source)}
    if "import" in source and "," in source:
        found |= imports_by_parsing(source)
    return found


def imports_by_parsing(source: str) -> set[str]:
    try:
        tree = parse(source)
    except SyntaxError:
        return set()
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Import))
    return {top_level(alias.name) for node in nodes for alias in node.names}


def propose_set(notebooks: Iterable[NotebookNode], least_share: float = 0.2) -> tuple[str, ...]:
    """Modules that at least `least_share` of the notebooks import, most frequent first."""
    counts: Counter[str] = Counter()
    total = 0
    for notebook in notebooks:
        total += 1
        counts.update(imports_of(notebook))
    usual = (name for name, count in counts.most_common() if count >= least_share * total)
    return tuple(name for name in usual if name not in sys.stdlib_module_names)
