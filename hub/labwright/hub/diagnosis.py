"""What `labwright doctor` tests: each part by itself, each with what to do."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

from labwright.api.errors import LabwrightError
from labwright.hub import disk, supervision
from labwright.hub.damage import damages
from labwright.hub.installation import misplaced
from labwright.hub.programs import exists, programs
from labwright.hub.settings import SERVICES, Settings
from labwright.spawner import workbench
from labwright.spawner.gpus import find_gpus
from labwright.spawner.local import LocalLauncher

# How long after the workbench's start a silent service counts as starting.
STARTING_SECONDS = {"mlflow": 90.0, "*": 20.0}


@dataclass(frozen=True)
class Finding:
    part: str
    state: Literal["good", "note", "bad"]
    text: str
    remedy: str = ""


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Every finding, as it is made."""
    yield from check_file(settings)
    yield from check_isolation(settings)
    yield from check_gpus(settings)
    yield from check_tools(settings)
    yield from check_disk(settings)
    yield from check_state(settings)
    if supervision.supervisor_pid(settings) is None:
        left = supervision.strays(settings)
        text = f"it is down, but {len(left)} of its services run" if left else "it is down"
        remedy = "labwright down, then labwright up" if left else "labwright up"
        yield Finding("workbench", "bad", text, remedy)
        return
    yield Finding("workbench", "good", f"up at {settings.public_url}")
    yield from check_limits(LocalLauncher(settings.launcher_socket))
    yield from check_permissions(settings)
    yield from check_programs(settings)
    yield from check_tokens(settings)


def check_file(settings: Settings) -> Iterator[Finding]:
    try:
        found = workbench.load(settings.workbench_file)
    except LabwrightError as error:
        yield Finding("workbench.yaml", "bad", str(error), "Correct the lines; the running hub keeps the last good one")
        return
    yield Finding("workbench.yaml", "good", f"{settings.workbench_file}, {len(found.profiles)} profiles")


def check_isolation(settings: Settings) -> Iterator[Finding]:
    if not settings.by_user:
        yield Finding(
            "isolation",
            "note",
            "started without root: every process runs as you, so exactly one person may log in",
            "Start it with sudo to give each person an account of their own",
        )
        return
    closed = supervision.closed_folder(settings.python("user"))
    if closed:
        yield Finding("isolation", "bad", f"people's servers cannot start: {closed} is closed", f"chmod o+x {closed}")
    else:
        yield Finding("isolation", "good", "each person's processes run under an account of their own")


def check_limits(launcher: LocalLauncher) -> Iterator[Finding]:
    """What the launcher limits people's processes by: another shell's control groups, as ours, would not tell."""
    try:
        controllers = asyncio.run(launcher.controllers())
    except LabwrightError:
        return  # the launcher's own finding says so
    if "memory" in controllers:
        yield Finding("limits", "good", f"control groups: {', '.join(controllers)}")
    else:
        yield Finding(
            "limits",
            "note",
            "no control group for memory: each single process is limited, not a server with its kernels together",
            "Run it as a systemd service with Delegate=yes, or on a machine of its own",
        )


def check_gpus(settings: Settings, root: Path = Path("/")) -> Iterator[Finding]:
    """Nothing where there are none."""
    found = find_gpus(root)
    if not found:
        return
    text = f"{len(found)} of this machine ({', '.join(gpu.key for gpu in found)})"
    try:
        given = workbench.load(settings.workbench_file).visible_gpus(0) is not None
    except LabwrightError:
        return  # the file's own finding says so
    if given:
        yield Finding("GPUs", "good", text)
    else:
        text += ", and no profile has any: every process sees all of them, and none is counted"
        yield Finding("GPUs", "note", text, "Give a profile gpu: {nvidia.com/gpu: 1}")


def check_tools(settings: Settings) -> Iterator[Finding]:
    for environment in ("hub", "user", "mlflow"):
        path = settings.python(environment)
        if not path.exists():
            yield Finding(f"environment {environment}", "bad", f"{path} is missing", "make up")
    java = supervision.java_of_spark(settings)
    if java:
        yield Finding("Java", "good", str(java))
    else:
        yield Finding(
            "Java", "note", f"{supervision.NO_JAVA}, so Spark will not start", "make up installs one from a wheel"
        )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium:
        yield Finding("Chromium", "good", chromium)
    else:
        yield Finding("Chromium", "note", "none; only 'make demo' and browser tests need it", "apt install chromium")


def check_disk(settings: Settings) -> Iterator[Finding]:
    if not settings.home.exists():
        return
    free = shutil.disk_usage(settings.home).free
    text = f"{free >> 30} GB free" if free > 10 << 30 else f"{free >> 20} MB free"
    text += f" under {settings.home}"
    if disk.is_full(settings.home):
        yield Finding("disk", "bad", f"full: {text}", "Free some space; nothing can be stored, or logged in to, before")
    elif free < supervision.NEEDED_BYTES:
        yield Finding("disk", "bad", text, f"Free some space: a start needs {supervision.NEEDED_BYTES >> 20} MB")
    elif free < 4 * supervision.NEEDED_BYTES:
        yield Finding("disk", "note", text, "Free some space soon")
    else:
        yield Finding("disk", "good", text)


def check_state(settings: Settings) -> Iterator[Finding]:
    try:
        for damage in damages(settings):
            yield Finding("state", "bad", str(damage), damage.remedy)
    except PermissionError:
        return  # of services' own files; who started the workbench may read them


def check_permissions(settings: Settings) -> Iterator[Finding]:
    wrong = list(misplaced(settings))
    for text in wrong:
        yield Finding("permissions", "bad", text, "labwright down, then labwright up: it sets them right")
    if not wrong:
        yield Finding("permissions", "good", "folders, keys and tokens are closed to others")


def check_programs(settings: Settings) -> Iterator[Finding]:
    for program in programs(settings):
        if not exists(program):
            yield Finding(program.name, "note", "not part of this version")
            continue
        if supervision.is_healthy(settings, program.name):
            yield Finding(program.name, "good", "answers")
        else:
            yield silent(settings, program.name)


def silent(settings: Settings, name: str) -> Finding:
    """Of a service that does not answer: one that was started just now is given its time."""
    log = settings.logs / f"{name}.log"
    age, given = supervision.age(settings, name), STARTING_SECONDS.get(name, STARTING_SECONDS["*"])
    if age is not None and age < given and supervision.supervisor_age(settings) < given:
        return Finding(name, "note", f"starting, for {age:.0f} s; it takes up to {given:.0f} s", f"Meanwhile {log}")
    state = supervision.states(settings).get(name, "unknown").lower()
    return Finding(name, "bad", f"does not answer (supervisor: {state})", f"See {log}")


def check_tokens(settings: Settings) -> Iterator[Finding]:
    if disk.is_full(settings.home):
        return  # the hub refuses every token while it cannot write
    for service in SERVICES:
        try:
            problem = _token_problem(settings, service)
        except OSError:
            problem = "cannot be read; doctor needs the rights of who started the workbench"
        if problem:
            yield Finding(f"token of {service}", "bad", problem, "labwright down, then labwright up")


def _token_problem(settings: Settings, service: str) -> str | None:
    token = settings.service_token_file(service).read_text().strip()
    try:
        answer = httpx.get(
            f"{settings.hub_api_url}/user", headers={"Authorization": f"token {token}"}, timeout=5.0, trust_env=False
        )
    except httpx.TransportError:
        return None  # the hub's own finding says so
    return None if answer.status_code == 200 else f"the hub answers {answer.status_code} to it"
