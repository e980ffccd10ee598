"""Which workbench a verb is about: `--home` and `--port`, else the environment, else how it was started last."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from labwright.api import names
from labwright.hub.private_file import write_private
from labwright.hub.settings import Settings, from_environment


def settings_for(home: str | None, port: int | None) -> Settings:
    environ = dict(os.environ)
    if home:
        environ[names.HOME] = home
    if port is not None:
        environ["LABWRIGHT_PORT"] = str(port)
    for variable, text in last_start(from_environment(environ).home).items():
        environ[variable] = environ.get(variable) or text
    return from_environment(environ)


def last_start(home: Path) -> dict[str, str]:
    """The variables that the last `up` left, so that all verbs find the same workbench."""
    found = {}
    with suppress(OSError, ValueError):
        found["LABWRIGHT_PORT"] = str(int((home / "port").read_text()))
    with suppress(OSError, ValueError):
        found["LABWRIGHT_CONFIG"] = (home / "workbench-file").read_text().removesuffix("\n")
    return found


def remember(settings: Settings) -> None:
    write_private(settings.home / "port", f"{settings.port}\n")
    file = settings.home / "workbench-file"
    if settings.workbench_file == from_environment({}).workbench_file:
        # The checkout's own: another checkout, of the next version say, has its own too.
        file.unlink(missing_ok=True)
    else:
        write_private(file, f"{settings.workbench_file}\n")
