"""What a forked kernel does from its first to its last instruction."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import gc
import os
import resource
import signal
import sys
import threading
from collections import deque
from typing import Any, NoReturn

from ipykernel.kernelbase import Kernel
from tornado.ioloop import IOLoop

from labwright.kernels.channel import Channel, Message
from labwright.kernels.sessions import has_children
from labwright.kernels.warm import WarmKernelApp, modules_since

CONTROL_SECONDS = 5.0
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
        self.channel.send({"op": "ready", "language_info": self.kernel.language_info})
        loop.start()

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

    channel = Channel(socket.socket(fileno=fds[0]))
    app.channel = channel
    app.come_alive_in_notebook(channel)
    NotebookKernel(app, channel).serve()


def run_over_zmq(app: WarmKernelApp, request: Message, fds: list[int]) -> None:
    output, errors, listening = fds
    for number, fd in ((1, output), (2, errors)):
        os.dup2(fd, number)
        os.close(fd)
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
    for module in added:
        vars(module).clear()
    # Cheap: what the parent made is frozen and not visited.
    gc.collect()
