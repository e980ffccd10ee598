"""Gives kernels of the fork server to whatever starts kernels through jupyter_client: Lab, nbclient, VS Code.

Labwright's server extension makes it the one of every kernelspec that names none, above all of `python3`. Elsewhere
a kernelspec names it in its metadata:

    "metadata": {"kernel_provisioner": {"provisioner_name": "labwright-provisioner", "config": {…}}}

The kernel is a full ipykernel over ZeroMQ. Where fork server and client are on one machine it listens on Unix
sockets; the connection file says so to every other client.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Bool, Float, List, Unicode

from labwright.kernels.client import Exit, Handle, shared_server
from labwright.kernels.deaths import OomWatch, explain, explain_memory_of_server, limit_bytes
from labwright.kernels.errors import ForkServerError
from labwright.kernels.folder import default_directory, make_private
from labwright.kernels.notebook_imports import imports_in_file
from labwright.kernels.suitability import forkable

# A Unix socket's path has at most 107 bytes, and the port is still to be added.
LONGEST_SOCKET_PREFIX = 104
# It listens within 30 ms; one that does not may still come, as an ordinary kernel would.
LISTENING_SECONDS = 10.0
# What whoever starts a kernel may ask of a child process of its own: other files than its own, a life after its end.
ONLY_OF_A_CHILD = ("stdin", "stdout", "stderr", "independent")


class ForkServerProvisioner(LocalProvisioner):
    """A kernel that is a fork; the fork server owns its process.

    What cannot be a fork (another interpreter, arguments that an ordinary kernel reads at its start) becomes
    an ordinary process, as `LocalProvisioner` makes it.
    """

    directory = Unicode("", config=True, help="Folder of the fork server; empty means the user's own.")
    imports = List(
        Unicode(),
        default_value=["pandas", "sklearn", "matplotlib"],
        config=True,
        help="Modules that kernels from this kernelspec mostly need: with the notebook's they choose the preload set.",
    )
    local_transport = Bool(
        True, config=True, help="Listen on Unix sockets, which need no free ports and no race for them."
    )
    start_seconds = Float(60.0, config=True, help="Seconds to wait for a parent that still has to warm up.")

    handle: Handle | None = None
    oom: OomWatch | None = None
    stopped_on_purpose = False
    death: str | None = None
    died = False
    launched = False

    # -- starting -------------------------------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Write the connection file and say how an ordinary kernel would be started with it."""
        if self.local_transport and self.parent is not None:
            self.choose_unix_sockets(self.parent)
        return await super().pre_launch(**kwargs)

    def choose_unix_sockets(self, manager: Any) -> None:
        """Unless somebody chose ports or an address already, as a restart and a remote client do."""
        if manager.transport != "tcp" or manager.shell_port or manager.ip not in ("127.0.0.1", "localhost"):
            return
        directory = Path(self.directory) if self.directory else default_directory()
        try:
            make_private(directory)
        except ForkServerError as error:
            self.log.warning("Kernel %s listens on ports: %s", self.kernel_id, error)
            return
        prefix = directory / f"k-{hashlib.sha256(self.kernel_id.encode()).hexdigest()[:13]}"
        if can_hold_sockets(prefix):
            manager.cache_ports = False
            manager.transport = "ipc"
            manager.ip = str(prefix)

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        self.handle = None
        self.stopped_on_purpose = False
        # Told while Jupyter Server starts the kernel again by itself, and until it is started once more.
        if not self.died:
            self.death = None
        self.died = False
        restarted, self.launched = self.launched, True
        self.oom = OomWatch()
        argv = forkable(cmd)
        if argv is None or any(kwargs.get(name) for name in ONLY_OF_A_CHILD):
            return await super().launch_kernel(cmd, **kwargs)
        self.cwd = kwargs.get("cwd") or "."
        env = {**kwargs["env"], "JPY_PARENT_PID": str(os.getpid())}
        loop = asyncio.get_running_loop()
        try:
            self.handle = await loop.run_in_executor(None, self.spawn, Path(self.cwd), env, argv, restarted)
        except (ForkServerError, FileNotFoundError) as error:
            self.log.warning("Kernel %s is an ordinary process: %s", self.kernel_id, error)
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self.handle.pid
        return self.connection_info

    def spawn(self, cwd: Path, env: dict[str, str], argv: list[str], restarted: bool) -> Handle:
        """A kernel that listens already: a client that connects sooner waits out ZeroMQ's reconnect interval."""
        fds = [standard_file(sys.__stdout__, 1), standard_file(sys.__stderr__, 2)]
        server = shared_server(self.directory)
        listening, told = os.pipe()
        try:
            try:
                imports = imports_in_file(env.get("JPY_SESSION_NAME", ""), self.imports)
                handle = server.spawn("zmq", cwd.absolute(), env, [*fds, told], imports, argv=argv, restarted=restarted)
            finally:
                os.close(told)
            handle.wait_started(self.start_seconds)
            # It reads as ended when the kernel closes it, be it because it listens or because it is dead.
            poller = select.poll()
            poller.register(listening, 0)
            poller.poll(LISTENING_SECONDS * 1000)
        finally:
            os.close(listening)
        return handle

    # -- watching and ending --------------------------------------------------------------------------

    @property
    def has_process(self) -> bool:
        return self.handle is not None or super().has_process

    async def poll(self) -> int | None:
        if self.handle is None:
            code = await super().poll()
            if code is not None and self.process is not None:
                self.tell_death(Exit(-code if code < 0 else code << 8))
            return code
        if not self.handle.ended.is_set():
            return None
        assert self.handle.exit is not None
        self.tell_death(self.handle.exit)
        return exit_code(self.handle)

    async def wait(self) -> int | None:
        handle = self.handle
        if handle is None:
            return await super().wait()
        # Set from the thread that listens to the fork server: an asyncio.Event would not hear of it.
        while not handle.ended.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        self.handle = None
        return exit_code(handle)

    async def send_signal(self, signum: int) -> None:
        if signum in (signal.SIGTERM, signal.SIGKILL):
            self.stopped_on_purpose = True
        if self.handle is None:
            await super().send_signal(signum)
        else:
            self.handle.signal(signum)

    async def kill(self, restart: bool = False) -> None:
        await (super().kill(restart) if self.handle is None else self.send_signal(signal.SIGKILL))

    async def terminate(self, restart: bool = False) -> None:
        await (super().terminate(restart) if self.handle is None else self.send_signal(signal.SIGTERM))

    async def shutdown_requested(self, restart: bool = False) -> None:
        self.stopped_on_purpose = True

    async def cleanup(self, restart: bool = False) -> None:
        self.handle = None
        await super().cleanup(restart)

    def tell_death(self, exit: Exit) -> None:
        """Find out, once, why a kernel that nobody stopped has died."""
        if self.stopped_on_purpose:
            return
        self.stopped_on_purpose = self.died = True
        if exit.status == signal.SIGKILL and self.oom is not None and self.oom.struck():
            self.death = explain_memory_of_server(limit_bytes(self.oom.group))
        else:
            self.death = explain(exit)
        self.log.error("Kernel %s: %s", self.kernel_id, self.death)


def exit_code(handle: Handle) -> int:
    assert handle.exit is not None
    return os.waitstatus_to_exitcode(handle.exit.status)


def can_hold_sockets(prefix: Path) -> bool:
    """Whether sockets by names that begin so can be made: not where the disk is full or the path too long."""
    if len(os.fsencode(prefix)) > LONGEST_SOCKET_PREFIX:
        return False
    probe = f"{prefix}-0"
    with socket.socket(socket.AF_UNIX) as made:
        try:
            made.bind(probe)
            Path(probe).unlink()
        except OSError:
            return False
    return True


def standard_file(stream: Any, number: int) -> int:
    """The descriptor that an ordinary kernel would have inherited."""
    try:
        fileno: int = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return number
    return fileno
