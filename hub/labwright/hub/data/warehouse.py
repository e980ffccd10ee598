"""The embedded warehouse: a PostgreSQL from PyPI with real data in it, and the same data as Parquet (the lake).

    python -m labwright.hub.data.warehouse            # run it; SIGTERM stops it
    python -m labwright.hub.data.warehouse --check    # exit 0 when it can be queried

It listens on a Unix socket only, asks for SCRAM passwords, and the role that the data service uses may read and
nothing else. The superuser's password is used for loading alone. First start: initdb and COPY into a folder beside,
renamed when complete, so that a start that was killed leaves nothing half done.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from labwright.api.errors import LabwrightError
from labwright.hub.data import postgres
from labwright.hub.data.warehouse_files import SUPERUSER, Warehouse, lake_is_complete
from labwright.hub.settings import Settings, from_environment

log = logging.getLogger("labwright.warehouse")
CONFIGURATION = """
listen_addresses = ''
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'
shared_buffers = '64MB'
work_mem = '32MB'
max_connections = 40
wal_level = 'minimal'
max_wal_senders = 0
jit = off
log_statement = 'none'
log_min_error_statement = 'panic'
timezone = 'UTC'
"""


def create(warehouse: Warehouse) -> None:
    """Make the cluster with its roles and tables, unless there is one."""
    if (warehouse.cluster / "PG_VERSION").exists():
        return
    from labwright.hub.data import loading

    started = time.monotonic()
    beside = warehouse.folder / "cluster.new"
    shutil.rmtree(beside, ignore_errors=True)
    for file in (warehouse.reader_password, warehouse.loader_password):
        _write_secret(file)
    initdb = [postgres.binary("initdb"), "-D", str(beside), "-U", SUPERUSER, "--pwfile", str(warehouse.loader_password)]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, timeout=120)
    with (beside / "postgresql.conf").open("a") as configuration:
        configuration.write(CONFIGURATION)
    (beside / "pg_hba.conf").write_text("local all all scram-sha-256\n")
    server = postgres.start(warehouse, beside, fsync=False)
    try:
        postgres.wait_until_up(warehouse, server)
        loading.load(warehouse)
    finally:
        postgres.stop(server)
    subprocess.run([postgres.binary("initdb"), "--sync-only", "-D", str(beside)], check=True, stdout=subprocess.DEVNULL)
    beside.rename(warehouse.cluster)
    log.info("made the warehouse in %.1f s", time.monotonic() - started)


def _write_secret(file: Path) -> None:
    if not file.exists():
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as stream:
            stream.write(secrets.token_urlsafe(24) + "\n")


def run(settings: Settings) -> int:
    """Make what is missing, then serve until SIGTERM or SIGINT. Returns the exit status."""
    warehouse = Warehouse(settings.warehouse_folder)
    warehouse.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    create(warehouse)
    server = postgres.start(warehouse, warehouse.cluster)
    asked = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        with suppress(ProcessLookupError):
            server.send_signal(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if not lake_is_complete(settings.lake_folder):
        from labwright.hub.data import loading

        loading.write_lake(settings.lake_folder)
    status = server.wait()
    return 0 if asked else status or 1


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    settings = from_environment()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if Warehouse(settings.warehouse_folder).ready() else 1)
    if os.geteuid() == 0:
        sys.exit("PostgreSQL refuses to run as root: start this as labwright-data, as `labwright up` does.")
    try:
        sys.exit(run(settings))
    except LabwrightError as error:
        sys.exit(error.sentence())


if __name__ == "__main__":
    main()
