"""What a warm parent imports ahead of time, and what it must not.

A preload set is declared per environment in `<sys.prefix>/etc/labwright/preload.json`:

    {"data": ["pandas", "matplotlib.pyplot"], "models": ["pandas", "sklearn.ensemble", "mlflow.sklearn"]}

Without that file the sets below are used, as far as their modules are installed. A set is chosen for a
kernel by what its notebook imports: forking costs time in proportion to what the parent holds (3 ms of CPU
for a parent without pandas, 15 ms with scikit-learn and MLflow; measured), so the smallest fitting set wins.

A module is refused when it leaves a thread running that a fork would lose, opens a device or a socket, or
has initialised CUDA. Threads are looked for in /proc/self/task: native ones are invisible to `threading`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

BASE = "base"
DATA = ("numpy", "pandas", "pyarrow", "matplotlib.pyplot", "matplotlib_inline.backend_inline")
MODELS = (
    *DATA,
    "sklearn.datasets",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.model_selection",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "mlflow",
    "mlflow.sklearn",
)
DEFAULT_SETS: Mapping[str, tuple[str, ...]] = {"data": DATA, "models": MODELS, "networks": (*MODELS, "torch")}
# Threads that sleep until they are needed and whose library puts itself right after a fork.
HARMLESS_THREADS: Mapping[str, str] = {
    "jemalloc_bg_thd": "jemalloc stops and forgets its background threads in its own fork handlers",
    "polars-ooc-clea": "polars removes old spill files with it; a fork that spills cleans up at exit",
}
# Modules that are known to break, with the reason that is told.
UNSAFE_MODULES: Mapping[str, str] = {
    "pyspark": "its gateway is a socket to a Java process, which forks would share",
    "ray": "its worker threads and sockets do not survive a fork",
    "tensorflow": "its thread pools start at import and hang in a fork",
    "jax": "it is multithreaded from its first use, and a fork of it deadlocks",
}


@dataclass(frozen=True)
class Refusal:
    module: str
    reason: str


def read_sets(prefix: Path) -> dict[str, tuple[str, ...]]:
    """The preload sets of the environment at `prefix`, from the smallest to the largest."""
    declared = prefix / "etc" / "labwright" / "preload.json"
    if not declared.exists():
        return with_base(installed(DEFAULT_SETS))
    sets = json.loads(declared.read_text())
    lists = sets.values() if isinstance(sets, dict) else [None]
    if not all(isinstance(modules, list) and all(isinstance(module, str) for module in modules) for modules in lists):
        raise ValueError(f"{declared} must hold an object of lists of module names")
    return with_base(sets)


def installed(sets: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """The sets without packages that are not there; of two that then hold the same, the first."""
    there: dict[tuple[str, ...], str] = {}
    for name, modules in sets.items():
        there.setdefault(tuple(module for module in modules if importlib.util.find_spec(top_level(module))), name)
    return {name: modules for modules, name in there.items() if modules}


def with_base(sets: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """The sets from the smallest to the largest; the empty one is always there."""
    named = {name: tuple(modules) for name, modules in sets.items() if name != BASE}
    return {BASE: (), **dict(sorted(named.items(), key=lambda item: len(item[1])))}


def top_level(module: str) -> str:
    return module.partition(".")[0]


def choose_set(sets: Mapping[str, tuple[str, ...]], imports: Iterable[str]) -> str:
    """The name of the smallest set that spares the most imports. Sets come smallest first."""
    wanted = set(imports)
    return max(sets, key=lambda name: (len(wanted & {top_level(module) for module in sets[name]}), -len(sets[name])))


def shadowed(folder: str, modules: Set[str]) -> bool:
    """Whether `folder` holds a module that Python would import in place of a preloaded one."""
    try:
        names = [path.name for path in Path(folder).iterdir()]
    except OSError:
        return False
    return any(name.removesuffix(".py") in modules for name in names)


def thread_names() -> list[str]:
    """Names of the operating system's threads of this process, but for the one that asks."""
    tasks = Path("/proc/self/task")
    own = str(os.getpid())
    return [(task / "comm").read_text().strip() for task in tasks.iterdir() if task.name != own]


def settle_threads() -> None:
    """Fork once for nothing: libraries with a fork handler (OpenBLAS) stop their threads before it."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def dangers() -> str | None:
    """Why this process must not be forked as it is, or None."""
    torch = sys.modules.get("torch")
    # Before the threads: CUDA has some as well, and is the better reason.
    if open_files("/dev/nvidia") or (torch is not None and torch.cuda.is_initialized()):
        return "it has initialised CUDA, which cannot be used after a fork"
    settle_threads()
    strangers = [name for name in thread_names() if name not in HARMLESS_THREADS]
    if strangers:
        return f"it leaves {len(strangers)} thread(s) running ({', '.join(sorted(set(strangers)))})"
    return None


def open_files(beginning: str) -> int:
    """How many open files of this process have a name that begins so."""
    count = 0
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(fd.readlink()).startswith(beginning)
    return count


def preload(modules: Iterable[str]) -> Refusal | None:
    """Import `modules` in order; stop at the first that makes this process unfit for forking.

    The process that gets a refusal is spoilt: it has to start again without that module.
    """
    sockets = open_files("socket:")
    for module in modules:
        if reason := UNSAFE_MODULES.get(top_level(module)):
            return Refusal(module, reason)
        try:
            importlib.import_module(module)
        except ImportError as error:
            return Refusal(module, f"it cannot be imported: {error}")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything while it is imported
            return Refusal(module, f"importing it raised {type(error).__name__}: {error}")
        if reason := dangers():
            return Refusal(module, reason)
        if open_files("socket:") > sockets:
            return Refusal(module, "it opened a socket")
    return None
