"""Which notebooks the fork server runs faithfully, and why not the others."""

from __future__ import annotations

import functools
import re
import shutil
import sys
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from nbformat import NotebookNode

from labwright.kernels.channel import IN_MEMORY_HISTORY

# What only a kernel with sockets has.
NEEDS_SOCKETS = re.compile(r"%connect_info|%qtconsole|%subshell|connection_file|get_connection_info|embed_kernel")
# What jupyter_client itself takes for the Python that it runs in.
OWN_NAMES = ("python", "python3", f"python3.{sys.version_info.minor}")
LAUNCHER = ["-m", "ipykernel_launcher", "-f"]
PROVISIONERS = ("local-provisioner", "labwright-provisioner")


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
    """Why the kernel `name` is not what a fork of this environment's Python is, or None."""
    if name == "labwright":
        return None
    return _foreign_kernel(name, kernelspec_stamp(name))


def kernelspec_stamp(name: str) -> tuple[int, ...]:
    """Changes when a kernelspec is installed or removed, or the one of that name is written."""
    stamps = []
    for folder in kernel_folders():
        for path in (Path(folder), Path(folder) / name.lower() / "kernel.json"):
            try:
                stamps.append(path.stat().st_mtime_ns)
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
    if spec.env or not same_interpreter(spec.argv[0]):
        return f"its kernel {name!r} runs in another environment"
    if spec.metadata.get("kernel_provisioner", {}).get("provisioner_name", PROVISIONERS[0]) not in PROVISIONERS:
        return f"its kernel {name!r} is started by a provisioner of its own"
    if forkable(spec.argv) is None:
        return f"its kernel {name!r} is started with arguments of its own"
    return None


def forkable(argv: list[str]) -> list[str] | None:
    """The kernel's own arguments in the command that starts it, or None if no fork can stand for that command."""
    if not same_interpreter(argv[0]) or argv[1:4] != LAUNCHER or len(argv) < 5:
        return None
    if any(extra != IN_MEMORY_HISTORY for extra in argv[5:]):
        return None
    return argv[3:]


def same_interpreter(executable: str) -> bool:
    """Whether `executable` is this environment's Python: by its folder too, for environments link to one binary."""
    if executable in OWN_NAMES:
        return True
    found = shutil.which(executable)
    if found is None:
        return False
    own = Path(sys.executable)
    return (Path(found).parent.resolve(), Path(found).resolve()) == (own.parent.resolve(), own.resolve())
