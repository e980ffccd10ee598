"""What must be on disk before the services start: accounts, folders with the right owners, tokens."""

from __future__ import annotations

import json
import os
import pwd
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labwright.hub.people import ADMINS, FIRST_ADMIN, People
from labwright.hub.settings import DATA_USER, SERVICE_USER, SERVICES, Settings
from labwright.spawner.accounts import create_system_user

CHECKOUT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Folder:
    path: Path
    owner: str | None  # None: whoever started the workbench
    mode: int


def folders(settings: Settings) -> list[Folder]:
    """Every folder of the workbench. Started without root all of them belong to one user and are closed to others."""
    service, data = SERVICE_USER, DATA_USER
    wanted = [
        # People pass through to their own home and to the launcher's socket, and can list nothing.
        Folder(settings.home, None, 0o711),
        Folder(settings.run, None, 0o711),
        Folder(settings.run / "launcher", None, 0o700),
        Folder(settings.logs, None, 0o700),
        Folder(settings.homes, None, 0o711),
        Folder(settings.public_key_file.parent, service, 0o755),
        Folder(settings.hub_folder, service, 0o700),
        Folder(settings.core_folder, service, 0o700),
        Folder(settings.mlflow_folder, service, 0o700),
        Folder(settings.data_folder, data, 0o700),
        Folder(settings.warehouse_folder, data, 0o700),
        Folder(settings.lake_folder, data, 0o700),
    ]
    if settings.by_user:
        return wanted
    return [Folder(folder.path, None, 0o700) for folder in wanted]


def install(settings: Settings, groups: Sequence[str] = ()) -> str | None:
    """Make all of it; what is there is kept. The answer is the first admin's password at the very first start.

    That person is in all of `groups`, so that nothing of the workbench is out of sight for whoever tries it alone.
    """
    if settings.by_user:
        for user, home in ((SERVICE_USER, settings.hub_folder), (DATA_USER, settings.data_folder)):
            _ensure_service_user(user, home)
    for folder in folders(settings):
        folder.path.mkdir(parents=True, exist_ok=True)
        owner = pwd.getpwnam(folder.owner) if folder.owner else None
        if owner and folder.path.stat().st_uid != owner.pw_uid:
            os.chown(folder.path, owner.pw_uid, owner.pw_gid)
        folder.path.chmod(folder.mode)
    _write_tokens(settings)
    _copy_hub_config(settings)
    people = People(settings.hub_folder / "people.json")
    if people.all():
        return None
    return people.add(FIRST_ADMIN, tuple(dict.fromkeys((ADMINS, *groups))))


def misplaced(settings: Settings) -> Iterator[str]:
    """Folders whose owner or mode is not what `install` makes, as sentences."""
    for folder in folders(settings):
        if not folder.path.exists():
            yield f"{folder.path} is missing"
            continue
        found = folder.path.stat()
        if found.st_mode & 0o777 & ~folder.mode:
            yield f"{folder.path} is open to others (mode {found.st_mode & 0o777:o}, meant {folder.mode:o})"
        if folder.owner and pwd.getpwuid(found.st_uid).pw_name != folder.owner:
            yield f"{folder.path} belongs to uid {found.st_uid}, meant is {folder.owner}"


def _ensure_service_user(user: str, home: Path) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        create_system_user(user, home, login_shell="/usr/sbin/nologin")


def _write_tokens(settings: Settings) -> None:
    tokens = {}
    for service in SERVICES:
        path = settings.service_token_file(service)
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        tokens[service] = path.read_text().strip()
    write_private(settings.hub_folder / "service-tokens.json", json.dumps(tokens))
    if not (settings.hub_folder / "proxy.token").exists():
        write_private(settings.hub_folder / "proxy.token", secrets.token_hex(32))


def write_private(path: Path, text: str) -> None:
    """0600, owned by whoever owns the folder; whole or not at all."""
    partial = path.with_name(path.name + ".new")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    owner = path.parent.stat()
    if os.geteuid() == 0:
        os.chown(partial, owner.st_uid, owner.st_gid)
    partial.replace(path)


def _copy_hub_config(settings: Settings) -> None:
    """The admin's jupyterhub_config.py, where the service user can read it (a checkout may be closed to it)."""
    beside = settings.workbench_file.with_name("jupyterhub_config.py")
    source = beside if beside.exists() else CHECKOUT / "config" / "jupyterhub_config.py"
    write_private(settings.hub_folder / "jupyterhub_config.py", source.read_text())
