"""State on the disk that no service could start with, each file with what to do: said before anything runs.

Only what a crash, a full disk or a hand leaves is looked for, and only by a file's first bytes: a start stays fast
whatever the databases hold.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

from labwright.api.errors import LabwrightError
from labwright.hub.people import People
from labwright.hub.settings import Settings

_SQLITE = b"SQLite format 3\0"
_PEM = (b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----")
_FERNET_BYTES = 32


class DamagedState(LabwrightError):
    """A file of the workbench's own cannot be used as it is."""

    code = "damaged-state"


def check_state(settings: Settings) -> None:
    """Raise the first of `damages`."""
    for damage in damages(settings):
        raise damage


def damages(settings: Settings) -> Iterator[LabwrightError]:
    """Every file that is there and cannot be used. What is missing is made by a start."""
    try:
        People(settings.hub_folder / "people.json").all()
    except LabwrightError as error:
        yield error
    key = settings.signing_key_file
    if key.exists() and not _is_pem(key.read_bytes()):
        yield DamagedState(f"The key {key} is damaged.", remedy="Remove it: another one is made, and nothing is lost.")
    key = settings.data_folder / "secrets.key"
    if key.exists() and not _is_fernet(key.read_bytes()):
        yield DamagedState(
            f"The key {key} is damaged.",
            remedy="Put back a copy. Without one remove it, and give the connections their passwords again.",
        )
    for path, holds in databases(settings):
        if path.is_file() and not _is_sqlite(path):
            yield DamagedState(
                f"The database {path} is damaged.",
                remedy=f"Put back a copy. Without one move it away: an empty one is made, without {holds}.",
            )


def databases(settings: Settings) -> Iterator[tuple[Path, str]]:
    """The files of SQLite, and what is in them."""
    for url, holds in (
        (settings.core_database_url, "jobs, runs, usage and the audit trail"),
        (settings.data_database_url, "people's connections and the audit trail of queries"),
    ):
        if url.startswith("sqlite:///"):
            yield Path(url.removeprefix("sqlite:///")), holds
    yield settings.hub_folder / "jupyterhub.sqlite", "logins and people's tokens"
    yield settings.mlflow_folder / "mlflow.sqlite", "experiments and models"


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) in (b"", _SQLITE)


def _is_pem(content: bytes) -> bool:
    return content.startswith(_PEM[0]) and content.rstrip().endswith(_PEM[1])


def _is_fernet(content: bytes) -> bool:
    try:
        return len(base64.urlsafe_b64decode(content)) == _FERNET_BYTES
    except (binascii.Error, ValueError):
        return False
