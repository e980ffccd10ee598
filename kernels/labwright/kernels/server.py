"""The fork server: keeps warm parents for one user and environment, and forks kernels for its clients.

    python -m labwright.kernels.server DIRECTORY [--idle-seconds N]

It listens on DIRECTORY/socket and talks to processes of its own user (and root) only. It never forks user
code itself and imports nothing of the environment, so that it stays small and no kernel can take it along.

Invariants: every `spawn` is answered by one `started` or `refused`, and every `started` is followed by
exactly one `exited`. A client that disconnects takes its kernels with it. When the server dies, the
operating system kills its parents and their kernels.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labwright.kernels import afterfork
from labwright.kernels.channel import Channel, Message, peer_identity
from labwright.kernels.errors import ChannelBroken, SpawnRefused
from labwright.kernels.folder import abandoned, locked, take_away
from labwright.kernels.nursery import Nursery, Order, Parent
from labwright.kernels.sessions import (
    TRACKER_SECONDS,
    SessionBook,
    children_of,
    end_adopted,
    end_sessions,
    is_resource_tracker,
)

log = logging.getLogger("labwright.kernels.server")
# A Lab, its notebooks and its runs are a few. Each takes a file descriptor, of which kernels on their way take more.
MOST_CLIENTS = 256


@dataclass
class Client:
    channel: Channel
    kernels: set[str] = field(default_factory=set)


@dataclass
class Kernel:
    client: Client
    name: str
    parent: Parent
    pid: int | None = None


class ForkServer:
    def __init__(self, directory: Path, idle_seconds: float) -> None:
        self.directory = directory
        self.idle_seconds = idle_seconds
        self.selector = selectors.DefaultSelector()
        self.clients: dict[int, Client] = {}
        self.kernels: dict[str, Kernel] = {}
        self.book = SessionBook(directory / "sessions")
        self.nursery = Nursery(self.watch_parent, directory / "practice")
        self.idle_since = time.monotonic()
        self.stopping = False
        self.most_clients = min(MOST_CLIENTS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)

    # -- the loop -------------------------------------------------------------------------------------

    def serve(self, listener: socket.socket) -> None:
        self.watch(listener, lambda: self.accept(listener))
        while not self.stopping:
            for key, _ in self.selector.select(timeout=1.0):
                key.data()
            self.nursery.retire_stale()
            self.nursery.warm_postponed()
            if self.clients:
                self.idle_since = time.monotonic()
            elif time.monotonic() - self.idle_since > self.idle_seconds:
                break
        listener.close()
        self.nursery.close()
        self.end_kernels()

    def stop_on_sigterm(self) -> None:
        """End in order, and at once: the signal wakes the loop."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.watch(reader, self.stop)

    def stop(self) -> None:
        self.stopping = True

    def watch(self, source: Any, callback: Callable[[], None]) -> None:
        self.selector.register(source, selectors.EVENT_READ, callback)

    def accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError as error:
            # It stays in the queue until an order that holds descriptors has been carried out.
            log.warning("nobody can connect now: %s", error)
            time.sleep(0.1)
            return
        pid, uid = peer_identity(sock)
        if uid not in (0, os.geteuid()):
            log.warning("refused process %d of user %d", pid, uid)
            sock.close()
            return
        if len(self.clients) >= self.most_clients:
            log.warning("refused process %d: there are %d clients", pid, len(self.clients))
            sock.close()
            return
        sock.setblocking(False)
        client = Client(Channel(sock))
        self.clients[sock.fileno()] = client
        self.watch(sock, lambda: self.hear_client(client))

    # -- clients --------------------------------------------------------------------------------------

    def hear_client(self, client: Client) -> None:
        try:
            received = client.channel.receive()
        except ChannelBroken as broken:
            log.warning("a client was cut off: %s", broken)
            received = None
        if received is None:
            self.drop_client(client)
            return
        request, fds = received
        try:
            self.answer(client, request, fds)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # A client may be anything of this user's: what one gets wrong must not cost the others their kernels.
            log.warning("a client was cut off: its request makes no sense (%r)", error)
            self.drop_client(client)
        finally:
            for fd in fds:
                os.close(fd)

    def answer(self, client: Client, request: Message, fds: list[int]) -> None:
        match request["op"]:
            case "spawn":
                self.spawn(client, request, fds)
            case "signal":
                self.signal(full_name(client, request["id"]), int(request["number"]))
            case "warm":
                with contextlib.suppress(SpawnRefused):  # whoever asks for a kernel is told
                    self.nursery.warm(request["env"], frozenset(request["imports"]))
            case "status":
                self.tell(client, {"event": "status", **self.status()})
            case "stop":
                self.stop()
            case unknown:
                log.warning("unknown request %r", unknown)

    def signal(self, key: str, number: int) -> None:
        if key not in self.kernels:
            return
        parent = self.kernels[key].parent
        if number == signal.SIGKILL and parent.cancel(key):
            self.kernel_exited({"event": "exited", "id": key, "status": int(signal.SIGKILL)})
        else:
            parent.send({"op": "signal", "id": key, "number": number})

    def spawn(self, client: Client, request: Message, fds: list[int]) -> None:
        key = full_name(client, request["id"])
        if key in self.kernels:
            raise ValueError(f"there is a kernel {request['id']!r} already")
        order = Order(client, key, {**request, "id": key}, fds.copy())
        fds.clear()
        self.place(order)

    def place(self, order: Order) -> None:
        """Hand an order to a parent, which keeps it until it is warm."""
        request, client = order.request, order.client
        name = request["id"].partition("/")[2]
        try:
            imports, by_lab = frozenset(request["imports"]), request["mode"] == "zmq"
            parent = self.nursery.parent_for(request["env"], imports, request["cwd"], at_leisure=by_lab)
        except SpawnRefused as refusal:
            order.forget()
            self.tell(client, {"event": "refused", "id": name, "reason": str(refusal)})
            return
        except BaseException:
            order.forget()
            raise
        self.kernels[order.key] = Kernel(client, name, parent)
        client.kernels.add(order.key)
        parent.kernels.add(order.key)
        parent.take(order)

    def tell(self, client: Client, message: Message) -> None:
        # A client that has gone is dropped when its socket says so.
        with contextlib.suppress(OSError):
            try:
                client.channel.send(message)
            except BlockingIOError:
                log.warning("a client was cut off: it does not read what it is told")
                client.channel.sock.shutdown(socket.SHUT_RDWR)

    def drop_client(self, client: Client) -> None:
        self.selector.unregister(client.channel.sock)
        del self.clients[client.channel.fileno()]
        client.channel.close()
        for key in list(client.kernels):
            self.signal(key, signal.SIGKILL)

    # -- parents --------------------------------------------------------------------------------------

    def watch_parent(self, parent: Parent) -> None:
        self.watch(parent.channel.sock, lambda: self.hear_parent(parent))

    def hear_parent(self, parent: Parent) -> None:
        try:
            received = parent.channel.receive()
        except (ChannelBroken, OSError) as broken:
            log.warning("a parent was cut off: %s", broken)
            received = None
        if received is None:
            self.lose_parent(parent)
            return
        event, _ = received
        if event["event"] == "started":
            self.kernel_started(event)
        elif event["event"] == "exited":
            self.kernel_exited(event)
        elif event["event"] == "not started":
            self.kernel_refused(event)
        else:
            self.nursery.note(parent, event)

    def kernel_started(self, event: Message) -> None:
        kernel = self.kernels[event["id"]]
        kernel.pid = event["pid"]
        self.book.open(event["pid"])
        self.tell(kernel.client, {**event, "id": kernel.name})

    def kernel_refused(self, event: Message) -> None:
        kernel = self.forget_kernel(event["id"])
        self.tell(kernel.client, {"event": "refused", "id": kernel.name, "reason": event["reason"]})

    def forget_kernel(self, key: str) -> Kernel:
        kernel = self.kernels.pop(key)
        kernel.parent.kernels.discard(key)
        kernel.client.kernels.discard(key)
        return kernel

    def kernel_exited(self, event: Message) -> None:
        kernel = self.forget_kernel(event["id"])
        if kernel.pid is not None:
            self.book.close(kernel.pid)
        self.tell(kernel.client, {**event, "id": kernel.name})

    def lose_parent(self, parent: Parent) -> None:
        """A parent has ended; its kernels died with it, and each still owes its client a last word."""
        self.selector.unregister(parent.channel.sock)
        reason = self.nursery.bury(parent)
        orders = parent.give_back()
        for order in orders:
            parent.kernels.discard(order.key)
            del self.kernels[order.key]
        self.end_left_of(parent.kernels)
        for key in list(parent.kernels):
            self.kernel_exited({"event": "exited", "id": key, "status": int(signal.SIGKILL), "lost": reason})
        self.end_strays()
        for order in orders:
            self.place(order)

    def end_kernels(self) -> None:
        """After the last parent: its kernels have died with it, but not what they started."""
        self.end_left_of(self.kernels)
        self.end_strays()

    def end_left_of(self, keys: Iterable[str]) -> None:
        """End what kernels have started that died with their parent."""
        sessions = {pid for key in keys if (pid := self.kernels[key].pid) is not None}
        for pid in sessions:
            end_adopted(pid)
        if sessions:
            end_sessions(sessions)

    def end_strays(self) -> None:
        """Whatever became ours without being a parent was left by a parent that has ended.

        Resource trackers among it, of kernels that had ended before, get to clean up as in `end_sessions`.
        """
        deadline = time.monotonic() + TRACKER_SECONDS
        # The end of one makes us the parent of what it had started.
        while strays := set(children_of(os.getpid())) - self.nursery.pids():
            for pid in strays:
                if time.monotonic() >= deadline or not is_resource_tracker(pid):
                    end_adopted(pid)
            time.sleep(0.01)

    def status(self) -> Message:
        return {
            "pid": os.getpid(),
            "clients": len(self.clients),
            "kernels": len(self.kernels),
            "parents": self.nursery.status(),
        }


def full_name(client: Client, name: str) -> str:
    """Kernels are named by their clients; two clients may choose the same name."""
    return f"{id(client)}/{name}"


def listen(directory: Path) -> socket.socket:
    path = directory / "socket"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous)
    listener.listen(64)
    return listener


def end_abandoned(directory: Path) -> None:
    """End what servers that were killed left running, and remove their folders."""
    for folder in abandoned(directory):
        SessionBook(folder / "sessions").end_all()
        take_away(folder)


def leave_folder(directory: Path) -> None:
    """Take the folder away, unless somebody who found nobody listening has started the next server there."""
    if holder(directory) == os.getpid():
        with locked(directory):
            if holder(directory) == os.getpid():
                take_away(directory)


def holder(directory: Path) -> int | None:
    """The process id of the server that last started in this folder."""
    try:
        return int((directory / "pid").read_text())
    except FileNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--idle-seconds", type=float, default=600.0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    # Whatever the process that started this one had open would stay open for as long as the server lives.
    afterfork.close_files_except(())
    # Strays of a lost parent come here and not to process 1, so that they can be found and ended.
    afterfork.adopt_orphans()
    os.chdir("/")
    server = ForkServer(options.directory, options.idle_seconds)
    server.book.end_all()
    (options.directory / "pid").write_text(f"{os.getpid()}\n")
    listener = listen(options.directory)
    server.stop_on_sigterm()
    end_abandoned(options.directory)
    server.serve(listener)
    leave_folder(options.directory)


if __name__ == "__main__":
    main()
