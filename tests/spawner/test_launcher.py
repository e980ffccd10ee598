"""The launcher: real processes, their limits, ends and restarts; and what two people can see of each other."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labwright.api.errors import InvalidRequest, NotFound, Unavailable
from labwright.hub.diagnosis import check_limits
from labwright.spawner import cgroups
from labwright.spawner.accounts import PREFIX, slug_for
from labwright.spawner.launcher import Launcher, Limits, Principal, Status
from labwright.spawner.local import LocalLauncher
from labwright.spawner.records import describe_exit

ALICE, BOB = Principal("alice"), Principal("bob")
NO_LIMITS = Limits()


async def until(check: Callable[[], Awaitable[Any]], seconds: float = 15.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := await check()):
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)
    return answer


async def ended(client: Launcher, id: str) -> Status:
    async def check() -> Status | None:
        status = await client.status(id)
        return None if status.running else status

    status: Status = await until(check)
    return status


async def run(client: LocalLauncher, who: Principal, script: str, **env: str) -> str:
    """What a shell script of that person prints."""
    home = await client.prepare(who)
    log = home / f"output-{time.monotonic_ns()}"
    launched = await client.launch(who, ["bash", "-c", script], env=env, limits=NO_LIMITS, name="test", log=log)
    await ended(client, launched.id)
    return log.read_text()


names = st.text(alphabet="abz019-_.@+ABÉ☃/\\ \0", min_size=1, max_size=60)


@given(names, names)
def test_slugs_are_safe_for_accounts_and_never_shared(one: str, other: str) -> None:
    for name in (one, other):
        slug = slug_for(name)
        assert slug[0].isalnum()
        assert len(PREFIX + slug) <= 32
        assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert slug_for(name) == slug
    assert (slug_for(one) == slug_for(other)) == (one == other)


def test_a_slug_cannot_be_forged_by_a_name_that_looks_like_one() -> None:
    slug = slug_for("Alice@example.org")
    assert slug_for(slug) != slug


async def test_a_process_gets_exactly_its_environment_and_the_login_variables(launcher: Any) -> None:
    os.environ["CANARY"] = "of the launcher's parent"
    try:
        output = await run(launcher.client, ALICE, "env", GIVEN="yes")
    finally:
        del os.environ["CANARY"]
    given_names = {line.split("=")[0] for line in output.splitlines()}
    assert given_names - {"PWD", "SHLVL", "_"} == {
        "GIVEN", "HOME", "LABWRIGHT_LAUNCH", "LOGNAME", "PATH", "SHELL", "USER"
    }  # fmt: skip
    assert f"HOME={launcher.folder / 'homes' / 'alice'}" in output


async def test_the_home_and_the_log_are_closed_to_others(launcher: Any) -> None:
    await run(launcher.client, ALICE, "echo hello")
    home = launcher.folder / "homes" / "alice"
    assert home.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in home.iterdir())


async def test_a_log_outside_the_home_is_refused(launcher: Any) -> None:
    for path in (Path("/tmp/x"), Path("../bob/x"), launcher.folder / "homes" / "alice2" / "x"):
        with pytest.raises(InvalidRequest, match="below"):
            await launcher.client.launch(ALICE, ["true"], env={}, limits=NO_LIMITS, name="x", log=path)


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [("exit 0", 0, "by itself"), ("exit 3", 3, "exit code 3"), ("kill -SEGV $$", -11, "SIGSEGV"),
     ("kill -9 $$", -9, "killed")],
)  # fmt: skip
async def test_how_a_process_ended_is_told(launcher: Any, script: str, code: int, words: str) -> None:
    launched = await launcher.client.launch(ALICE, ["bash", "-c", script], env={}, limits=NO_LIMITS, name="x")
    status = await ended(launcher.client, launched.id)
    assert status.exit_code == code
    assert words in (status.reason or "")


async def test_a_program_that_is_not_there_is_an_error_and_leaves_nothing(launcher: Any) -> None:
    with pytest.raises(InvalidRequest, match="no such program"):
        await launcher.client.launch(ALICE, ["no-such-program"], env={}, limits=NO_LIMITS, name="x")
    with pytest.raises(InvalidRequest, match="the folder /nowhere"):
        await launcher.client.launch(ALICE, ["true"], env={}, limits=NO_LIMITS, name="x", cwd=Path("/nowhere"))
    assert await launcher.client.running() == []


async def test_stop_ends_children_in_other_sessions_and_those_that_ignore_terminate(launcher: Any) -> None:
    script = (
        "trap '' TERM; setsid bash -c 'trap \"\" TERM; while :; do sleep 1; done' & setsid -f sleep 300; echo; wait"
    )
    launched = await launcher.client.launch(ALICE, ["bash", "-c", script], env={}, limits=NO_LIMITS, name="x")

    def family() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("LABWRIGHT_LAUNCH") == launched.id:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    async def three() -> bool:
        return len(family()) >= 3

    await until(three)
    status = await launcher.client.stop(launched.id, grace_seconds=0.3)
    assert not status.running
    assert family() == []


# As a Dask worker does: two processes with a semaphore, which Python leaves to its resource tracker to remove.
WITH_SEMAPHORE = """
import multiprocessing, os, pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
spawning = multiprocessing.get_context("spawn")
semaphore = spawning.Semaphore()
if os.fork():
    pathlib.Path(sys.argv[1]).write_text(semaphore._semlock.name)
while True:
    signal.pause()
"""


def shared_memory() -> set[str]:
    return {file.name for file in Path("/dev/shm").iterdir()}


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_semaphores_of_a_process_that_does_not_end_by_itself_are_removed(launcher: Any, end: str) -> None:
    home = await launcher.client.prepare(ALICE)
    argv = [sys.executable, "-c", WITH_SEMAPHORE, str(home / "name")]
    launched = await launcher.client.launch(ALICE, argv, env={}, limits=NO_LIMITS, name="x")

    async def named() -> str:
        return (home / "name").read_text() if (home / "name").exists() else ""

    file = f"sem.{(await until(named))[1:]}"
    assert file in shared_memory()
    if end == "stop":
        await launcher.client.stop(launched.id, grace_seconds=0.3)
    else:
        os.kill(launched.pid, signal.SIGKILL)

    async def gone() -> bool:
        return file not in shared_memory()

    await until(gone)


async def test_a_process_that_dies_takes_its_children_along(launcher: Any) -> None:
    launched = await launcher.client.launch(
        ALICE, ["bash", "-c", "setsid -f sleep 301; exit 1"], env={}, limits=NO_LIMITS, name="x"
    )
    await ended(launcher.client, launched.id)

    async def gone() -> bool:
        return not any("sleep 301" in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))

    await until(gone)


async def test_a_killed_launcher_finds_its_processes_again(launcher: Any) -> None:
    launched = await launcher.client.launch(ALICE, ["sleep", "302"], env={}, limits=NO_LIMITS, name="x")
    other = await launcher.client.launch(ALICE, ["sleep", "303"], env={}, limits=NO_LIMITS, name="y")
    launcher.kill()
    with pytest.raises(Unavailable):
        await launcher.client.status(launched.id)
    assert psutil.Process(launched.pid).is_running()
    os.kill(other.pid, signal.SIGKILL)  # ends while nobody watches
    launcher.start()
    assert (await launcher.client.status(launched.id)).running
    lost = await ended(launcher.client, other.id)
    assert "not known" in (lost.reason or "")
    assert not (await launcher.client.stop(launched.id)).running
    assert not psutil.pid_exists(launched.pid) or psutil.Process(launched.pid).status() == "zombie"


async def test_nothing_starts_once_all_is_being_stopped(launcher: Any) -> None:
    """Core starts another runner as soon as one has ended, also while the workbench is being stopped."""
    first = await launcher.client.launch(ALICE, ["sleep", "1000"], env={}, limits=NO_LIMITS, name="x")
    assert await launcher.client.stop_all(grace_seconds=1) == 1
    assert not (await launcher.client.status(first.id)).running
    with pytest.raises(Unavailable, match="launcher"):
        await launcher.client.launch(ALICE, ["sleep", "1000"], env={}, limits=NO_LIMITS, name="x")
    assert await launcher.client.running() == []


async def test_an_unknown_id_is_not_found_and_garbage_is_refused(launcher: Any) -> None:
    with pytest.raises(NotFound):
        await launcher.client.status("nothing")
    with pytest.raises(InvalidRequest):
        await launcher.client.prepare(Principal(""))
    reader, writer = await asyncio.open_unix_connection(str(launcher.folder / "launcher.sock"))
    writer.write(b"[1, 2\n")
    assert b"cannot read" in await reader.readline()
    writer.close()


async def test_memory_is_limited_and_processor_time_is_measured(launcher: Any) -> None:
    program = [sys.executable, "-c", "x = b'x' * (600 << 20)"]
    launched = await launcher.client.launch(
        ALICE, program, env={}, limits=Limits(memory_bytes=256 << 20), name="x", log=Path("log")
    )
    status = await ended(launcher.client, launched.id)
    assert status.exit_code != 0
    assert launched.enforced in ("cgroup", "rlimit")
    burner = await launcher.client.launch(
        ALICE, ["bash", "-c", "while :; do :; done"], env={}, limits=NO_LIMITS, name="x"
    )

    async def burnt() -> bool:
        return (await launcher.client.status(burner.id)).cpu_seconds > 0.05

    await until(burnt)


def test_out_of_memory_is_told_before_the_signal() -> None:
    assert "ran out of memory" in describe_exit(-9, out_of_memory=True, stopping=False)


async def test_doctor_says_without_root_too_what_limits_memory(launcher: Any) -> None:
    """Not what doctor's own shell might do, but what the launcher did with a process."""
    launched = await launcher.client.launch(
        ALICE, ["sleep", "60"], env={}, limits=Limits(memory_bytes=1 << 30), name="test"
    )
    (finding,) = await asyncio.to_thread(lambda: list(check_limits(launcher.client)))
    assert finding.part == "limits"
    assert (finding.state, launched.enforced) in {("good", "cgroup"), ("note", "rlimit")}
    assert ("control groups: " in finding.text) == (finding.state == "good")


async def test_doctor_says_nothing_of_limits_while_the_launcher_is_away(tmp_path: Path) -> None:
    nobody = LocalLauncher(tmp_path / "launcher.sock")
    assert await asyncio.to_thread(lambda: list(check_limits(nobody))) == []


def test_control_groups_of_another_manager_are_left_alone(tmp_path: Path) -> None:
    for controller in ("memory", "cpu", "pids"):
        (tmp_path / controller / "somebody").mkdir(parents=True)
    own = "4:memory:/somebody/else\n3:pids:/\n2:cpu,cpuacct:/\n"
    groups = cgroups.detect("ours", mount=tmp_path, own=own)
    assert groups is not None
    assert groups.parents == {"pids": tmp_path / "pids" / "ours", "cpu": tmp_path / "cpu" / "ours"}
    assert not groups.limits_memory


@pytest.mark.parametrize("version", [1, 2])
def test_limits_become_the_files_of_the_control_group(version: int) -> None:
    files = cgroups.settings_for(version, {"memory", "cpu", "pids"}, Limits(1.5, 1 << 30, 64))
    assert str(1 << 30) in files.values()
    assert files["pids.max"] == "64"
    assert "150000" in " ".join(files.values())


@pytest.mark.uid
async def test_two_people_cannot_see_each_other_nor_the_services_secrets(
    launcher_by_user: Any, secret_file: Path
) -> None:
    client = launcher_by_user.client
    home = await client.prepare(ALICE)
    (home / "notes.txt").write_text("canary-of-alice")
    os.chown(home / "notes.txt", home.stat().st_uid, home.stat().st_gid)
    (home / "notes.txt").chmod(0o644)  # careless, and still closed by the home
    server = await client.launch(ALICE, ["sleep", "304"], env={"TOKEN": "canary-of-alice"}, limits=NO_LIMITS, name="x")
    root = psutil.Process(os.getpid()).pid
    client_socket = launcher_by_user.folder / "launcher.sock"
    script = f"""
        id -un
        cat {home}/notes.txt; ls {home}; ls {home.parent}
        cat /proc/{server.pid}/environ | tr '\\0' '\\n'; ls -l /proc/{server.pid}/cwd/ /proc/{server.pid}/fd
        cat /proc/{root}/environ; cat /proc/{root}/mem
        cat {secret_file}; cat {launcher_by_user.folder}/state/processes.json
        kill -9 {server.pid}
        {sys.executable} -c "import socket; socket.socket(socket.AF_UNIX).connect('{client_socket}')"
        echo end
    """
    output = await run(client, BOB, script + " 2>&1")
    assert output.startswith("lw-bob\n")
    assert "end" in output
    assert "canary" not in output
    assert "notes.txt: Permission denied" in output
    assert "processes.json: Permission denied" in output
    assert (await client.status(server.id)).running
    assert "canary-of-alice" in await run(client, ALICE, f"cat {home}/notes.txt; cat /proc/{server.pid}/environ")


@pytest.mark.uid
async def test_people_have_no_way_back_to_root_and_no_groups(launcher_by_user: Any) -> None:
    output = await run(launcher_by_user.client, Principal("Eve@example.org"), "id; grep NoNewPrivs /proc/self/status")
    assert "uid=0" not in output
    assert output.count("lw-eve") == 3
    assert "NoNewPrivs:\t1" in output
