"""A process that has imported what every person's server imports, and forks one in some milliseconds.

    python -m labwright.spawner.template MODULE CONTROL LAUNCHER_PID

It runs in the people's environment as the launcher's child, under the launcher's account; `Template` is the launcher's
end of it. `MODULE` has `import_ahead()` and `main()`; a fork is to the person what `python -m MODULE` would be.

Invariants: it has one thread, no file or socket but `CONTROL`, an environment that is always the same, and nothing of
a person or a service. What a server is started with, its token among it, travels in a memory file that only the fork
reads. The fork becomes the person (`execution.enter`) before it does anything else, and the launcher's child, since
the process between them ends at once.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import logging
import os
import select
import signal
import site
import socket
import struct
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from labwright.api.errors import InvalidRequest, Unavailable
from labwright.spawner import execution
from labwright.spawner.launcher import Limits

log = logging.getLogger("labwright.launcher")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/nonexistent",  # nobody's, least of all the launcher's
    "PYTHONDONTWRITEBYTECODE": "1",
}
AGAIN_SECONDS = 30.0  # one that does not start must not be tried all the time
FORK_SECONDS = 10.0
MESSAGE_BYTES = 1 << 17
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PR_SET_MM, PR_SET_MM_MAP = 35, 14
OURS = "labwright."


# -- the launcher's end ---------------------------------------------------------------------------------------------


class Template:
    """Forks what it is the template of, or says that it cannot at the moment, and an ordinary start is due."""

    def __init__(self, python: str, module: str) -> None:
        self.argv = [python, "-m", module]
        self.pid = 0
        self._control: socket.socket | None = None
        self._stamps: dict[str, int] = {}
        self._started = -AGAIN_SECONDS

    def serves(self, argv: Sequence[str]) -> bool:
        return list(argv[:3]) == self.argv

    def look_after(self) -> None:
        """Start it if it does not run. Called now and then."""
        if self._control is not None or time.monotonic() - self._started < AGAIN_SECONDS:
            return
        self._started = time.monotonic()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.set_inheritable(True)
        python, _, module = self.argv
        # -P: what lies in the launcher's folder is no module.
        argv = [python, "-P", "-m", __name__, module, str(theirs.fileno()), str(os.getpid())]
        with theirs:
            try:
                self.pid = os.posix_spawn(python, argv, ENVIRONMENT)
            except OSError as error:
                log.warning("no template of servers: %s cannot be run (%s)", python, error.strerror)
                ours.close()
                return
        self._control, self._stamps = ours, {}

    def start(self, command: execution.Command) -> int | None:
        """The pid of a fork that runs the command, or None; `InvalidRequest` says at which step it failed."""
        if self._control is None or not self._is_fit(self._control):
            return None
        reading, writing = os.pipe2(os.O_CLOEXEC)
        request = memory_file(json.dumps(asdict(command), default=str).encode())
        try:
            socket.send_fds(self._control, [b"fork"], [request, writing])
        except OSError:
            os.close(reading)
            self.discard()
            return None
        finally:
            os.close(request)
            os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            return self._hear(pipe)

    def _hear(self, pipe: Any) -> int | None:
        said, deadline = b"", time.monotonic() + FORK_SECONDS
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = pipe.read(4096)
            if not piece:
                pid, _, failure = said.decode().partition("\n")
                if failure:
                    raise InvalidRequest(f"'{self.argv[2]}' could not be started: {failure}.")
                if not pid:  # a fork says its pid first: the template has ended instead
                    self.discard()
                return int(pid) if pid else None
            said += piece
        self.discard()
        raise Unavailable("The launcher")

    def _is_fit(self, control: socket.socket) -> bool:
        """Whether it has imported everything, and nothing of that has changed on disk since."""
        if not self._stamps:
            try:
                told = control.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except OSError:
                return False
            if not told:
                self.discard()
                return False
            self._stamps = json.loads(told)
        if stamps(self._stamps) != self._stamps:
            log.info("the people's environment has changed: a new template of servers")
            self.discard()
            self._started = -AGAIN_SECONDS
            return False
        return True

    def ended(self, pid: int) -> None:
        """Called for a child of the launcher that was reaped."""
        if pid == self.pid:
            self.pid = 0
            self.discard()

    def discard(self) -> None:
        if self._control is not None:
            self._control.close()  # which ends it
            self._control = None


def memory_file(data: bytes) -> int:
    file = os.memfd_create("labwright-server", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(file), "wb") as writer:
        writer.write(data)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def stamps(paths: Mapping[str, int] | Sequence[str]) -> dict[str, int]:
    """When each was last written; -1 for what is not there."""
    found = {}
    for path in paths:
        try:
            found[path] = Path(path).stat().st_mtime_ns
        except OSError:
            found[path] = -1
    return found


# -- the process ----------------------------------------------------------------------------------------------------


def main() -> None:
    name, control, launcher = sys.argv[1], socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3])
    control.set_inheritable(False)
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != launcher:
        return
    os.chdir("/")
    installed = stamps([sysconfig.get_path("purelib")])
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    if os.geteuid() == 0:  # who else gives way cannot come back
        os.setpriority(os.PRIO_PROCESS, 0, 19)
    module = importlib.import_module(name)
    module.import_ahead()
    os.setpriority(os.PRIO_PROCESS, 0, priority)
    if threads := len(list(Path("/proc/self/task").iterdir())) - 1:
        sys.exit(f"labwright: no template of servers: importing {name} leaves {threads} thread(s) running")
    gc.collect()
    gc.freeze()  # what no fork frees is not written to either
    # Others' packages are replaced as a whole, which changes the folder; our own may be a checkout that somebody edits.
    control.send(json.dumps(installed | stamps(own_files())).encode())
    serve(control, libc)
    module.main()


def own_files() -> list[str]:
    files = (getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if name.startswith(OURS))
    return [file for file in files if file]


def serve(control: socket.socket, libc: ctypes.CDLL) -> None:
    """Fork whenever the launcher asks; returns in the forks alone."""
    while True:
        try:
            asked, fds, _, _ = socket.recv_fds(control, 16, 2)
        except ConnectionResetError:  # the launcher ended before it read that we are ready
            os._exit(0)
        if not asked:
            os._exit(0)
        between = os.fork()
        if between == 0:
            if os.fork():
                os._exit(0)  # the launcher becomes the parent
            control.close()
            become(fds[0], fds[1], libc)
            return
        for fd in fds:
            os.close(fd)
        os.waitpid(between, 0)


def become(request: int, report: int, libc: ctypes.CDLL) -> None:
    """Be the process of the person that `request` describes."""
    try:
        os.write(report, f"{os.getpid()}\n".encode())
        with os.fdopen(request, encoding="utf-8") as file:
            command = read_command(json.load(file))
        execution.enter(command, report)
        # It was taken away with root; nothing in here is anybody else's.
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        start_anew(command)
        show(command, libc)
        os.close(report)
    except BaseException as error:  # noqa: BLE001 - a fork must never go on as the template
        give_up(report, error)


def give_up(report: int, error: BaseException) -> NoReturn:
    os.write(report, f"starting anew failed ({type(error).__name__})".encode())
    os._exit(127)


def read_command(fields: dict[str, Any]) -> execution.Command:
    paths = {"cwd": Path(fields["cwd"]), "log": Path(fields["log"]) if fields["log"] else None}
    groups = tuple(Path(folder) for folder in fields["cgroups"])
    return execution.Command(**{**fields, **paths, "cgroups": groups, "limits": Limits(**fields["limits"])})


def start_anew(command: execution.Command) -> None:
    """Take what Python takes at its start, from the command instead of from the template."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(command.env)
    sys.dont_write_bytecode = bool(command.env.get("PYTHONDONTWRITEBYTECODE"))
    time.tzset()
    tempfile.tempdir = None
    sys.argv = [str(sys.modules[command.argv[2]].__file__), *command.argv[3:]]
    sys.path.insert(0, str(command.cwd))
    site.USER_BASE = site.USER_SITE = None
    site.getusersitepackages()
    configured: Any = getattr(sysconfig, "_CONFIG_VARS", None)
    if configured:
        configured["userbase"] = site.getuserbase()
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.ORIGINAL_DIR = str(command.cwd)
        # Made of os.urandom at import: one person's processes must not be able to speak for another's.
        process.current_process()._config["authkey"] = process.AuthenticationString(os.urandom(32))


shown: list[Any] = []  # what the kernel reads must stay where it is


def show(command: execution.Command, libc: ctypes.CDLL) -> None:
    """Have /proc tell the command's arguments and environment, by which tools and the launcher know processes.

    Where the system does not let it, the template's stay.
    """
    arguments = b"".join(os.fsencode(part) + b"\0" for part in command.argv)
    environment = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in command.env.items())
    buffer = ctypes.create_string_buffer(arguments + environment)
    start = ctypes.addressof(buffer)
    middle = start + len(arguments)
    fields = [int(text) for text in Path("/proc/self/stat").read_text().rpartition(")")[2].split()[1:]]
    fields = [0] * 4 + fields  # numbered as in proc(5)
    libc.sbrk.restype = ctypes.c_void_p
    # struct prctl_mm_map: code, data, heap, stack, arguments, environment; no auxiliary vector, the same program.
    layout = [fields[26], fields[27], fields[45], fields[46], fields[47], libc.sbrk(0), fields[28]]
    layout += [start, middle, middle, middle + len(environment), 0]
    request = struct.pack("=12QIi", *layout, 0, -1)
    if libc.prctl(PR_SET_MM, PR_SET_MM_MAP, request, len(request), 0) == 0:
        shown.append(buffer)


if __name__ == "__main__":
    main()
