"""A warm parent: it has imported a preload set, built a kernel, and forks it on request.

    python -m labwright.kernels.parent CHANNEL_FD SERVER_PID

It speaks with its fork server only and holds nothing of any run: no token (its environment is an allow-list),
no database, no socket but the channel. It has a single thread, which `preload` has made sure of.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from labwright.kernels import afterfork, heap
from labwright.kernels.alive import live
from labwright.kernels.channel import Channel, Message, read_memory_file
from labwright.kernels.errors import ChannelBroken
from labwright.kernels.firstuses import note_absent, note_no_repository
from labwright.kernels.preload import preload
from labwright.kernels.readings import Unfit, files_read
from labwright.kernels.rehearsal import rehearse
from labwright.kernels.sessions import TRACKER_SECONDS, end_group_but_trackers, has_children_in
from labwright.kernels.warm import WarmKernelApp

# Megabytes of Python's small objects that a kernel makes (24) and that the largest of the default sets makes (140).
BARE_ARENAS = 32
SET_ARENAS = 160


class WarmParent:
    def __init__(self, channel: Channel, app: WarmKernelApp) -> None:
        self.channel = channel
        self.app = app
        self.kernels: dict[int, str] = {}
        self.pids: dict[str, int] = {}
        # Groups of kernels that have ended, in which something may still run, and until when.
        self.remains: dict[int, float] = {}

    def serve(self) -> None:
        """Fork, signal and reap until the server closes the channel or dies."""
        wakeup = wake_up_on_sigchld()
        poller = select.poll()
        poller.register(self.channel.sock, select.POLLIN)
        poller.register(wakeup, select.POLLIN)
        while True:
            for fd, _ in poller.poll(TRACKER_SECONDS * 1000 if self.remains else None):
                if fd == wakeup:
                    os.read(wakeup, 4096)
                    self.reap()
                elif not self.answer():
                    return
            self.end_remains()

    def answer(self) -> bool:
        received = self.channel.receive()
        if received is None:
            return False
        request, fds = received
        if request["op"] == "spawn":
            self.fork(request, fds)
        elif request["op"] == "signal":
            self.signal(request["id"], request["number"])
        return True

    def fork(self, request: Message, fds: Sequence[int]) -> None:
        own_pid = os.getpid()
        try:
            # Told here, where it can still be refused with a reason: a kernel that is there can only die of it.
            os.close(os.open(f"{request['cwd']}/.", os.O_PATH))
            pid = os.fork()
        except OSError as error:
            for fd in fds:
                os.close(fd)
            self.channel.send({"event": "not started", "id": request["id"], "reason": why_not(error)})
            return
        if pid == 0:
            self.become(request, list(fds), own_pid)
        for fd in fds:
            os.close(fd)
        self.kernels[pid] = request["id"]
        self.pids[request["id"]] = pid
        self.channel.send({"event": "started", "id": request["id"], "pid": pid})

    def become(self, request: Message, fds: list[int], parent_pid: int) -> None:
        try:
            # Read here and not before the fork: the parent's memory must never have held a run's tokens.
            env = json.loads(read_memory_file(fds.pop(0)))
            afterfork.start_anew(
                request["cwd"],
                env,
                self.app.added_environment,
                request["umask"],
                request["soft_limits"],
                request["limits"],
                fds,
                parent_pid,
            )
        except (OSError, ValueError, ChannelBroken) as error:
            print(f"labwright: the kernel could not start: {error}", file=sys.__stderr__, flush=True)
            os._exit(70)
        live(self.app, request, fds)

    def signal(self, kernel_id: str, number: int) -> None:
        """Signal a kernel and its process group. Its pid cannot be another's: only `reap` frees it."""
        pid = self.pids.get(kernel_id)
        if pid is None:
            return
        if number == signal.SIGKILL:
            os.kill(pid, number)  # `bury` sees to its group.
            return
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            os.kill(pid, number)  # It has no group yet, but is about to make one.

    def reap(self) -> None:
        while True:
            try:
                # Look first and take later: while the zombie stands, its pid is nobody else's.
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if info is None:
                return
            self.bury(info.si_pid)

    def bury(self, pid: int) -> None:
        kernel_id = self.kernels.pop(pid, None)
        cpu_limit = cpu_limit_seconds(pid) if kernel_id is not None else {}
        _, status, usage = os.wait4(pid, 0)
        if kernel_id is None:
            return
        del self.pids[kernel_id]
        if has_children_in(pid):
            # What the notebook started and left in its process group must not outlive it, but for what cleans up.
            # The group's number is nobody else's: we have a child in it.
            end_group_but_trackers(pid)
            self.remains[pid] = time.monotonic() + TRACKER_SECONDS
        self.channel.send({"event": "exited", "id": kernel_id, "status": status, **used(usage), **cpu_limit})

    def end_remains(self) -> None:
        for group, deadline in list(self.remains.items()):
            if not has_children_in(group):
                del self.remains[group]
            elif time.monotonic() >= deadline:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)


def why_not(error: OSError) -> str:
    if error.filename is not None:
        return f"Its folder {Path(error.filename)} cannot be entered: {error.strerror}."
    return f"The operating system starts no process more ({error.strerror}); end some kernels or programs."


def used(usage: resource.struct_rusage) -> Message:
    return {
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory_bytes": usage.ru_maxrss * 1024,
    }


def cpu_limit_seconds(pid: int) -> Message:
    """What a process that has ended and is not yet reaped was allowed, and may have set for itself."""
    try:
        limit, _ = resource.prlimit(pid, resource.RLIMIT_CPU)
    except OSError:  # it had become somebody else's
        return {}
    return {} if limit == resource.RLIM_INFINITY else {"cpu_limit_seconds": limit}


def wake_up_on_sigchld() -> int:
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def leave_working_directory_out_of_path() -> None:
    """As ipykernel's launcher: what lies in the current folder must not shadow what is imported here."""
    if sys.path and (sys.path[0] == "" or Path(sys.path[0]) == Path.cwd()):
        del sys.path[0]


def main() -> None:
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    os.set_inheritable(channel.fileno(), False)
    afterfork.die_with_parent(int(sys.argv[2]))
    afterfork.adopt_orphans()
    leave_working_directory_out_of_path()
    setup = channel.receive()
    if setup is None:
        return
    started = time.perf_counter()
    before = dict(os.environ)
    arenas = heap.reserve_arenas(SET_ARENAS if setup[0]["modules"] else BARE_ARENAS)
    app = WarmKernelApp.instance()
    try:
        app.warm_up()
    except Unfit as unfit:
        channel.send({"event": "unfit", "reason": str(unfit), "read": files_read()})
        return
    # Libraries look for `get_ipython` when they are imported: without it pandas takes its output for a terminal's.
    with app.shell.builtin_trap:
        refusal = preload(setup[0]["modules"])
    if refusal is not None:
        channel.send({"event": "refused", "module": refusal.module, "reason": refusal.reason})
        return
    rehearse(app, setup[0]["modules"], Path(setup[0]["scratch"]))
    note_absent()
    note_no_repository()
    read = files_read()
    app.preloaded, app.last_preloaded = frozenset(sys.modules), next(reversed(sys.modules))
    app.added_environment = {k: v for k, v in os.environ.items() if before.get(k) != v}
    arenas.clear()
    gc.collect()
    heap.make_immortal()
    gc.freeze()
    heap.gather_in_huge_pages()
    seconds = time.perf_counter() - started
    channel.send({"event": "ready", "seconds": seconds, "modules": top_modules(), "read": read})
    WarmParent(channel, app).serve()


def top_modules() -> list[str]:
    """Top-level modules that a file of the same name in a notebook's folder would have shadowed."""
    names = {name.partition(".")[0] for name in sys.modules}
    return sorted(names - set(sys.stdlib_module_names) - {"labwright", "__main__"})


if __name__ == "__main__":
    main()
