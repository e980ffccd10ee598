"""What a start must not import, and who waits for whom: each cost seconds until it was measured."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from importlib.metadata import entry_points
from pathlib import Path

import sqlalchemy as sa

from labwright.hub.core import schema
from labwright.hub.database import Database, heads
from labwright.hub.turn import wait_for_port


def imported_by(module: str, *suspects: str) -> list[str]:
    code = f"import sys, {module}; print(*[name for name in {suspects!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_labwright_up_imports_no_hub_and_no_database() -> None:
    assert imported_by("labwright.hub.commands.up", "jupyterhub", "sqlalchemy", "fastapi", "alembic", "aiohttp") == []


def test_the_list_of_verbs_imports_none_of_them() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from labwright.api.commands import main;"
        "print(CliRunner().invoke(main, ['--help']).output);"
        "print('imported', *[name for name in ('pydantic', 'httpx', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    help_text, _, imported = done.stdout.partition("imported")
    assert imported.split() == []
    for verb in entry_points(group="labwright.commands"):
        said = (verb.load().help or "").split("\n")[0].split(".")[0][:30].strip()
        assert re.search(rf"^  {verb.name} +{re.escape(said)}", help_text, re.MULTILINE), (verb.name, help_text)


def test_the_data_service_starts_without_arrow_or_a_parser() -> None:
    assert imported_by("labwright.hub.data.app", "pyarrow", "numpy", "sqlglot", "psycopg", "alembic") == []


def test_the_warehouse_serves_without_arrow() -> None:
    assert imported_by("labwright.hub.data.warehouse", "pyarrow", "numpy", "psycopg") == []


def test_a_persons_server_starts_without_the_hubs_database() -> None:
    found = imported_by(
        "labwright.extensions.singleuser as ours; ours.prepare(); import jupyterhub.singleuser, jupyterlab.labapp",
        *("alembic", "jupyterhub.handlers.base", "jupyterhub.spawner", "rfc3987_syntax", "nbconvert.exporters"),
    )
    assert found == []


def test_a_current_schema_needs_no_alembic(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/core.sqlite")
    database.migrate(schema.MIGRATIONS)
    with database.read() as connection:
        noted = set(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars())
    database.close()
    assert noted == heads(schema.MIGRATIONS)
    code = (
        "import sys; from labwright.hub.database import Database; from labwright.hub.core import schema;"
        f"Database('sqlite:///{tmp_path}/core.sqlite').migrate(schema.MIGRATIONS); print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_turn_comes_when_the_port_opens_and_not_never() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert not wait_for_port(port, 0.3)
        opening = threading.Timer(0.2, listener.listen)
        opening.start()
        assert wait_for_port(port, 10)
        opening.join()


def test_a_persons_server_does_not_run_node(tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    node.chmod(0o755)
    code = "from labwright.extensions import singleuser; singleuser.prepare(); import jupyterlab.labapp"
    environ = {"PATH": f"{tmp_path}:{os.defpath}", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, capture_output=True)
    assert not (tmp_path / "was-run").exists()
