"""What must be on disk before the services start: accounts, folders with the right owners, tokens."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labwright.hub.damage import DamagedState, check_state
from labwright.hub.people import ADMINS, FIRST_ADMIN, People
from labwright.hub.private_file import write_private
from labwright.hub.settings import DATA_USER, SERVICE_USER, SERVICES, Settings
from labwright.spawner.accounts import create_system_user

CHECKOUT = Path(__file__).resolve().parents[3]
TOKEN_LETTERS = 64


@dataclass(frozen=True)
class Folder:
    path: Path
    owner: str | None  # None: whoever started the workbench
    mode: int
    inside: int | None = None  # the mode bits that what lies in it may have; it all belongs to the folder's owner


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
        Folder(settings.public_key_file.parent, service, 0o755, 0o755),
        Folder(settings.hub_folder, service, 0o700, 0o700),
        Folder(settings.core_folder, service, 0o700, 0o700),
        Folder(settings.mlflow_folder, service, 0o700, 0o700),
        Folder(settings.data_folder, data, 0o700, 0o700),
        Folder(settings.warehouse_folder, data, 0o700, 0o700),
        Folder(settings.lake_folder, data, 0o700, 0o700),
    ]
    if settings.by_user:
        return wanted
    return [replace(folder, owner=None, mode=0o700) for folder in wanted]


def install(settings: Settings, groups: Sequence[str] = ()) -> str | None:
    """Make all of it; what is there is kept. The answer is the first admin's password at the very first start.

    That person is in all of `groups`, so that nothing of the workbench is out of sight for whoever tries it alone.
    """
    if settings.by_user:
        for user, home in ((SERVICE_USER, settings.hub_folder), (DATA_USER, settings.data_folder)):
            _ensure_service_user(user, home)
    for folder in folders(settings):
        try:
            set_right(folder)
        except (FileExistsError, NotADirectoryError):
            remedy = "Move it away: a start makes the folder."
            raise DamagedState(f"{folder.path} is no folder.", remedy=remedy) from None
        except PermissionError as error:
            raise DamagedState(
                f"{error.filename} cannot be changed: {error.strerror}.",
                remedy="Start the workbench as who started it before, or choose another folder with --home.",
            ) from None
    check_state(settings)
    _write_tokens(settings)
    _copy_hub_config(settings)
    people = People(settings.hub_folder / "people.json")
    if people.all():
        return None
    return people.add(FIRST_ADMIN, tuple(dict.fromkeys((ADMINS, *groups))))


def set_right(folder: Folder) -> None:
    """Make the folder, with owner and mode as meant, also of what lies in it: a hand may have changed them."""
    folder.path.mkdir(parents=True, exist_ok=True)
    owner = pwd.getpwnam(folder.owner) if folder.owner else None
    if owner and folder.path.stat().st_uid != owner.pw_uid:
        os.chown(folder.path, owner.pw_uid, owner.pw_gid)
    folder.path.chmod(folder.mode)
    found = folder.path.stat()
    for path in misfits(folder):
        was = path.lstat()
        if owner and was.st_uid != found.st_uid:
            _give(path, found.st_uid, found.st_gid)
        path.chmod(stat.S_IMODE(was.st_mode) & (folder.inside or 0))


def misfits(folder: Folder) -> list[Path]:
    """What lies in a folder with another owner, or more open than it may be.

    Links, also hard ones, are left alone: they could lead root to what is not the workbench's.
    """
    if folder.inside is None:
        return []
    uid = pwd.getpwnam(folder.owner).pw_uid if folder.owner else folder.path.stat().st_uid
    wrong = []
    for path in folder.path.iterdir():
        with contextlib.suppress(FileNotFoundError):  # of a running service: it comes and goes
            found = path.lstat()
            if _is_no_link(found) and (found.st_uid != uid or found.st_mode & 0o777 & ~folder.inside):
                wrong.append(path)
    return wrong


def _is_no_link(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)


def _give(path: Path, uid: int, gid: int) -> None:
    """To that owner, with all that lies below."""
    os.chown(path, uid, gid, follow_symlinks=False)
    if not path.is_dir():
        return
    for _, folders, files, handle in os.fwalk(path):
        for name in (*folders, *files):
            if _is_no_link(os.stat(name, dir_fd=handle, follow_symlinks=False)):
                os.chown(name, uid, gid, dir_fd=handle, follow_symlinks=False)


def misplaced(settings: Settings) -> Iterator[str]:
    """Folders and files whose owner or mode is not what `install` makes, as sentences."""
    for folder in folders(settings):
        if not folder.path.exists():
            yield f"{folder.path} is missing"
            continue
        found = folder.path.stat()
        if found.st_mode & 0o777 & ~folder.mode:
            yield f"{folder.path} is open to others (mode {found.st_mode & 0o777:o}, meant {folder.mode:o})"
        if folder.owner and pwd.getpwuid(found.st_uid).pw_name != folder.owner:
            yield f"{folder.path} belongs to uid {found.st_uid}, meant is {folder.owner}"
        for path in misfits(folder):
            yield f"{path} can be read by others, or belongs to somebody else"


def _ensure_service_user(user: str, home: Path) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        create_system_user(user, home, login_shell="/usr/sbin/nologin")


def _write_tokens(settings: Settings) -> None:
    tokens = {}
    for service in SERVICES:
        tokens[service] = _token_in(settings.service_token_file(service))
    write_private(settings.hub_folder / "service-tokens.json", json.dumps(tokens))
    _token_in(settings.hub_folder / "proxy.token")


def _token_in(path: Path) -> str:
    """The token of that file; a new one when there is none, or less than a whole one."""
    if path.is_file() and not path.is_symlink() and len(token := path.read_text().strip()) >= TOKEN_LETTERS:
        return token
    token = secrets.token_hex(TOKEN_LETTERS // 2)
    write_private(path, token)
    return token


def _copy_hub_config(settings: Settings) -> None:
    """The admin's jupyterhub_config.py, where the service user can read it (a checkout may be closed to it)."""
    beside = settings.workbench_file.with_name("jupyterhub_config.py")
    source = beside if beside.exists() else CHECKOUT / "config" / "jupyterhub_config.py"
    write_private(settings.hub_folder / "jupyterhub_config.py", source.read_text())
