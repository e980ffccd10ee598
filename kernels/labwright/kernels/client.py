"""How a process asks the fork server for kernels: one connection, usable from several threads."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labwright.kernels.channel import Channel, Message, write_memory_file
from labwright.kernels.environment import import_time_variables, launch_mark
from labwright.kernels.errors import ForkServerError, ForkServerGone, SpawnRefused
from labwright.kernels.folder import connect, default_directory, locked

log = logging.getLogger("labwright.kernels.client")
START_SECONDS = 30.0
LIMITS = tuple(name for name in dir(resource) if name.startswith("RLIMIT_"))
SHARED_IDLE_SECONDS = 30.0  # after the process that shares its connection has ended


@dataclass
class Exit:
    """How a kernel ended: `status` as `waitpid` gives it; `lost` if its warm parent or server ended first."""

    status: int
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    # What it was allowed in the end, be it by whoever started it or by itself.
    cpu_limit_seconds: int | None = None
    lost: str | None = None


@dataclass
class Handle:
    """A kernel that was asked for."""

    server: ForkServer
    id: str
    pid: int | None = None
    refusal: str | None = None
    exit: Exit | None = None
    answered: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def wait_started(self, seconds: float) -> int:
        """The kernel's process id, once it has been forked. One that does not come in time must not come later."""
        if not self.answered.wait(seconds):
            self.signal(signal.SIGKILL)
            raise ForkServerGone(f"The fork server did not answer within {seconds:g} s.")
        if self.refusal is not None:
            raise SpawnRefused(self.refusal)
        if self.pid is None:
            raise ForkServerGone("The fork server ended before it could start the kernel; run it again.")
        return self.pid

    def signal(self, number: int) -> None:
        self.server.send({"op": "signal", "id": self.id, "number": int(number)})


class ForkServer:
    """A connection to the fork server in `directory`, which is started if nobody has yet.

    With `shows_output`, what kernels of notebook runs write to their descriptors 1 and 2 comes to those of this process
    too, as from a child; else what is no output of a cell stands in the server's log.
    """

    def __init__(
        self, directory: Path | None = None, idle_seconds: float = 600.0, *, shows_output: bool = True
    ) -> None:
        self.directory = directory or default_directory()
        self.idle_seconds = idle_seconds
        self.shows_output = shows_output
        self.lock = threading.Lock()
        self.channel: Channel | None = None
        self.handles: dict[str, Handle] = {}
        self.numbers = itertools.count(1)
        self.closing = False
        self.replies: list[Message] = []
        self.replied = threading.Condition()
        opened.add(self)

    # -- asking ---------------------------------------------------------------------------------------

    def spawn(
        self,
        mode: str,
        cwd: Path,
        env: Mapping[str, str],
        fds: Sequence[int],
        imports: frozenset[str] = frozenset(),
        limits: Mapping[str, int] | None = None,
        **details: Any,
    ) -> Handle:
        """Ask for a kernel; the answer comes with `Handle.wait_started`."""
        handle = Handle(self, str(next(self.numbers)))
        request = {
            "op": "spawn",
            "id": handle.id,
            "mode": mode,
            "cwd": str(cwd),
            "env": import_time_variables(env, cwd),
            "imports": sorted(imports),
            "umask": own_umask(),
            "soft_limits": own_soft_limits(),
            "limits": dict(limits or {}),
            **details,
        }
        # The environment may hold tokens: it travels in a memory file that nobody but the fork reads.
        secret = write_memory_file(json.dumps(dict(env)).encode())
        try:
            shown = standard_files() if mode == "notebook" and self.shows_output else []
            self.send_spawn(handle, request, [secret, *fds, *shown])
        finally:
            os.close(secret)
        return handle

    def send_spawn(self, handle: Handle, request: Message, fds: Sequence[int]) -> None:
        """Send the order to a server that takes it: what could not be sent, none has heard, and it may be sent again.

        One that is being killed may have closed its connections and still take new ones, for a moment.
        """
        deadline = time.monotonic() + START_SECONDS
        with self.lock:
            while not self.sent(handle, request, fds):
                if time.monotonic() > deadline:
                    raise ForkServerGone(f"The fork server ends as it is asked; see {self.directory / 'log'}.")
                time.sleep(0.005)

    def sent(self, handle: Handle, request: Message, fds: Sequence[int]) -> bool:
        """Whether there was a server to send the order to; for whoever holds the lock."""
        channel = self.connected()
        self.handles[handle.id] = handle
        try:
            channel.send(request, fds)
        except OSError as error:
            del self.handles[handle.id]
            if not isinstance(error, ConnectionError):
                raise ForkServerError(f"The fork server cannot be asked: {error.strerror}.") from error
            self.lose(channel)
            return False
        return True

    def warm(self, env: Mapping[str, str], imports: frozenset[str]) -> None:
        """Have a parent ready for notebooks that import these modules."""
        self.send({"op": "warm", "env": import_time_variables(env), "imports": sorted(imports)})

    def wait_warm(self, env: Mapping[str, str], imports: frozenset[str], seconds: float = 60.0) -> None:
        """As `warm`, and wait until every parent is ready; until then kernels start from the best that is."""
        deadline = time.monotonic() + seconds
        while True:
            self.warm(env, imports)  # again, for one that was refused a module has ended
            if all(parent["ready"] for parent in self.status()["parents"]):
                return
            if time.monotonic() > deadline:
                raise ForkServerGone(f"No parent was warm within {seconds:g} s; see {self.directory / 'log'}.")
            time.sleep(0.05)

    def status(self, seconds: float = 5.0) -> Message:
        with self.replied:
            self.send({"op": "status"})
            if not self.replied.wait_for(lambda: self.replies, seconds):
                raise ForkServerGone("The fork server did not answer.")
            return self.replies.pop()

    def stop(self) -> None:
        """End the server and every kernel of every client."""
        with contextlib.suppress(ForkServerError, OSError):
            self.send({"op": "stop"})

    def close(self) -> None:
        """Disconnect; the server ends the kernels of this client."""
        self.closing = True
        with self.lock:
            if self.channel is not None:
                with contextlib.suppress(OSError):
                    self.channel.sock.shutdown(socket.SHUT_RDWR)

    def send(self, message: Message) -> None:
        with self.lock, contextlib.suppress(OSError):
            self.connected().send(message)

    # -- listening ------------------------------------------------------------------------------------

    def connected(self) -> Channel:
        if self.channel is None:
            try:
                sock, pid = connect_or_start(self.directory, self.idle_seconds)
                channel = Channel(sock)
                threading.Thread(
                    target=self.listen, args=(channel, pid), name="fork-server-client", daemon=True
                ).start()
            except (OSError, RuntimeError) as error:
                raise ForkServerGone(f"The fork server cannot be started in {self.directory}: {error}.") from error
            self.channel = channel
        return self.channel

    def listen(self, channel: Channel, server_pid: int | None) -> None:
        with contextlib.suppress(OSError, ForkServerError):
            while received := channel.receive():
                self.hear(received[0])
        with self.lock:
            self.lose(channel)
        channel.close()
        if server_pid is not None and not self.closing:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(server_pid, 0)

    def hear(self, event: Message) -> None:
        if event["event"] == "status":
            with self.replied:
                self.replies.append(event)
                self.replied.notify_all()
            return
        handle = self.handles.get(event["id"])
        if handle is None:
            return
        if event["event"] == "started":
            handle.pid = event["pid"]
        elif event["event"] == "refused":
            handle.refusal = event["reason"]
            del self.handles[handle.id]
        elif event["event"] == "exited":
            told = {name: event.get(name) for name in ("cpu_seconds", "peak_memory_bytes", "cpu_limit_seconds", "lost")}
            self.end(handle, Exit(event["status"], **told))
        handle.answered.set()

    def end(self, handle: Handle, exit: Exit) -> None:
        handle.exit = exit
        self.handles.pop(handle.id, None)
        handle.answered.set()
        handle.ended.set()

    def lose(self, channel: Channel) -> None:
        """The server has ended, and the operating system has ended its kernels with it."""
        if self.channel is not channel:
            return
        self.channel = None
        for handle in list(self.handles.values()):
            self.end(handle, Exit(9, lost="the fork server ended"))

    def start_over(self) -> None:
        """In a fork of the process that connected: nobody listens here, and what it asked for is that process's."""
        self.lock = threading.Lock()
        self.replied = threading.Condition()
        self.replies, self.handles = [], {}
        if self.channel is not None:
            self.channel.close()
            self.channel = None


def start_over_in_fork() -> None:
    for server in list(opened):
        server.start_over()


opened: weakref.WeakSet[ForkServer] = weakref.WeakSet()
os.register_at_fork(after_in_child=start_over_in_fork)
shared: dict[str, ForkServer] = {}


def shared_server(directory: str = "") -> ForkServer:
    """The connection of this process to the fork server in `directory` ('' is the user's own)."""
    if directory not in shared:
        shared[directory] = ForkServer(Path(directory) if directory else None, SHARED_IDLE_SECONDS)
    return shared[directory]


def warm_in_background(after_seconds: float = 0.0) -> None:
    """Have a parent for kernels with this process's environment, some seconds from now and without waiting for it."""
    env = dict(os.environ)

    def warm() -> None:
        try:
            time.sleep(after_seconds)
            shared_server().warm(env, frozenset())
        except ForkServerError as error:  # kernels say it again, and are ordinary processes then
            log.warning("no kernel is kept warm: %s", error)

    threading.Thread(target=warm, name="fork-server-warm", daemon=True).start()


def standard_files() -> list[int]:
    """Standard output and error, as a child would inherit them; none where one of them is closed."""
    try:
        for fd in (1, 2):
            os.fstat(fd)
    except OSError:
        return []
    return [1, 2]


def own_umask() -> int | None:
    """Of this process, asked of the system: Python reads it by setting it, for all threads."""
    _, found, rest = Path("/proc/self/status").read_text().partition("\nUmask:\t")
    return int(rest.partition("\n")[0], 8) if found else None


def own_soft_limits() -> dict[str, int]:
    """By the names of the `resource` module; a fork has the server's, which somebody else may have started."""
    return {name: resource.getrlimit(getattr(resource, name))[0] for name in LIMITS}


def connect_or_start(directory: Path, idle_seconds: float) -> tuple[socket.socket, int | None]:
    """A connection, and the server's process id if it was this process that started it."""
    if sock := connect(directory):
        return sock, None
    with locked(directory):
        # Whoever holds the lock starts the server; the others find it running when they get the lock.
        if sock := connect(directory):
            return sock, None
        pid = start(directory, idle_seconds)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not reap(pid):
            if sock := connect(directory):
                return sock, pid
            time.sleep(0.005)
    raise ForkServerGone(f"The fork server did not start; see {directory / 'log'}.")


def start(directory: Path, idle_seconds: float) -> int:
    """Start a server that outlives this process if it is still needed then."""
    log = str(directory / "log")
    return os.posix_spawn(
        sys.executable,
        [
            sys.executable,
            "-P",  # what lies in this process's folder must not shadow what the server imports
            "-m",
            "labwright.kernels.server",
            str(directory),
            "--idle-seconds",
            str(idle_seconds),
        ],
        {**import_time_variables(os.environ), **launch_mark()},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def reap(pid: int) -> bool:
    """Whether the child has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
