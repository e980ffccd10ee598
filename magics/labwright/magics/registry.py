"""The magics by name, imported at first use, and how their errors are shown.

A magic's module exposes `run(line, cell, shell)` for each of its names through `MAGICS` here, and
`complete(text, line, shell) -> list[str]` for the words after its name. A `LabwrightError` prints as two sentences
without a traceback and still fails the cell (so that Papermill sees it).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labwright.magics import ready_names

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# name -> (module, kinds). The module has run(line: str, cell: str | None, shell) -> object.
MAGICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "jobs": ("labwright.magics.jobs", ("line",)),
    "schedule": ("labwright.magics.schedule", ("line",)),
    "cluster": ("labwright.magics.cluster", ("line",)),
    "track": ("labwright.magics.track", ("line",)),
    "register": ("labwright.magics.register", ("line",)),
    "connect": ("labwright.magics.connect", ("line",)),
    "sql": ("labwright.magics.sql", ("line", "cell")),
}


def load_ipython_extension(shell: InteractiveShell) -> None:
    for name, (module, kinds) in MAGICS.items():
        for kind in kinds:
            shell.register_magic_function(_magic(name, module, shell), kind, name)  # type: ignore[arg-type]
        shell.set_hook("complete_command", _completer(module), str_key=f"%{name}")  # type: ignore[no-untyped-call]
        shell.set_hook("complete_command", _completer(module), str_key=f"%%{name}")  # type: ignore[no-untyped-call]
    _quiet_errors(shell)
    ready_names.install(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    for name, (_module, kinds) in MAGICS.items():
        for kind in kinds:
            shell.magics_manager.magics[kind].pop(name, None)


def _magic(name: str, module: str, shell: InteractiveShell) -> Callable[..., Any]:
    def call(line: str, cell: str | None = None) -> Any:
        return importlib.import_module(module).run(line, cell, shell)

    call.__name__ = name
    call.__doc__ = f"Type %{name} --help."
    return call


def _completer(module: str) -> Callable[..., list[str]]:
    def complete(shell: InteractiveShell, event: Any) -> list[str]:
        words: list[str] = importlib.import_module(module).complete(event.symbol, event.line, shell)
        return words

    return complete


def _quiet_errors(shell: InteractiveShell) -> None:
    from labwright.api.errors import LabwrightError

    def show(shell: InteractiveShell, kind: type, error: BaseException, trace: Any, tb_offset: Any = None) -> list[str]:
        assert isinstance(error, LabwrightError)
        text = [str(error), *([error.remedy] if error.remedy else [])]
        shell._showtraceback(kind, error, text)
        return text

    shell.set_custom_exc((LabwrightError,), show)  # type: ignore[no-untyped-call]
