"""Servers that are forks of the launcher's template: the same as ordinary ones, and nothing of one in another."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from labwright.api.errors import InvalidRequest
from labwright.spawner.launcher import Limits, Principal

ALICE, BOB = Principal("alice"), Principal("bob")
LIMITS = Limits(cpu=1.0, memory_bytes=1 << 30, processes=500)
PROBE = '''
import ctypes, json, multiprocessing.process, os, random, re, resource, signal, site, sys, sysconfig, tempfile, time

def import_ahead():
    global ahead
    sysconfig.get_config_var("userbase")
    ahead = True

def holds(text):
    """How often this process's memory has it; the text comes in two halves, so that the question is not found."""
    wanted, found = re.compile("{}(?:{})".format(*text).encode()), 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            area, rights, *_ = line.split()
            low, high = (int(part, 16) for part in area.split("-"))
            if rights.startswith("r") and "[v" not in line:
                try:
                    memory.seek(low)
                    found += len(wanted.findall(memory.read(high - low)))
                except (OSError, ValueError, OverflowError):
                    continue
    return found

def facts():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    names = ("Uid", "Gid", "Groups", "NoNewPrivs", "SigIgn", "SigCgt", "SigBlk", "CapEff", "CapPrm", "CapInh")
    return {
        **{name: status[name].split() for name in names},
        "environment": {name: value for name, value in os.environ.items() if name not in ("LABWRIGHT_LAUNCH", "PWD")},
        "arguments": sys.argv, "path": sys.path[0], "folder": os.getcwd(), "umask": os.umask(0o77),
        "limits": [resource.getrlimit(number) for number in range(16)],
        "oom": open("/proc/self/oom_score_adj").read(), "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "leads": os.getsid(0) == os.getpid() == os.getpgid(0),
        "files": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)],
        "more": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 1000) if os.path.lexists(f"/proc/self/fd/{fd}")],
        "threads": os.listdir("/proc/self/task") == [str(os.getpid())], "base": site.getuserbase(),
        "shown": shown("environ"), "command": shown("cmdline"),
        "configured": sysconfig.get_config_var("userbase"),
        "zone": time.tzname, "temporary": tempfile.gettempdir(), "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
        "name": __name__ if __name__ != "__main__" else "probe",
    }

def shown(file):
    parts = open(f"/proc/self/{file}").read().split("\\0")
    other = ("PWD=", "LABWRIGHT_LAUNCH=", "/")  # the first argument: an ordinary start is the wrapper's interpreter
    return sorted(part for part in parts if not part.startswith(other))

def main():
    does = sys.argv[1]
    if does == "facts":
        print(json.dumps(facts()))
    elif does == "own":
        own = {"key": bytes(multiprocessing.process.current_process().authkey).hex(), "random": random.random()}
        print(json.dumps({**own, "parent": os.getppid(), "ahead": "ahead" in globals()}))
    elif does == "holds":
        print(json.dumps(holds(sys.argv[2:])))
    elif does == "exit":
        sys.exit(int(sys.argv[2]))
    elif does == "raise":
        raise RuntimeError("on purpose")
    elif does == "wait":
        print("waiting", flush=True)
        signal.pause()

if __name__ == "__main__":
    main()
'''


class Probe:
    """A launcher with a template of the module above, and what its servers said."""

    def __init__(self, launcher: Any, python: str) -> None:
        self.launcher, self.client, self.python = launcher, launcher.client, python

    async def start(self, who: Principal, *arguments: str, **env: str) -> tuple[str, Path]:
        home = await self.client.prepare(who)
        log = home / f"output-{time.monotonic_ns()}"
        argv = [self.python, "-m", "probe", *arguments]
        env = {"PYTHONPATH": str(Path(self.python).parent), "LANG": "C.UTF-8", "TZ": "Asia/Tokyo", **env}
        launched = await self.client.launch(who, argv, env=env, limits=LIMITS, name="test", log=log)
        return launched.id, log

    async def run(self, who: Principal, *arguments: str, **env: str) -> Any:
        """What it printed, or how it ended."""
        id, log = await self.start(who, *arguments, **env)

        async def ended() -> Any:
            status = await self.client.status(id)
            return None if status.running else status

        status = await until(ended)
        return json.loads(log.read_text()) if status.exit_code == 0 else status

    @property
    def template(self) -> psutil.Process | None:
        """The process, once it has imported everything: then it waits for the launcher."""
        own = psutil.Process(self.launcher.process.pid)
        for child in own.children():
            if "labwright.spawner.template" in child.cmdline() and child.status() == psutil.STATUS_SLEEPING:
                return child
        return None

    async def is_forked(self) -> bool:
        return bool((await self.run(ALICE, "own"))["ahead"])

    async def forks(self) -> None:
        await until(self.is_forked)


async def until(check: Any, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := await check()):
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.05)
    return answer


async def probe_of(launcher: Any) -> Probe:
    """The template's environment is always the same, so the interpreter brings the module along."""
    folder = launcher.folder / "environment"
    folder.mkdir(mode=0o755)
    (folder / "probe.py").write_text(PROBE)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec env PYTHONPATH={folder} {sys.executable} "$@"\n')
    for file in (folder, folder / "probe.py", python):
        file.chmod(0o755)
    launcher.kill()
    launcher.start("--template", str(python), "probe")
    return Probe(launcher, str(python))


@pytest.fixture
async def probe(launcher: Any) -> Probe:
    return await probe_of(launcher)


@pytest.fixture
async def probe_by_user(launcher_by_user: Any) -> Probe:
    return await probe_of(launcher_by_user)


async def test_a_fork_is_what_an_ordinary_start_makes(probe: Probe) -> None:
    await same_facts(probe)


@pytest.mark.uid
async def test_a_fork_is_what_an_ordinary_start_makes_of_a_person(probe_by_user: Probe) -> None:
    facts = await same_facts(probe_by_user)
    assert facts["Uid"] == [facts["Uid"][0]] * 4 != ["0"] * 4
    assert facts["Groups"] == []
    assert facts["NoNewPrivs"] == ["1"]
    assert {int(mask, 16) for name in ("CapEff", "CapPrm", "CapInh") for mask in facts[name]} == {0}


async def same_facts(probe: Probe) -> dict[str, Any]:
    await probe.forks()
    forked = await probe.run(ALICE, "facts", "--one", "two", GIVEN="yes")
    probe.launcher.kill()
    probe.launcher.start()
    ordinary = await probe.run(ALICE, "facts", "--one", "two", GIVEN="yes")
    for facts in (forked, ordinary):
        facts["SigIgn"] = int(facts["SigIgn"][0], 16) & 0x7FFFFFFF  # above are the C library's own
        facts["files"][1:] = [Path(file).name.split("-")[0] for file in facts["files"][1:]]
        facts["arguments"][0] = Path(facts["arguments"][0]).name
    assert forked == ordinary
    return dict(forked)


async def test_forks_share_no_secret_of_their_own_and_are_the_launchers_children(probe: Probe) -> None:
    await probe.forks()
    one, other = [await probe.run(who, "own") for who in (ALICE, BOB)]
    assert one["key"] != other["key"]
    assert one["random"] != other["random"]
    assert one["parent"] == other["parent"] == probe.launcher.process.pid


@pytest.mark.uid
async def test_what_one_server_was_started_with_is_nowhere_in_another(probe_by_user: Probe) -> None:
    await probe_by_user.forks()
    secret, half = "canary-of-alice", ("canary-of-", "alice")
    id, _ = await probe_by_user.start(ALICE, "wait", TOKEN=secret)
    try:
        assert await probe_by_user.run(ALICE, "holds", *half, TOKEN=secret) > 0
        assert await probe_by_user.run(BOB, "holds", *half) == 0
    finally:
        await probe_by_user.client.stop(id, grace_seconds=0)


async def test_how_a_fork_ended_is_told(probe: Probe) -> None:
    await probe.forks()
    assert (await probe.run(ALICE, "exit", "3")).exit_code == 3
    assert (await probe.run(ALICE, "raise")).exit_code == 1


async def test_a_start_that_fails_says_at_which_step_and_leaves_nothing(probe: Probe) -> None:
    await probe.forks()
    with pytest.raises(InvalidRequest, match="opening the folder /nowhere"):
        await probe.client.launch(
            ALICE, [probe.python, "-m", "probe", "facts"], env={}, limits=LIMITS, name="x", cwd=Path("/nowhere")
        )
    assert await probe.client.running() == []
    await probe.forks()


async def test_without_the_template_servers_start_ordinarily(probe: Probe) -> None:
    await probe.forks()
    template = probe.template
    assert template is not None
    template.kill()
    assert not await probe.is_forked()


async def test_the_template_is_renewed_when_what_it_imported_has_changed(probe: Probe) -> None:
    await probe.forks()
    before = probe.template
    assert before is not None
    installed = Path(sys.prefix) / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    os.utime(installed)
    assert not await probe.is_forked()
    await probe.forks()
    assert probe.template != before


async def test_the_template_ends_with_the_launcher(probe: Probe) -> None:
    await probe.forks()
    template = probe.template
    assert template is not None
    probe.launcher.kill()
    assert psutil.wait_procs([template], timeout=10)[1] == []
    probe.launcher.start()


IMPORTED_AHEAD = """
import gc, os, sys
import labwright.extensions.singleuser as ours
ours.import_ahead()
print(os.listdir("/proc/self/task") == [str(os.getpid())])
print([fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}") and int(fd) > 2])
gc.collect()
mark = os.environ["USER"]
def of_environment(value):
    text = value.decode("latin1") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return mark in text
known = [os.environ, os.environ._data, globals()]
holders = [
    holder for holder in gc.get_objects()
    if not any(holder is one for one in known) and any(map(of_environment, gc.get_referents(holder)))
]
names = {id(vars(module)): name for name, module in sys.modules.items()}
print(*sorted({names.get(id(each)) or getattr(each, "name", None) or type(each).__name__ for each in holders}))
os.environ.update(HOME="/home/alice", USER="lw-alice")
ours.look_again()
import send2trash.plat_other
print(send2trash.plat_other.HOMETRASH, sys.argv[-1])
"""


def test_what_a_server_imports_ahead_is_nobodys_and_can_be_forked() -> None:
    """What looks at the environment while it is imported would look at the template's: that has to look again."""
    env = {"PATH": os.environ["PATH"], "HOME": "/canary/home", "USER": "canary", "JUPYTERHUB_API_TOKEN": "canary"}
    command = [sys.executable, "-P", "-c", IMPORTED_AHEAD]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    alone, files, holders, looked_again = done.stdout.splitlines()
    assert (alone, files) == ("True", "[]")
    assert set(holders.split()) == {"site", "send2trash.plat_other", "username"}
    assert looked_again == "/home/alice/.local/share/Trash --Session.username=lw-alice"
