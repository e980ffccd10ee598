"""The warm parents of a fork server: started on demand, replaced when they have gone stale or grown."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labwright.kernels import channel as channels
from labwright.kernels.channel import Channel, Message
from labwright.kernels.environment import (
    Fingerprint,
    fingerprint,
    identity,
    import_time_variables,
    launch_mark,
    watched_paths,
    written_since,
)
from labwright.kernels.errors import SpawnRefused
from labwright.kernels.preload import BASE, DEFAULT_SETS, choose_set, read_sets, shadowed, top_level, with_base

log = logging.getLogger("labwright.kernels.nursery")

# More than this many kinds of parents at a time would cost more memory than they save time.
MOST_PARENTS = 8
# After the first kernel of a Lab: its person waits for the first cells, and importing a set takes seconds of a core.
LEISURE_SECONDS = 15.0
# A parent only grows when something leaks; then a new one is cheaper than finding out what.
MOST_GROWTH_BYTES = 64 * 1024 * 1024


@dataclass
class Order:
    """A kernel that was asked for and not yet forked, with the file descriptors that it will get."""

    client: Any
    key: str
    request: Message
    fds: list[int]

    def forget(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


@dataclass
class Parent:
    """A process that forks. `kernels` are those it has been asked for and that have not ended."""

    identity: str
    preload: str
    process: subprocess.Popen[bytes]
    channel: Channel
    fingerprint: Fingerprint
    watched: Sequence[Path]
    variables: Mapping[str, str]
    scratch: Path
    born_ns: int = field(default_factory=time.time_ns)
    used: float = field(default_factory=time.monotonic)
    ready: bool = False
    kernels: set[str] = field(default_factory=set)
    modules: frozenset[str] = frozenset()
    resident_bytes: int = 0
    retired: bool = False
    spoilt: bool = False
    orders: list[Order] = field(default_factory=list)

    def take(self, order: Order) -> None:
        if self.ready:
            self.send(order.request, order.fds)
            order.forget()
        else:
            self.orders.append(order)

    def become_ready(self, modules: frozenset[str]) -> None:
        self.ready = True
        self.modules = modules
        self.resident_bytes = resident_bytes(self.process.pid)
        for order in self.give_back():
            self.take(order)

    def watch(self, read: Iterable[str]) -> None:
        """Also what it says that it has read. What was written while it warmed up it may have as it was before."""
        new = [path for path in map(Path, read) if path not in self.watched]
        stale = any(written_since(path, self.born_ns) for path in new)
        self.watched = (*self.watched, *new)
        self.fingerprint = () if stale else (*self.fingerprint, *fingerprint(new))

    def is_stale(self) -> bool:
        return fingerprint(self.watched) != self.fingerprint

    def cancel(self, key: str) -> bool:
        """Whether the kernel could be cancelled because it has not been forked yet."""
        for order in self.orders:
            if order.key == key:
                order.forget()
                self.orders.remove(order)
                return True
        return False

    def give_back(self) -> list[Order]:
        orders, self.orders = self.orders, []
        return orders

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        try:
            self.channel.send(message, fds)
        except OSError:
            log.warning("parent %d has gone", self.process.pid)


class Nursery:
    def __init__(self, watch: Callable[[Parent], None], scratch: Path) -> None:
        self.watch = watch
        self.scratch = scratch
        shutil.rmtree(scratch, ignore_errors=True)
        self.numbers = itertools.count(1)
        self.prefix = Path(sys.prefix)
        self.sets = with_base(DEFAULT_SETS)
        self.read_sets()
        self.refused: dict[str, str] = {}
        self.parents: dict[str, Parent] = {}
        self.leaving: list[Parent] = []
        self.failures: dict[str, tuple[int, str]] = {}
        # By their variables, with the parent that found it out.
        self.unfit: dict[str, tuple[Parent, str]] = {}
        self.postponed: dict[str, tuple[float, Mapping[str, str], frozenset[str]]] = {}

    def read_sets(self) -> None:
        """Take the sets that are declared now; a file that is broken, or half written, leaves those there are."""
        try:
            self.sets = read_sets(self.prefix)
        except (OSError, ValueError) as error:
            log.warning("the preload sets stay as they were: %s", error)

    # -- asking for a parent --------------------------------------------------------------------------

    def parent_for(
        self, env: Mapping[str, str], imports: frozenset[str], cwd: str, *, at_leisure: bool = False
    ) -> Parent:
        """A parent whose forks are what a fresh process with `env` in `cwd` would be; it may still warm up.

        `at_leisure`: a set that is not there yet is for later kernels, and must not slow down what starts now.
        """
        if at_leisure and self.name_of(env, imports) not in self.parents:
            self.postponed.setdefault(self.name_of(env, imports), (time.monotonic() + LEISURE_SECONDS, env, imports))
            parent = self.warmest(env, imports)
        else:
            parent = self.warm_or_bare(env, imports)
        if not parent.ready and parent.preload != BASE:
            # Importing the set takes seconds: until then a kernel imports the rest that it needs.
            parent = self.warmest(env, imports)
        modules = parent.modules or frozenset(map(top_level, self.sets[parent.preload]))
        if parent.preload != BASE and shadowed(cwd, modules):
            # The notebook's folder has a module of its own by the name of one that is preloaded.
            parent = self.warm(env, frozenset())
        parent.used = time.monotonic()
        return parent

    def warm_or_bare(self, env: Mapping[str, str], imports: frozenset[str]) -> Parent:
        """The parent that fits best, or the bare one where that does not start."""
        try:
            return self.warm(env, imports)
        except SpawnRefused as refusal:
            if choose_set(self.sets, imports) == BASE:
                raise
            log.warning("a kernel starts from the bare parent: %s", refusal)
            return self.warm(env, frozenset())

    def warmest(self, env: Mapping[str, str], imports: frozenset[str]) -> Parent:
        """Of the parents that are ready the one that fits best, or the bare one."""
        variables = import_time_variables(env)
        parents = {name: self.parents.get(identity(name, variables)) for name in self.sets}
        ready = {name: self.sets[name] for name, parent in parents.items() if parent is not None and parent.ready}
        chosen = choose_set({BASE: (), **ready}, imports)
        parent = self.warm_or_bare(env, frozenset(map(top_level, self.sets[chosen])))
        return parent if parent.ready else self.warm(env, frozenset())

    def name_of(self, env: Mapping[str, str], imports: frozenset[str]) -> str:
        return identity(choose_set(self.sets, imports), import_time_variables(env))

    def warm_postponed(self) -> None:
        for name, (due, env, imports) in list(self.postponed.items()):
            if time.monotonic() >= due:
                del self.postponed[name]
                with contextlib.suppress(SpawnRefused):  # whoever asks for a kernel is told
                    self.warm(env, imports)

    def warm(self, env: Mapping[str, str], imports: frozenset[str]) -> Parent:
        variables = import_time_variables(env)
        self.refuse_unfit(variables)
        parent = self.parents.get(self.name_of(env, imports))
        if parent is not None and parent.is_stale():
            self.retire(parent)
            self.read_sets()
            self.refused.clear()
        preload = choose_set(self.sets, imports)
        name = identity(preload, variables)
        parent = self.parents.get(name)
        if parent is None:
            failed, reason = self.failures.get(name, (0, ""))
            if failed >= 3:
                del self.failures[name]
                raise SpawnRefused(f"The warm parent for {preload!r} does not start: {reason}")
            self.make_room()
            try:
                parent = self.start(name, preload, variables)
            except (OSError, ValueError) as error:
                raise SpawnRefused(f"A warm parent for {preload!r} cannot be started: {error}") from error
        return parent

    def refuse_unfit(self, variables: Mapping[str, str]) -> None:
        """Where a fork cannot be what a fresh process would be, for as long as nothing is edited."""
        if not self.unfit:
            return
        name = identity(BASE, variables)
        parent, reason = self.unfit.get(name, (None, ""))
        if parent is not None and not parent.is_stale():
            raise SpawnRefused(reason)
        self.unfit.pop(name, None)

    def start(self, name: str, preload: str, variables: Mapping[str, str]) -> Parent:
        watched = watched_paths(variables)
        stamp = fingerprint(watched)
        scratch = self.scratch / str(next(self.numbers))
        scratch.mkdir(parents=True, exist_ok=True)
        ours, theirs = channels.pair()
        try:
            with theirs:
                process = start_parent(theirs, variables)
        except BaseException:
            ours.close()
            scratch.rmdir()
            raise
        parent = Parent(name, preload, process, Channel(ours), stamp, watched, variables, scratch)
        modules = [module for module in self.sets[preload] if module not in self.refused]
        parent.send({"op": "warm up", "modules": modules, "scratch": str(scratch)})
        self.parents[name] = parent
        self.watch(parent)
        return parent

    # -- what parents say -----------------------------------------------------------------------------

    def note(self, parent: Parent, event: Message) -> None:
        if event["event"] == "ready":
            shutil.rmtree(parent.scratch, ignore_errors=True)
            parent.watch(event["read"])
            parent.become_ready(frozenset(event["modules"]))
            self.failures.pop(parent.identity, None)
            log.info("parent %d for %s is warm after %.2f s", parent.process.pid, parent.preload, event["seconds"])
        elif event["event"] == "refused":
            # The parent is spoilt and ends; the next one goes without that module.
            parent.spoilt = True
            self.refused[event["module"]] = event["reason"]
            log.warning("%s is not preloaded: %s", event["module"], event["reason"])
        elif event["event"] == "unfit":
            parent.spoilt = True
            parent.watch(event["read"])
            self.unfit[identity(BASE, parent.variables)] = (parent, event["reason"])
            log.warning("kernels are ordinary processes: %s", event["reason"])

    def bury(self, parent: Parent) -> str:
        """Forget a parent that has ended, and say why it ended."""
        parent.channel.close()
        status = parent.process.wait()
        shutil.rmtree(parent.scratch, ignore_errors=True)
        if self.parents.get(parent.identity) is parent:
            del self.parents[parent.identity]
        if parent in self.leaving:
            self.leaving.remove(parent)
        if not parent.ready and not parent.spoilt:
            count, _ = self.failures.get(parent.identity, (0, ""))
            self.failures[parent.identity] = (count + 1, f"it ended with status {status} while it warmed up")
        return f"its parent process ended with status {status}"

    # -- retiring -------------------------------------------------------------------------------------

    def retire(self, parent: Parent) -> None:
        """Give it nothing more to do; it ends with the last of its kernels."""
        parent.retired = True
        self.parents.pop(parent.identity, None)
        self.leaving.append(parent)
        log.info("parent %d retires", parent.process.pid)

    def make_room(self) -> None:
        while len(self.parents) >= MOST_PARENTS:
            self.retire(min(self.parents.values(), key=lambda parent: parent.used))

    def retire_stale(self) -> None:
        """Let grown parents retire, and retired ones go once their kernels are done."""
        for parent in list(self.parents.values()):
            if parent.ready and grown(parent):
                self.retire(parent)
        for parent in self.leaving:
            if not parent.kernels and not parent.channel.sock._closed:  # type: ignore[attr-defined]
                parent.process.terminate()

    def pids(self) -> set[int]:
        return {parent.process.pid for parent in [*self.parents.values(), *self.leaving]}

    def close(self) -> None:
        for parent in [*self.parents.values(), *self.leaving]:
            parent.process.kill()
            parent.process.wait()
        self.parents.clear()
        self.leaving.clear()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def status(self) -> list[Message]:
        return [
            {
                "pid": parent.process.pid,
                "preload": parent.preload,
                "ready": parent.ready,
                "kernels": len(parent.kernels),
                "retired": parent.retired,
                "refused": self.refused,
            }
            for parent in [*self.parents.values(), *self.leaving]
        ]


def start_parent(channel: socket.socket, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "labwright.kernels.parent", str(channel.fileno()), str(os.getpid())],
        pass_fds=[channel.fileno()],
        stdin=subprocess.DEVNULL,
        cwd="/",
        env={**variables, **launch_mark(), "MPLBACKEND": variables.get("MPLBACKEND") or INLINE_BACKEND},
    )


# ipykernel sets it in every kernel; matplotlib reads it while it is imported.
INLINE_BACKEND = "module://matplotlib_inline.backend_inline"


def resident_bytes(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def grown(parent: Parent) -> bool:
    return resident_bytes(parent.process.pid) > parent.resident_bytes + MOST_GROWTH_BYTES
