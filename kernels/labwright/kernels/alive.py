"""What a forked kernel does from its first to its last instruction."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import gc
import io
import os
import resource
import selectors
import signal
import sys
import threading
from collections import deque
from typing import Any, NoReturn

from ipykernel.kernelbase import Kernel
from jupyter_client.session import utcnow
from tornado.ioloop import IOLoop

from labwright.kernels.afterfork import libc
from labwright.kernels.channel import Channel, Message
from labwright.kernels.sessions import has_children
from labwright.kernels.warm import WarmKernelApp, modules_since

CONTROL_SECONDS = 5.0
BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
# A client of the kernel before connects again within 0.2 s, each of its sockets by a clock of its own.
RESUBSCRIBING_SECONDS = 0.3


class NotebookKernel:
    """Answers an engine's requests one by one, in the kernel's own event loop."""

    def __init__(self, app: WarmKernelApp, channel: Channel) -> None:
        self.app = app
        self.kernel = app.kernel
        self.channel = channel
        self.waiting: deque[Message] = deque()
        self.answer: asyncio.Task[None] | None = None
        self.context = contextvars.copy_context()

    def serve(self) -> None:
        """Until the engine says that it is done, or has gone."""
        loop = IOLoop.current()
        self.kernel.shell.exit_now = False
        # Not IPythonKernel.start, which warns that there is no socket for the debugger.
        Kernel.start(self.kernel)
        loop.asyncio_loop.add_reader(self.channel.fileno(), self.receive)  # type: ignore[attr-defined]
        os.register_at_fork(after_in_child=self.leave_to_parent)
        self.channel.send({"op": "ready", "language_info": self.kernel.language_info})
        loop.start()

    def leave_to_parent(self) -> None:
        """In a process that the notebook forks: requests are its parent's, and so is the word that it has ended.

        Its loop goes on with what it has to do itself. The selector and the pipe that wakes it are shared with the
        parent's loop: to take a file out of them would take it from the parent.
        """
        self.app.channel = None
        self.waiting.clear()
        loop: Any = self.kernel.io_loop.asyncio_loop
        loop._selector = selectors.DefaultSelector()
        loop._close_self_pipe()
        loop._make_self_pipe()

    def receive(self) -> None:
        received = self.channel.receive()
        if received is None:
            # The runner is gone and with it everybody who could want a result.
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            self.waiting.append(received[0])
            self.go_on()

    def go_on(self, ended: asyncio.Task[None] | None = None) -> None:
        """Answer the next request unless one is being answered.

        No task waits for requests: a notebook that cancels every task but its own would end it.
        """
        if not self.waiting or (self.answer is not None and not self.answer.done()):
            return
        request = self.waiting.popleft()
        if request["op"] == "finish":
            self.kernel.io_loop.stop()
            return
        # A task of its own in the one context of all, as in an ordinary kernel: what a cell sets stays set
        # (numpy's print options and error handling are context variables).
        loop = self.kernel.io_loop.asyncio_loop
        answer = self.kernel.dispatch_shell([b"", as_message(request)])
        self.answer = loop.create_task(answer, context=self.context)
        self.answer.add_done_callback(self.go_on)


def as_message(request: Message) -> Message:
    """A request as the shell channel would have delivered it."""
    header = {
        "msg_id": request["id"],
        "msg_type": request["op"],
        "session": request["session"],
        "username": request.get("username", "username"),
        "date": utcnow(),
        "version": "5.4",
    }
    return {
        "header": header,
        "msg_id": header["msg_id"],
        "msg_type": header["msg_type"],
        "parent_header": request.get("parent", {}),
        "metadata": {},
        "content": request["content"],
        "buffers": [],
    }


def run_notebook(app: WarmKernelApp, request: Message, fds: list[int]) -> None:
    import socket

    own, *standard = fds
    take_standard_files(standard)
    channel = Channel(socket.socket(fileno=own))
    app.channel = channel
    app.come_alive_in_notebook(channel, echo=bool(standard))
    NotebookKernel(app, channel).serve()


def take_standard_files(fds: list[int]) -> None:
    """Standard output and error of whoever asked for the kernel, if it gave them."""
    for number, fd in enumerate(fds, start=1):
        os.dup2(fd, number)
        os.close(fd)


def run_over_zmq(app: WarmKernelApp, request: Message, fds: list[int]) -> None:
    *standard, listening = fds
    take_standard_files(standard)
    app.come_alive_over_zmq(request["argv"], on_listening=lambda: os.close(listening))
    if request["restarted"]:
        app.wait_for_subscriber(RESUBSCRIBING_SECONDS)
    app.start()
    settle_control(app)


def settle_control(app: WarmKernelApp) -> None:
    """Let the control channel finish the request that ended the kernel.

    It flushes the streams at its end and waits 10 s for the thread that sends them, which ipykernel stops first.
    """
    thread = app.control_thread
    if thread is not None and thread.is_alive():
        thread.stop()
        thread.join(CONTROL_SECONDS)


MODES = {"notebook": run_notebook, "zmq": run_over_zmq}


def live(app: WarmKernelApp, request: Message, fds: list[int]) -> NoReturn:
    """Be a kernel, and end as Python would, but without taking every module apart."""
    status = 1
    try:
        gc.enable()
        MODES[request["mode"]](app, request, fds)
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 - the top of a process
        sys.__excepthook__(*sys.exc_info())
    finally:
        leave(app, status)


def leave(app: WarmKernelApp, status: int) -> NoReturn:
    """Run what Python runs at exit; then drop the user's objects, so that their files are flushed."""
    try:
        end_children(app)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        drop_user_objects(app)
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None and not stream.closed:
                stream.flush()
        say_goodbye(app, status)
    except BaseException:  # noqa: BLE001 - the top of a process
        sys.__excepthook__(*sys.exc_info())
    finally:
        os._exit(status)


def say_goodbye(app: WarmKernelApp, status: int) -> None:
    """Tell the engine that nothing is left to do but to end, which takes the operating system a while."""
    if app.channel is None or status:
        return
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    with contextlib.suppress(OSError):
        app.channel.send({"op": "left", "cpu_seconds": cpu_seconds, "peak_memory_bytes": own.ru_maxrss * 1024})


def end_children(app: WarmKernelApp) -> None:
    """As ipykernel at shutdown: subprocesses in the kernel's group are asked to end, then made to."""
    if has_children():
        asyncio.new_event_loop().run_until_complete(app.kernel._progressively_terminate_all_children())


def drop_user_objects(app: WarmKernelApp) -> None:
    """Clear the namespaces that the run made; what was loaded before the fork holds nothing of it."""
    shell: Any = app.shell
    added = [sys.modules[name] for name in modules_since(app.last_preloaded) if name not in app.preloaded]
    shell.user_ns.clear()
    if shell.history_manager is not None:
        shell.history_manager.output_hist.clear()
    shell.last_execution_result = None
    for name in ("_", "__", "___"):
        setattr(shell.displayhook, name, None)
    for module in added:
        vars(module).clear()
    flush_open_files()
    # Cheap: what the parent made is frozen and not visited.
    gc.collect()


def flush_open_files() -> None:
    """Write what stands in buffers of files that the run opened and that something still holds.

    A cycle among them would lose it when it is collected: the file may be closed before the text reaches it.
    """
    # What the parent made is frozen and not among them: 700 objects in a plain notebook, looked at in 0.03 ms.
    for file in [each for each in gc.get_objects() if issubclass(type(each), BUFFERED)]:
        # Closed, of a descriptor that was closed, of a full disk: as in Python, the others are still written.
        with contextlib.suppress(Exception):
            file.flush()
    libc.fflush(None)
