"""The kernel that a warm parent builds once and every fork finishes.

Before the fork everything that is the same for every kernel of one user and environment is done:
configuration read, shell and magics made, modules preloaded. After the fork `come_alive_*` does what
belongs to one kernel: sockets or channel, streams, history, identity, start-up files. No thread, ZeroMQ
context or database file exists before the fork, and an event loop only without the files that it waits with.

Faithfulness comes from running ipykernel's own code: this module only cuts `IPKernelApp.initialize` in two.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import itertools
import logging
import os
import selectors
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ipykernel.displayhook import ZMQDisplayHook
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from IPython.core.application import ENV_CONFIG_DIRS, SYSTEM_CONFIG_DIRS, BaseIPythonApplication
from tornado.ioloop import IOLoop

from labwright.kernels.channel import IN_MEMORY_HISTORY, Channel
from labwright.kernels.messages import SwitchingSession, new_id
from labwright.kernels.readings import NotingLoader, Unfit, must_be_read_by_each, own_modules
from labwright.kernels.sessions import is_alive, is_resource_tracker
from labwright.kernels.streams import OutputPump, PreforkStream, make_prefork_streams

# What an ordinary kernel loads with its sockets, before its debugger: that hides what is loaded from call stacks.
WITH_SOCKETS = ("email.parser", "psutil", "tornado.platform.asyncio")

# An argument vector as an ordinary kernel has it: libraries look for its traces in `get_ipython().config`.
UNCONNECTED_FILE = "labwright-kernel.json"


class KernelLog(logging.Logger):
    """The kernel's own log, which makes no record that nobody would see: ipykernel logs 19 for a run of four cells."""

    def isEnabledFor(self, level: int) -> bool:
        handlers = (*self.handlers, *self.root.handlers)
        return super().isEnabledFor(level) and any(level >= handler.level for handler in handlers)


class MainThreadOnly:
    """Stands for ipykernel's shell channel thread where requests come without a socket."""

    parent_thread = threading.main_thread()


class WarmKernel(IPythonKernel):
    """ipykernel's kernel, built before the fork and connected after it."""

    shell: Any
    without_sockets = False

    @classmethod
    def instance(cls, *args: Any, **traits: Any) -> WarmKernel:
        """Called by ipykernel a second time after the fork: then connect the kernel that exists."""
        made = cls.initialized()
        kernel: WarmKernel = super().instance(*args, **traits)
        if made and traits:
            kernel.connect(traits)
        return kernel

    @property
    def _supports_kernel_subshells(self) -> bool:
        return self.shell_channel_thread is not None and not self.without_sockets

    def _publish_status(self, status: str, *where: Any, **parent: Any) -> None:
        # That a kernel is starting has no cell to belong to.
        if not (self.without_sockets and status == "starting"):
            super()._publish_status(status, *where, **parent)

    def _abort_queues(self, subshell_id: str | None = None) -> None:
        # Without sockets there is no queue: the engine decides whether to go on after an error.
        if not self.without_sockets:
            super()._abort_queues(subshell_id)

    def _process_children(self) -> list[Any]:
        """What ipykernel ends at shutdown, and waits for: not what has ended and nobody reaps, nor what cleans up after
        this process."""
        children = super()._process_children()
        return [child for child in children if is_alive(child.pid) and not is_resource_tracker(child.pid)]

    def connect(self, traits: dict[str, Any]) -> None:
        for name, value in traits.items():
            setattr(self, name, value)
        self.start_over()
        from ipykernel.debugger import _is_debugpy_available

        if _is_debugpy_available:
            self.debugger = self.debugger_class(
                self.log,
                self.debugpy_stream,
                self._publish_debug_event,
                self.debug_shell_socket,
                self.session,
                self._kernel_modules,
                self.debug_just_my_code,
                self.filter_internal_frames,
            )

    def start_over(self) -> None:
        """Take an identity of its own and point the shell's publishers to the sockets of this process."""
        self.ident = new_id()
        displayhook, publisher = self.shell.displayhook, self.shell.display_pub
        displayhook.pub_socket = publisher.pub_socket = self.iopub_socket
        displayhook.topic = self._topic("execute_result")
        if name := os.environ.get("JPY_SESSION_NAME"):
            self.shell.user_ns["__session__"] = name


class Known:
    """What `%reset aggressive` must leave alone, as something that can be taken from a set."""

    def __init__(self, *parts: frozenset[str]) -> None:
        self.parts = parts

    def __rsub__(self, names: set[str]) -> set[str]:
        return names.difference(*self.parts)


def modules_since(last: str | None) -> list[str]:
    """Names of the modules that were imported after `last`, newest first. Looks at no other."""
    return list(itertools.takewhile(lambda name: name != last, reversed(sys.modules)))


STARTUP_FOLDERS = [str(Path(folder) / "startup") for folder in (*ENV_CONFIG_DIRS, *SYSTEM_CONFIG_DIRS)]


def holds_code(folder: str) -> bool:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return any(entry.name.endswith((".py", ".ipy")) for entry in entries)
    return False


class WarmKernelApp(IPKernelApp):
    """ipykernel's application, cut in two at the fork."""

    shell: Any
    streams: tuple[PreforkStream, PreforkStream] | None = None
    history_file: str | None = None
    channel: Channel | None = None
    preloaded: frozenset[str] = frozenset()
    last_preloaded: str | None = None
    added_environment: Mapping[str, str] = {}
    asyncio_loop: Any = None
    python_config_loader_class = NotingLoader

    def load_config_file(self, *given: Any, **named: Any) -> None:
        """As IPython's, for what each of the forks would find there as well; Unfit says why it would not."""
        before = list(sys.modules)
        self.raise_config_file_errors = True
        try:
            super().load_config_file(suppress_errors=None)
        except (Exception, SystemExit) as error:
            what = f"{type(error).__name__}: {error}"
            raise Unfit(f"IPython's configuration cannot be loaded ahead of a kernel ({what}).") from error
        imported = own_modules(sys.modules.keys() - before)
        if reason := must_be_read_by_each([*NotingLoader.asked, *imported]):
            raise Unfit(f"IPython's configuration is for each kernel to read: {reason}.")

    def warm_up(self) -> None:
        """Everything up to the fork. Nothing here may start a thread or open a socket or file for good."""
        launcher = importlib.util.find_spec("ipykernel_launcher")
        assert launcher is not None
        sys.argv = [str(launcher.origin), "-f", UNCONNECTED_FILE, IN_MEMORY_HISTORY]
        BaseIPythonApplication.initialize(self, sys.argv[1:3])
        # traitlets has filed the argument under this class; libraries look under ipykernel's.
        self.config.IPKernelApp.connection_file = UNCONNECTED_FILE
        self.log.__class__ = KernelLog
        # A history on disk is one process's, so the shell starts without; `come_alive_over_zmq` opens it.
        self.history_file = self.config.HistoryManager.get("hist_file")
        self.config.HistoryManager.hist_file = ":memory:"
        self.init_pdb()
        self.kernel_class = WarmKernel
        self.session = SwitchingSession(parent=self)
        self.configure_tornado_logger()
        self.streams = make_prefork_streams()
        self.patch_io()
        for name in WITH_SOCKETS:
            importlib.import_module(name)
        self.kernel = self.kernel_class.instance(
            parent=self,
            session=self.session,
            log=self.log,
            profile_dir=self.profile_dir,
            user_ns=self.user_ns,
        )
        self.init_path()
        self.init_shell()
        self.shell._last_traceback = None  # ipykernel reads it also where IPython has shown an error by itself
        self.displayhook = ZMQDisplayHook(self.session, None)
        self.displayhook.get_execution_count = lambda: self.kernel.execution_count
        for stream in self.streams:
            stream.prepare(self.session)
        self.prepare_history()
        self.prepare_event_loop()
        self.warm_caches()

    def configure_tornado_logger(self) -> None:
        """Once: ipykernel asks for it again with the sockets."""
        if self.kernel is None:
            super().configure_tornado_logger()

    def warm_caches(self) -> None:
        """Do once what every kernel would do first: none of it leaves a trace in the user's namespace."""
        shell = self.shell
        # Others may look at the environment or the folder when they are loaded: those wait for the fork.
        ours = [name for name in self.extra_extensions if name.startswith("labwright.")]
        # So does what restores the variables that were stored last.
        restoring = {"storemagic"} if self.config.StoreMagics.get("autorestore") else set()
        for name in [*(name for name in self.default_extensions if name not in restoring), *ours]:
            shell.extension_manager.load_extension(name)
        self.default_extensions = [name for name in self.default_extensions if name in restoring]
        self.extra_extensions = [name for name in self.extra_extensions if name not in ours]
        # ipykernel asks for it with each cell.
        function: Any = type(shell).run_cell_async
        function.__signature__ = inspect.signature(function)
        tempfile.gettempdir()
        shell.transform_cell("%who\n!true\nx = 1\nx")
        shell.display_formatter.format(1)
        shell.display_formatter.format("x")
        try:
            raise ZeroDivisionError("warm")
        except ZeroDivisionError:
            shell.InteractiveTB.structured_traceback(*sys.exc_info(), tb_offset=0)

    def prepare_history(self) -> None:
        history = self.shell.history_manager
        # At exit it closes its file, and memory is memory.
        history._finalizer.detach()
        self.date_history()

    def date_history(self) -> None:
        """Have the session begin now: it was made with the parent's shell."""
        self.shell.history_manager.db.execute("UPDATE sessions SET start = datetime('now', 'localtime')")

    def prepare_event_loop(self) -> None:
        """Make the loop of every kernel, but for the files that it waits with: those are one process's."""
        self.asyncio_loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.asyncio_loop)
        IOLoop.current()
        self.asyncio_loop._close_self_pipe()
        self.asyncio_loop._selector.close()

    # -- after the fork -------------------------------------------------------------------------------

    def open_event_loop(self) -> None:
        self.asyncio_loop._selector = selectors.DefaultSelector()
        self.asyncio_loop._make_self_pipe()
        # Python 3.12 takes it from a fork.
        asyncio.set_event_loop(self.asyncio_loop)

    def come_alive_in_notebook(self, channel: Channel, echo: bool) -> None:
        """Finish as the kernel of a notebook run: requests and replies take `channel`, no socket is made.

        `echo`: what is written to the descriptors goes on to where they led before.
        """
        self.start_over()
        lock = threading.RLock()
        self.session.plug_into_channel(channel, lock)
        self.install_displayhook()
        kernel = self.kernel
        kernel.without_sockets = True
        # It waits for ZeroMQ to deliver what was printed; a channel delivers in order.
        kernel._execute_sleep = 0.0
        # At exit IPython empties its namespaces, which `leave` does.
        self.shell._atexit_once_called = True
        kernel.shell_channel_thread = MainThreadOnly()
        kernel.start_over()
        assert self.streams is not None
        for stream in self.streams:
            stream.plug_into_channel(lock, echo)
        self.log_beside_the_output()
        OutputPump(list(self.streams), lock).start()
        self.finish()

    def come_alive_over_zmq(self, argv: list[str], on_listening: Callable[[], None] = lambda: None) -> None:
        """Finish as a kernel that clients reach over ZeroMQ, as its connection file says."""
        self.start_over()
        sys.argv = [sys.argv[0], *argv]
        self.connection_file = argv[argv.index("-f") + 1]
        self.parent_handle = int(os.environ.get("JPY_PARENT_PID") or 0)
        if IN_MEMORY_HISTORY not in argv:
            self.open_history()
        self.init_blackhole()
        self.init_connection_file()
        self.subscribed = threading.Event()
        self.init_sockets()
        self.init_heartbeat()
        on_listening()
        self.write_connection_file()
        self.log_connection_info()
        self.init_io()
        self.init_kernel()
        self.finish()

    def start_over(self) -> None:
        self.session.start_over()
        self.open_event_loop()
        shell = self.shell
        # Sets what the shell wants in every kernel's environment (TERM, PAGER, …).
        shell.init_environment()
        here = Path.cwd()
        shell.starting_dir = str(here)
        shell.history_manager.dir_hist[:] = [here]
        self.date_history()

    def init_iopub(self, context: Any) -> None:
        super().init_iopub(context)
        welcome = self.iopub_thread._send_welcome_message

        def note(subscription: str) -> None:
            welcome(subscription)
            self.subscribed.set()

        self.iopub_thread._send_welcome_message = note

    def wait_for_subscriber(self, seconds: float) -> None:
        """Before the first request is answered: what is shown while nobody listens is lost.

        Not at a first start, whose client is there only when the kernel listens, and asks until it hears something.
        """
        self.subscribed.wait(seconds)

    def open_history(self) -> None:
        """Swap the history in memory for the one on disk that the user's kernels share."""
        shell = self.shell
        temporary = shell.history_manager
        shell.configurables.remove(temporary)
        temporary.db.close()
        shell.config.HistoryManager.pop("hist_file", None)
        if self.history_file is not None:
            shell.config.HistoryManager.hist_file = self.history_file
        shell.init_history()
        shell.init_user_ns()

    def init_io(self) -> None:
        """Plug the streams that preloaded modules already hold, where ipykernel would make new ones."""
        assert self.streams is not None
        # A stream that watches its descriptor asks the one that it takes the place of for the number.
        sys.stdout, sys.stderr = real = (sys.__stdout__, sys.__stderr__)
        for stream, echo in zip(self.streams, real, strict=True):
            echo = None if self.quiet else echo
            stream.plug_into_zmq(self.session, self.iopub_thread, echo, self.capture_fd_output)
        sys.stdout, sys.stderr = self.streams
        self.log_beside_the_output()
        self.install_displayhook()

    def log_beside_the_output(self) -> None:
        """Send the kernel's own log where stderr led before, as ipykernel does: it is no output of a cell."""
        assert self.streams is not None
        raw = getattr(self.streams[1], "_original_stdstream_copy", None)
        if raw is None:
            return
        for handler in self.log.handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(open(raw, "w", closefd=False))  # noqa: SIM115 - lives as long as the log

    def install_displayhook(self) -> None:
        self.displayhook.pub_socket = self.iopub_socket
        sys.displayhook = self.displayhook

    def finish(self) -> None:
        """The last steps of `IPKernelApp.initialize`, which run the user's own start-up code."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.init_gui_pylab()
        self.init_extensions()
        self.init_code()
        sys.stdout.flush()
        sys.stderr.flush()

    def _run_startup_files(self) -> None:
        """Where there are any: IPython looks for them with six patterns."""
        assert self.profile_dir is not None
        folders = [self.profile_dir.startup_dir, *STARTUP_FOLDERS]
        if os.environ.get("PYTHONSTARTUP") or any(map(holds_code, folders)):
            super()._run_startup_files()

    def init_code(self) -> None:
        """As IPython's, which then lists all modules by name: that would copy 700 pages that a fork shares."""
        self._run_startup_files()
        self._run_exec_lines()
        self._run_exec_files()
        if self.hide_initial_ns:
            self.shell.user_ns_hidden.update(self.shell.user_ns)
        self._run_cmd_line_code()
        self._run_module()
        sys.stdout.flush()
        sys.stderr.flush()
        self.shell._sys_modules_keys = Known(self.preloaded, frozenset(modules_since(self.last_preloaded)))
