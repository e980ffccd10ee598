"""Start, watch and stop the workbench's processes with supervisord, and what has to be true before."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psutil
from supervisor.xmlrpc import SupervisorTransport

from labwright.api.errors import Conflict, LabwrightError, Unavailable
from labwright.hub.programs import SUPERVISED, Program, exists, programs, supervisor_configuration
from labwright.hub.settings import Settings
from labwright.kernels.java import MINIMUM_VERSION, find_java
from labwright.spawner.launcher import PATH
from labwright.spawner.local import LocalLauncher

NEEDED_BYTES = 500 << 20
POLL_SECONDS = 0.05
LOOK_SECONDS = 0.5
# What stands below the reason of a failed start, and is none.
EPILOGUES = ("Application startup failed. Exiting.", "(Background on this error at:")
NO_JAVA = f"there is no Java of version {MINIMUM_VERSION} or newer"
BROKEN_AFTER = 3  # starts in a row of one service while `up` waits


class CannotStart(LabwrightError):
    """The machine does not allow it now; the sentence says why and what to do."""

    code = "cannot-start"


def supervisor_pid(settings: Settings) -> int | None:
    """The pid of this workbench's living supervisor. A pid file left by a crash counts for nothing."""
    try:
        pid = int((settings.run / "supervisord.pid").read_text())
        line = psutil.Process(pid).cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    return pid if str(settings.run / "supervisord.conf") in line else None


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Two `up` or `down` of one workbench at a time would undo each other."""
    settings.run.mkdir(parents=True, exist_ok=True)
    with (settings.run / "up.lock").open("w") as lock:
        (settings.run / "up.lock").chmod(0o600)  # who could open it could hold it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict("Another 'labwright up' or 'down' is at work.", remedy="Wait until it is done.") from None
        yield


def check_machine(settings: Settings) -> list[str]:
    """Raise `CannotStart` for what makes a start pointless; the answer holds warnings."""
    for environment in ("hub", "user"):
        if not settings.python(environment).exists():
            raise CannotStart(
                f"The environment {settings.environments / environment} is missing.",
                remedy="Run 'make up', which builds it, or set LABWRIGHT_ENVIRONMENTS.",
            )
    if settings.by_user and (closed := closed_folder(settings.python("user"))):
        raise CannotStart(
            f"Other users cannot enter {closed}, so nobody's server could run from {settings.environments}.",
            remedy=f"Move the checkout to a place open to all, such as /opt, or run 'chmod o+x {closed}'.",
        )
    if any(mark in str(path) for mark in "\"'%\n" for path in (settings.home, settings.workbench_file)):
        raise CannotStart(
            f"The path {settings.home} has a quotation mark or a %, which supervisord's file cannot hold.",
            remedy="Choose another folder with --home.",
        )
    settings.home.mkdir(parents=True, exist_ok=True)
    if settings.by_user and (closed := closed_folder(settings.home)):
        raise CannotStart(
            f"Other users cannot enter {closed}, so neither services nor people would reach {settings.home}.",
            remedy=f"Choose another folder with --home, or run 'chmod o+x {closed}'.",
        )
    free = shutil.disk_usage(settings.home).free
    if free < NEEDED_BYTES:
        raise CannotStart(
            f"The disk under {settings.home} is full: {free >> 20} MB left, {NEEDED_BYTES >> 20} MB needed.",
            remedy="Free some space, or choose another folder with --home.",
        )
    for name, port in ports(settings).items():
        check_port(name, port, settings)
    warnings = [] if java_of_spark(settings) else [f"Spark will not start: {NO_JAVA}. Run 'make up' again."]
    if free < 4 * NEEDED_BYTES:
        warnings.append(f"Only {free >> 20} MB are left on the disk under {settings.home}.")
    return warnings


def ports(settings: Settings) -> dict[str, int]:
    return {
        "proxy": settings.port,
        "hub": settings.hub_port,
        "proxy's API": settings.proxy_api_port,
        "core": settings.core_port,
        "data": settings.data_port,
        "gateway": settings.gateway_port,
        "gateway's API": settings.gateway_api_port,
        "gateway's TCP": settings.gateway_tcp_port,
    }


def check_port(name: str, port: int, settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CannotStart(f"Port {port} ({name}) cannot be used: {error.strerror}.") from None
        else:
            return
    holder = port_holder(port)
    if strays(settings):
        raise CannotStart(
            f"Port {port} is held by a former start of this workbench.", remedy="Run 'labwright down', then 'up' again."
        )
    who = f"{holder.name()} (pid {holder.pid})" if holder else "another process"
    raise CannotStart(
        f"Port {port}, meant for the {name}, is in use by {who}.",
        remedy="Stop that process, or choose another range of 8 ports with --port.",
    )


def port_holder(port: int) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return psutil.Process(connection.pid)
    return None


def closed_folder(path: Path) -> Path | None:
    """The first folder above `path` that other users may not pass through."""
    real = path.resolve()
    for folder in (*reversed(path.absolute().parents), *reversed(real.parents)):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def java_of_spark(settings: Settings) -> Path | None:
    """The Java that a person's Spark session finds: it knows the launcher's PATH and nothing of this environment."""
    return find_java({"PATH": PATH}, settings.environments.glob("user/lib/python*/site-packages"))


def strays(settings: Settings) -> list[psutil.Process]:
    """Services of this workbench that run although their supervisor does not."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environ = process.environ()
            if environ.get(SUPERVISED) == "1" and environ.get("LABWRIGHT_HOME") == str(settings.home):
                found.append(process)
    return found


def start_supervisor(settings: Settings, *, foreground: bool = False) -> list[Program]:
    """Write the configuration and start everything; the answer is what was left out, for want of its code."""
    wanted = programs(settings)
    chosen = [program for program in wanted if exists(program)]
    config = settings.run / "supervisord.conf"
    config.touch(mode=0o600)
    config.write_text(supervisor_configuration(settings, chosen))
    for leftover in ("supervisord.pid", "supervisor.sock", "launcher.sock"):
        (settings.run / leftover).unlink(missing_ok=True)
    argv = [str(settings.python("hub").with_name("supervisord")), "-c", str(config)]
    # Nothing of the caller's environment reaches a service.
    clean = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(settings.run)}
    if foreground:
        os.execve(argv[0], [*argv, "-n"], clean)  # noqa: S606 - becomes the supervisor
    done = subprocess.run(argv, env=clean, cwd="/", capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise CannotStart(f"The supervisor did not start: {done.stderr.strip() or done.stdout.strip()}")
    return [program for program in wanted if program not in chosen]


class Start:
    """A start as it goes: which services are ready, and which one ends again and again."""

    def __init__(self, settings: Settings, wanted: Sequence[str], tell: Callable[[str], None]) -> None:
        self.settings, self.wanted, self.tell = settings, wanted, tell
        self.began = time.monotonic()
        self.ready: set[str] = set()
        self.pids: dict[str, set[int]] = {}
        self.looked = 0.0

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Until the condition holds; raises with the service at fault and its log, as far as it is known."""
        deadline = self.began + seconds
        while not condition():
            now = time.monotonic()
            if now - self.looked > LOOK_SECONDS:
                self.looked = now
                self.look()
            if supervisor_pid(self.settings) is None and now > self.began + 5:
                raise Unavailable("The supervisor", remedy=f"See {self.settings.logs / 'supervisord.log'}.")
            if now > deadline:
                raise Unavailable(what, remedy=f"Run 'labwright doctor'; the logs are in {self.settings.logs}.")
            time.sleep(POLL_SECONDS)

    def wait_for_all(self, seconds: float) -> None:
        """Until each service that is wanted answers."""
        for name in self.wanted:
            self.wait_for(lambda name=name: self.is_ready(name), f"The service '{name}'", seconds)  # type: ignore[misc]

    def look(self) -> None:
        for name, pid in pids(self.settings).items():
            seen = self.pids.setdefault(name, set())
            seen.add(pid)
            if len(seen) >= BROKEN_AFTER and name in self.wanted and not is_healthy(self.settings, name):
                raise broken(self.settings, name)
        for name in self.wanted:
            self.is_ready(name)

    def is_ready(self, name: str) -> bool:
        if name not in self.ready and is_healthy(self.settings, name):
            self.ready.add(name)
            self.tell(name)
        return name in self.ready


def broken(settings: Settings, name: str) -> CannotStart:
    log = settings.logs / f"{name}.log"
    with contextlib.suppress(OSError):
        lines = [line for line in log.read_text(errors="replace").splitlines()[-50:] if line.strip()]
        lines = [line for line in lines if not any(words in line for words in EPILOGUES)]
        if lines:
            return CannotStart(
                f"The service '{name}' ends whenever it is started. It last said: {lines[-1].strip()[:300]}",
                remedy=f"See {log}. It is tried on until 'labwright down'.",
            )
    return CannotStart(f"The service '{name}' ends whenever it is started.", remedy=f"See {log}.")


def answers(url: str) -> bool:
    """Whether a GET is answered with 200. Asked many times in a start, so without httpx, which loads certificates."""
    parts = urlsplit(url)
    return _status(HTTPConnection(parts.hostname or "", parts.port, timeout=2.0), parts.path) == 200


def _status(connection: HTTPConnection, path: str) -> int | None:
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def health_urls(settings: Settings) -> dict[str, str]:
    """Program -> a URL that answers 200 without a token when it is ready."""
    return {
        "proxy": f"{settings.public_url}/hub/login",
        "hub": settings.hub_api_url,
        "core": f"{settings.core_url}/health",
        "data": f"{settings.data_url}/health",
        "gateway": f"http://127.0.0.1:{settings.gateway_port}/api/health",
    }


def is_healthy(settings: Settings, program: str) -> bool:
    if program in (urls := health_urls(settings)):
        return answers(urls[program])
    if program == "launcher":
        with contextlib.suppress(LabwrightError):
            asyncio.run(LocalLauncher(settings.launcher_socket).running())
            return True
        return False
    if program == "mlflow":
        return answers_on_socket(settings.mlflow_socket)
    return states(settings).get(program) == "RUNNING"


def answers_on_socket(path: Path) -> bool:
    connection = HTTPConnection("localhost", timeout=2.0)  # MLflow refuses other hosts
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(2.0)
    try:
        connection.sock.connect(str(path))
    except OSError:
        connection.close()
        return False
    return _status(connection, "/health") in (200, 404)


def states(settings: Settings) -> dict[str, str]:
    """Program -> supervisord's word for its state (RUNNING, STARTING, BACKOFF, FATAL …)."""
    return {item["name"]: item["statename"] for item in _process_infos(settings)}


def pids(settings: Settings) -> dict[str, int]:
    """Program -> pid, of those that run."""
    return {item["name"]: item["pid"] for item in _process_infos(settings) if item["pid"]}


def age(settings: Settings, program: str) -> float | None:
    """Seconds since a program was started; None when it does not run."""
    infos = (item for item in _process_infos(settings) if item["name"] == program and item["pid"])
    return next((float(item["now"] - item["start"]) for item in infos), None)


def supervisor_age(settings: Settings) -> float:
    """Seconds since the workbench was started; 0 when it is not up."""
    pid = supervisor_pid(settings)
    return time.time() - psutil.Process(pid).create_time() if pid is not None else 0.0


def _process_infos(settings: Settings) -> list[dict[str, Any]]:
    transport = SupervisorTransport(None, None, serverurl=f"unix://{settings.run / 'supervisor.sock'}")
    server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
    try:
        return cast(list[dict[str, Any]], server.supervisor.getAllProcessInfo())
    except (OSError, xmlrpc.client.Error):
        return []
    finally:
        transport.close()


def stop(settings: Settings) -> int:
    """End people's processes, then the services. How many of people's there were."""
    ended = 0
    with contextlib.suppress(Unavailable):
        ended = asyncio.run(LocalLauncher(settings.launcher_socket).stop_all())
    pid = supervisor_pid(settings)
    waiting = strays(settings)
    if pid is not None:
        waiting.append(psutil.Process(pid))
        os.kill(pid, signal.SIGTERM)
    else:
        for process in waiting:
            with contextlib.suppress(psutil.Error):
                process.terminate()
    _, alive = psutil.wait_procs(waiting, timeout=25)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    (settings.run / "supervisord.pid").unlink(missing_ok=True)
    return ended
