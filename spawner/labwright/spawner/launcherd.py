"""The privileged process that starts people's processes, asked over a Unix socket.

It is the only part that keeps root when the workbench is started by root. It starts processes as `lw-<slug>` accounts
and as nobody else; only root and the service users may ask (SO_PEERCRED). Its children outlive hub and core, and its
own restart: a state file names them by pid and start time.

One request per connection: a line of JSON `{"op": …}`, answered by a line `{"ok": …}` or `{"error": problem}`.
Single-threaded by design, see `execution`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import pwd
import signal
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from labwright.api.errors import Forbidden, InternalError, InvalidRequest, LabwrightError, NotFound, Unavailable
from labwright.spawner import cgroups, execution, gpus, listeners, processes
from labwright.spawner.accounts import Account, ensure_account
from labwright.spawner.launcher import PATH, Limits
from labwright.spawner.records import Record, Records, describe_exit
from labwright.spawner.template import Template

log = logging.getLogger("labwright.launcher")
MAX_LINE = 1 << 20
POLL_SECONDS = 0.05
LEFTOVER_SECONDS = 2.0
TRACKER_SECONDS = 2.0
Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class LauncherService:
    """Owns the people's processes of one workbench."""

    def __init__(
        self,
        homes: Path,
        records: Records,
        *,
        by_user: bool,
        groups: cgroups.Cgroups | None,
        template: Template | None = None,
        gpus_of_machine: Sequence[gpus.Gpu] = (),
    ) -> None:
        self._homes = homes
        self._records = records
        self._by_user = by_user
        self._groups = groups
        self._template = template
        self._gpus = gpus_of_machine
        self._closing = False
        self._cleanups: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, Handler] = {
            "prepare": self.prepare,
            "launch": self.launch,
            "status": self.status,
            "signal": self.send_signal,
            "stop": self.stop,
            "list": self.list_running,
            "controllers": self.list_controllers,
            "stop_all": self.stop_all,
        }

    def handler(self, op: object) -> Handler:
        found = self._handlers.get(str(op))
        if found is None:
            raise InvalidRequest(f"The launcher knows no '{op}'.")
        return found

    async def prepare(self, ask: dict[str, Any]) -> dict[str, Any]:
        return {"home": str(self._account(ask).home)}

    async def launch(self, ask: dict[str, Any]) -> dict[str, Any]:
        argv = [str(part) for part in ask["argv"]]
        if self._closing:
            raise Unavailable("The launcher", remedy="The workbench is being stopped.")
        if not argv:
            raise InvalidRequest("There is no program to start.")
        account = self._account(ask)
        limits = Limits(**ask.get("limits", {}))
        record = Record.new(ask["principal"], str(ask.get("name") or argv[0]))
        folders = self._groups.create(record.id, limits) if self._groups else []
        by_group = self._groups is not None and self._groups.limits_memory
        record.cgroups = [str(folder) for folder in folders]
        record.enforced = enforced_by(limits, by_group=by_group)
        command = execution.Command(
            argv=argv,
            env=complete_environment(ask.get("env", {}), account, record.id) | self._choose_gpus(record, limits),
            cwd=Path(ask["cwd"]) if ask.get("cwd") else account.home,
            log=below_home(ask["log"], account.home) if ask.get("log") else None,
            uid=account.uid if self._by_user else None,
            gid=account.gid,
            limits=limits,
            cgroups=folders,
            limit_memory=not by_group,
        )
        try:
            record.pid = self._start(command)
        except LabwrightError:
            cgroups.remove(folders)
            raise
        stat = processes.read_stat(record.pid)
        record.start_ticks = stat.start_ticks if stat else 0
        self._records.add(record)
        log.info("started %s (%s) of %s as pid %d", record.id, record.name, record.principal, record.pid)
        return {"id": record.id, "pid": record.pid, "enforced": record.enforced}

    def _choose_gpus(self, record: Record, limits: Limits) -> dict[str, str]:
        """Note on the record which GPUs it holds; the variables that show it those alone."""
        if limits.gpus is None:
            return {}
        used = [key for other in self._records.all() if not other.ended for key in other.gpus]
        given = gpus.least_used(self._gpus, used, limits.gpus)
        record.gpus = [gpu.key for gpu in given]
        return gpus.visible(self._gpus, given)

    def _start(self, command: execution.Command) -> int:
        if self._template is not None and self._template.serves(command.argv):
            pid = self._template.start(command)
            if pid is not None:
                return pid
        return execution.start(command)

    async def status(self, ask: dict[str, Any]) -> dict[str, Any]:
        record = self._record(ask)
        if not record.ended:
            self._measure(record)
        return {
            "running": not record.ended,
            "exit_code": record.exit_code,
            "reason": record.reason,
            "cpu_seconds": record.cpu_seconds,
            "memory_bytes": 0 if record.ended else record.memory_bytes,
            "peak_memory_bytes": record.peak_memory_bytes,
        }

    async def send_signal(self, ask: dict[str, Any]) -> dict[str, Any]:
        record = self._record(ask)
        if not record.ended and processes.is_running(record.pid, record.start_ticks):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(record.pid, int(ask["number"]))
        return {}

    async def stop(self, ask: dict[str, Any]) -> dict[str, Any]:
        record = self._record(ask)
        record.stopping = True
        await self._end(record, float(ask.get("grace_seconds", 10.0)))
        return await self.status(ask)

    async def list_running(self, ask: dict[str, Any]) -> dict[str, Any]:
        alive = [record for record in self._records.all() if not record.ended]
        return {"processes": [{"id": r.id, "principal": r.principal, "name": r.name, "pid": r.pid} for r in alive]}

    async def list_controllers(self, ask: dict[str, Any]) -> dict[str, Any]:
        return {"controllers": sorted(self._groups.parents) if self._groups else []}

    async def stop_all(self, ask: dict[str, Any]) -> dict[str, Any]:
        # Core puts the run of a stopped runner back and starts another one, which nobody would end any more.
        self._closing = True
        alive = [record for record in self._records.all() if not record.ended]
        for record in alive:
            record.stopping = True
        await asyncio.gather(*(self._end(record, float(ask.get("grace_seconds", 5.0))) for record in alive))
        return {"stopped": len(alive)}

    async def _end(self, record: Record, grace_seconds: float) -> None:
        """TERM, wait, KILL, until nothing of the launch is left."""
        loop = asyncio.get_running_loop()
        if not record.ended and processes.is_running(record.pid, record.start_ticks):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(record.pid, signal.SIGTERM)
        deadline = loop.time() + grace_seconds
        while processes.is_running(record.pid, record.start_ticks) and loop.time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        await self._end_family(record, min(deadline, loop.time() + LEFTOVER_SECONDS))
        self.reap()
        if not record.ended:
            self._note_end(record, None)

    async def _end_family(self, record: Record, deadline: float) -> None:
        """End what is left of a launch in other sessions or groups: TERM until the deadline, then KILL.

        Resource trackers ignore TERM. They get some seconds more: as soon as they are alone they remove what the others
        left in /dev/shm, and end.
        """
        loop = asyncio.get_running_loop()
        asked: set[int] = set()
        while members := self._family(record):
            for pid in members:
                last = deadline + TRACKER_SECONDS if processes.is_resource_tracker(pid) else deadline
                number = signal.SIGTERM if loop.time() < last else signal.SIGKILL
                if number == signal.SIGKILL or pid not in asked:
                    asked.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
            await asyncio.sleep(POLL_SECONDS)
            self.reap()
        cgroups.remove([Path(folder) for folder in record.cgroups])

    def _family(self, record: Record) -> list[int]:
        known = cgroups.members([Path(folder) for folder in record.cgroups])
        leader = record.pid if processes.is_running(record.pid, record.start_ticks) else -1
        return [stat.pid for stat in processes.family(leader, record.id, known) if stat.pid != os.getpid()]

    def reap(self) -> None:
        """Collect every child that ended. Orphans of people's processes come to us too (child subreaper)."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._template is not None:
                self._template.ended(pid)
            record = self._records.by_pid(pid)
            if record is not None:
                self._note_end(record, os.waitstatus_to_exitcode(status))

    def look_after(self) -> None:
        """Keep the template, and notice the end of what a former launcher started (they are not our children)."""
        if self._template is not None:
            self._template.look_after()
        for record in self._records.all():
            if not record.ended and not processes.is_running(record.pid, record.start_ticks):
                self._note_end(record, None)

    def _note_end(self, record: Record, exit_code: int | None) -> None:
        seen = cgroups.usage([Path(folder) for folder in record.cgroups])
        if seen is not None:
            record.peak_memory_bytes = max(record.peak_memory_bytes, seen.peak_bytes)
        record.exit_code = exit_code
        record.reason = describe_exit(
            exit_code, out_of_memory=bool(seen and seen.killed_for_memory), stopping=record.stopping
        )
        record.ended = True
        self._records.save()
        log.info("ended %s (%s) of %s: %s", record.id, record.name, record.principal, record.reason)
        task = asyncio.ensure_future(self._end_family(record, asyncio.get_running_loop().time() + LEFTOVER_SECONDS))
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)

    def _measure(self, record: Record) -> None:
        stats = processes.family(record.pid, record.id, cgroups.members([Path(folder) for folder in record.cgroups]))
        if not stats and not processes.is_running(record.pid, record.start_ticks):
            return
        record.cpu_seconds = max(record.cpu_seconds, sum(stat.cpu_seconds for stat in stats))
        record.memory_bytes = sum(stat.memory_bytes for stat in stats)
        seen = cgroups.usage([Path(folder) for folder in record.cgroups])
        if seen is not None:
            record.memory_bytes = seen.memory_bytes
        record.peak_memory_bytes = max(record.peak_memory_bytes, record.memory_bytes, seen.peak_bytes if seen else 0)

    def _record(self, ask: dict[str, Any]) -> Record:
        record = self._records.get(str(ask.get("id")))
        if record is None:
            raise NotFound("process", str(ask.get("id")))
        return record

    def _account(self, ask: dict[str, Any]) -> Account:
        name = ask.get("principal")
        if not isinstance(name, str) or not 0 < len(name) <= 255 or "\0" in name:
            raise InvalidRequest("A process needs the name of the person whose it is.")
        return ensure_account(name, self._homes, by_user=self._by_user)


def enforced_by(limits: Limits, *, by_group: bool) -> str:
    if not limits.memory_bytes:
        return "none"
    return "cgroup" if by_group else "rlimit"


def complete_environment(given: dict[str, str], account: Account, launch_id: str) -> dict[str, str]:
    """Exactly what was given, with the variables that every login has, and our marker."""
    base = {"HOME": str(account.home), "USER": account.user, "LOGNAME": account.user, "SHELL": "/bin/bash"}
    return {"PATH": PATH, **base, **{str(k): str(v) for k, v in given.items()}, processes.MARKER: launch_id}


def below_home(path: str, home: Path) -> Path:
    full = Path(os.path.normpath(home / path))
    if not full.is_relative_to(home):
        raise InvalidRequest(f"A log lies below the person's home; {path} does not.")
    return full


async def answer(service: LauncherService, allowed: set[int], reader: Any, writer: asyncio.StreamWriter) -> None:
    """Serve one connection."""
    try:
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _, uid, _ = struct.unpack("3i", peer)
        if uid not in allowed:
            raise Forbidden("Only the workbench's services may ask the launcher.")
        line = await asyncio.wait_for(reader.readline(), 10.0)
        ask = json.loads(line)
        if not isinstance(ask, dict):
            raise InvalidRequest("A request is one JSON object.")
        reply = {"ok": await service.handler(ask.get("op"))(ask)}
    except LabwrightError as error:
        reply = {"error": error.problem()}
    except (ValueError, KeyError, TypeError) as error:
        log.warning("a request could not be read (%s)", type(error).__name__)
        reply = {"error": InvalidRequest("The launcher cannot read this request.").problem()}
    except TimeoutError:
        writer.close()
        return
    except Exception:
        log.exception("a request failed")
        reply = {"error": InternalError("launcher").problem()}
    writer.write(json.dumps(reply).encode() + b"\n")
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    writer.close()


class HeldPorts:
    """Ports that only their service may take, see `listeners`. One that is not free yet is tried again."""

    def __init__(self, wanted: list[tuple[int, str]]) -> None:
        self._missing = wanted
        self._held: list[socket.socket] = []

    def take(self) -> None:
        missing = []
        for port, user in self._missing:
            try:
                self._held.append(listeners.hold(port, user))
            except OSError as error:
                log.warning("port %d is not held for %s: %s", port, user, error.strerror)
                missing.append((port, user))
        self._missing = missing


def port_and_user(text: str) -> tuple[int, str]:
    port, _, user = text.partition(":")
    return int(port), user


async def serve(
    service: LauncherService, path: Path, allowed: set[int], group: int | None, ports: HeldPorts | None = None
) -> None:
    """Listen until SIGTERM. People's processes live on."""
    execution.become_subreaper()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGCHLD, service.reap)
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - before it serves anybody
    os.umask(0o177)
    server = await asyncio.start_unix_server(
        lambda reader, writer: answer(service, allowed, reader, writer), str(path), limit=MAX_LINE
    )
    os.umask(0o077)
    if group is not None:
        os.chown(path, -1, group)
        path.chmod(0o660)  # noqa: ASYNC240
    async with server:
        while not stopped.is_set():
            service.look_after()
            if ports:
                ports.take()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description="Start people's processes for Labwright.")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--homes", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder, of this process alone")
    parser.add_argument("--by-user", action="store_true", help="each person under an account of their own (needs root)")
    parser.add_argument("--service-user", action="append", default=[], help="account that may ask, besides our own")
    parser.add_argument(
        "--hold", type=port_and_user, action="append", default=[], metavar="PORT:USER", help="keep PORT for USER alone"
    )
    parser.add_argument(
        "--template", nargs=2, metavar=("PYTHON", "MODULE"), help="keep what `PYTHON -m MODULE` imports, and fork it"
    )
    parser.add_argument("--root", type=Path, default=Path("/"), help="whose dev, proc and sys say which GPUs there are")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if options.by_user and os.geteuid() != 0:
        sys.exit("labwright launcher: --by-user needs root.")
    accounts = [pwd.getpwnam(user) for user in options.service_user]
    records = Records(options.state / "processes.json")
    groups = cgroups.detect(f"labwright-{records.instance}")
    log.info("control groups: %s", ", ".join(groups.parents) if groups else "none, resource limits instead")
    template = Template(*options.template) if options.template else None
    found = gpus.find_gpus(options.root)
    log.info("GPUs: %s", ", ".join(gpu.key for gpu in found) or "none")
    service = LauncherService(
        options.homes, records, by_user=options.by_user, groups=groups, template=template, gpus_of_machine=found
    )
    allowed = {0, os.getuid(), *(account.pw_uid for account in accounts)}
    ports = HeldPorts(options.hold)
    ports.take()
    asyncio.run(serve(service, options.socket, allowed, accounts[0].pw_gid if accounts else None, ports))


if __name__ == "__main__":
    main()
