"""The hub's database: commits that do not wait for the disk, and lose nothing when the hub is killed."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from jupyterhub import orm

from labwright.hub import hub_database

HUB_THAT_IS_KILLED = """
import os, signal, sys
from jupyterhub import orm
from labwright.hub import hub_database
url = sys.argv[1]
session = orm.new_session_factory(url, **hub_database.OPTIONS)()
for number in range(20):
    session.add(orm.User(name=f"person-{number}"))
    session.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_hub_that_has_just_committed(file: Path) -> str:
    url = f"sqlite:///{file}"
    ended = subprocess.run([sys.executable, "-c", HUB_THAT_IS_KILLED, url], check=False)
    assert ended.returncode == -9
    return url


def people(file: Path) -> int:
    connection = sqlite3.connect(file)
    try:
        (count,) = connection.execute("SELECT count(*) FROM users").fetchone()
    finally:
        connection.close()
    return int(count)


def test_a_commit_goes_to_the_log_and_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hub.sqlite'}"
    session = orm.new_session_factory(url, **hub_database.OPTIONS)()
    try:
        assert session.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
        assert session.execute(sa.text("PRAGMA synchronous")).scalar() == 1
        assert session.execute(sa.text("PRAGMA foreign_keys")).scalar() == 1  # JupyterHub's own setting stays
    finally:
        session.close()
        session.get_bind().dispose()


def test_a_database_that_can_have_no_log_waits_for_each_commit() -> None:
    connection = sqlite3.connect(":memory:")
    try:
        hub_database.keep_a_log(connection, None)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    finally:
        connection.close()


def test_what_a_killed_hub_has_committed_is_there(tmp_path: Path) -> None:
    file = tmp_path / "hub.sqlite"
    kill_a_hub_that_has_just_committed(file)
    assert people(file) == 20


def test_the_copy_that_jupyterhub_makes_before_an_upgrade_is_whole(tmp_path: Path) -> None:
    file, copy = tmp_path / "hub.sqlite", tmp_path / "copy.sqlite"
    url = kill_a_hub_that_has_just_committed(file)
    engine = sa.create_engine(url, **hub_database.OPTIONS)
    try:
        orm.check_db_revision(engine)  # as JupyterHub does, before it copies the file alone
        shutil.copy(file, copy)
    finally:
        engine.dispose()
    assert people(copy) == 20
