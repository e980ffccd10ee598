"""Which notebooks the fork server runs faithfully, and why not the others."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from nbformat import NotebookNode

# What only a kernel with sockets has.
NEEDS_SOCKETS = re.compile(r"%connect_info|%qtconsole|%subshell|get_connection_(?:file|info)|embed_kernel")


def unsuitable(notebook: NotebookNode, kernel_name: str | None) -> str | None:
    """Why this notebook has to run on papermill's ordinary engine, or None."""
    name = kernel_name or notebook.metadata.get("kernelspec", {}).get("name")
    if name and (reason := foreign_kernel(name)):
        return reason
    for cell in notebook.cells:
        if cell.cell_type == "code" and (found := NEEDS_SOCKETS.search(cell.source)):
            return f"it asks for its kernel's sockets ({found.group()})"
    return None


def foreign_kernel(name: str) -> str | None:
    """Why the kernel `name` is not this environment's Python, or None."""
    if name == "labwright":
        return None
    return _foreign_kernel(name, kernelspec_stamp())


def kernelspec_stamp() -> tuple[int, ...]:
    """Changes when a kernelspec is installed or removed."""
    stamps = []
    for folder in kernel_folders():
        try:
            stamps.append(Path(folder).stat().st_mtime_ns)
        except OSError:
            stamps.append(0)
    return tuple(stamps)


@functools.cache
def kernel_folders() -> tuple[str, ...]:
    return tuple(KernelSpecManager().kernel_dirs)


@functools.lru_cache(maxsize=64)
def _foreign_kernel(name: str, stamp: tuple[int, ...]) -> str | None:
    try:
        spec = KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        return f"there is no kernel named {name!r}"
    if spec.language != "python" or not any("ipykernel" in part for part in spec.argv):
        return f"its kernel {name!r} is not an IPython kernel"
    if spec.env or (Path(spec.argv[0]).name.startswith("python") and not same_interpreter(spec.argv[0])):
        return f"its kernel {name!r} runs in another environment"
    return None


def same_interpreter(executable: str) -> bool:
    """Whether `executable` is this environment's Python: by its folder, for environments link to one binary."""
    if "/" not in executable:
        return True
    return Path(executable).parent.resolve() == Path(sys.executable).parent.resolve()
