"""Which workbench a verb is about: `--home` and `--port`, else the environment, else where it was started last."""

from __future__ import annotations

import os
from pathlib import Path

from labwright.api import names
from labwright.hub.private_file import write_private
from labwright.hub.settings import Settings, from_environment


def settings_for(home: str | None, port: int | None) -> Settings:
    environ = dict(os.environ)
    if home:
        environ[names.HOME] = home
    settings = from_environment(environ)
    if port is None and "LABWRIGHT_PORT" not in environ:
        port = last_port(settings.home)
    if port is not None:
        environ["LABWRIGHT_PORT"] = str(port)
    return from_environment(environ)


def last_port(home: Path) -> int | None:
    """The port of the last `up`, so that down, doctor and people find the same workbench."""
    try:
        return int((home / "port").read_text())
    except (OSError, ValueError):
        return None


def remember_port(settings: Settings) -> None:
    write_private(settings.home / "port", f"{settings.port}\n")
