"""A whole workbench for tests: started on free ports under a temporary folder, and stopped at the end.

with reachable_folder() as folder, running_workbench(folder / "home") as workbench:
    browser = workbench.log_in()
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from processes import cleaned_up_by

from labwright.api import names
from labwright.hub.settings import Settings, from_environment

CHECKOUT = Path(__file__).resolve().parent.parent
T = TypeVar("T")


def free_port_range(count: int = 8) -> int:
    """The first of `count` free ports in a row, on loopback."""
    for start in range(21100 + os.getpid() % 500 * 16, 60000, 16):
        probes = []
        try:
            for offset in range(count):
                probe = socket.socket()
                probes.append(probe)
                probe.bind(("127.0.0.1", start + offset))
        except OSError:
            continue
        else:
            return start
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no free ports")


def eventually(check: Callable[[], T], *, seconds: float = 120.0, what: str = "the condition") -> T:
    """The first true answer of `check`; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds:g} s"
        time.sleep(0.05)


@dataclass
class Browser:
    """Somebody logged in: cookies, and the token that forms need."""

    name: str
    http: httpx.Client

    @property
    def xsrf(self) -> str:
        return next(
            cookie.value or "" for cookie in self.http.cookies.jar if cookie.name == "_xsrf" and cookie.path == "/hub/"
        )

    def start_server(self, profile: str = "small", **options: str) -> httpx.Response:
        """Submit the spawn page."""
        form = {"profile": profile} | {f"option:{profile}:{name}": value for name, value in options.items()}
        self.http.get("/hub/spawn")
        return self.http.post(f"/hub/spawn?_xsrf={self.xsrf}", data=form, timeout=120)

    def wait_for_server(self, seconds: float = 120.0) -> None:
        eventually(lambda: self.server().get("ready"), seconds=seconds, what="the server")

    def server(self, server_name: str = "") -> dict[str, Any]:
        found = self.api("GET", f"/users/{self.name}").json()["servers"]
        server: dict[str, Any] = found.get(server_name, {})
        return server

    def stop_server(self) -> None:
        self.api("DELETE", f"/users/{self.name}/server")
        eventually(lambda: not self.server(), what="the end of the server")

    def new_token(self, scopes: list[str] | None = None) -> str:
        """An API token of this person."""
        body = {"note": "test", "expires_in": 3600} | ({"scopes": scopes} if scopes else {})
        token: str = self.api("POST", f"/users/{self.name}/tokens", json=body).json()["token"]
        return token

    def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.http.request(method, f"/hub/api{path}", headers={"X-XSRFToken": self.xsrf}, **more)


@dataclass
class RunningWorkbench:
    settings: Settings
    passwords: dict[str, str]
    browsers: list[httpx.Client] = field(default_factory=list)

    def close(self) -> None:
        for http in self.browsers:
            http.close()

    def log_in(self, name: str = "admin") -> Browser:
        # closed by the workbench's end
        http = httpx.Client(
            base_url=self.settings.public_url, follow_redirects=True, timeout=60, trust_env=False, verify=False
        )
        self.browsers.append(http)
        page = http.get("/hub/login")
        xsrf = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        assert xsrf, page.text
        form = {"username": name, "password": self.passwords[name], "_xsrf": xsrf[1]}
        answer = http.post("/hub/login", data=form)
        assert answer.status_code == 200, answer.text
        assert "password_input" not in answer.text, answer.text
        browser = Browser(name, http)
        http.get("/hub/home")
        return browser

    def add_person(self, name: str, *groups: str) -> None:
        arguments = [part for group in groups for part in ("--group", group)]
        done = self.labwright("people", "add", name, *arguments)
        self.passwords[name] = password_in(done.stdout)

    def labwright(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line against this workbench."""
        return run_labwright(self.settings, *arguments, check=check)

    def restart(self, program: str) -> None:
        """Kill one service with -9 and wait until another one answers in its place."""
        from labwright.hub import supervision

        pid = self.pid_of(program)
        assert pid > 0, f"{program} does not run"  # 0 would be our own process group
        os.kill(pid, 9)
        eventually(lambda: self.pid_of(program) not in (0, pid), what=f"a new {program}")
        eventually(lambda: supervision.is_healthy(self.settings, program), what=f"{program}'s answer")

    def server_process(self, name: str) -> psutil.Process:
        """Somebody's running server."""
        for process in psutil.process_iter():
            try:
                environ = process.environ()
                command = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if "singleuser" not in command:
                continue  # its kernels have the same environment
            if environ.get("JUPYTERHUB_USER") == name and environ.get(names.CORE_URL) == self.settings.core_url:
                return process
        raise AssertionError(f"{name} has no server")

    def pid_of(self, program: str) -> int:
        """0 while it is not running."""
        from labwright.hub import supervision

        return supervision.pids(self.settings).get(program, 0)


def labwright_command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from labwright.api.commands import main; main()", *arguments]


def run_labwright(settings: Settings, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        labwright_command(*arguments),
        env={**os.environ, **settings.as_environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert not check or done.returncode == 0, f"labwright {arguments}: {done.stdout}{done.stderr}"
    return done


def password_in(text: str) -> str:
    found = re.search(r"password\s+([a-z0-9]{5}(?:-[a-z0-9]{5}){3})", text)
    assert found, text
    return found[1]


def workbench_settings(home: Path, port: int | None = None, **environ: str) -> Settings:
    return from_environment(
        {
            "LABWRIGHT_HOME": str(home),
            "LABWRIGHT_PORT": str(port or free_port_range()),
            "LABWRIGHT_ENVIRONMENTS": str(CHECKOUT / ".envs"),
            "LABWRIGHT_CONFIG": str(CHECKOUT / "config" / "workbench.yaml"),
            **environ,
        }
    )


def files_below(folder: Path) -> Iterator[Path]:
    """Every file of a folder in which processes are at work: what goes meanwhile is left out."""
    for where, _, names_there in os.walk(folder):
        for name in names_there:
            path = Path(where) / name
            if path.is_file() and not path.is_symlink():
                yield path


def content_of(path: Path) -> bytes:
    """Nothing when the file has just gone."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A temporary folder that every account may pass through; pytest's are closed, again by each run of it."""
    with tempfile.TemporaryDirectory(prefix="labwright-test-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


@contextmanager
def running_workbench(home: Path, port: int | None = None, **environ: str) -> Iterator[RunningWorkbench]:
    """Everything up and ready but MLflow; `environ` overrides LABWRIGHT_* (LABWRIGHT_CONFIG, LABWRIGHT_BY_USER …)."""
    settings = workbench_settings(home, port, **environ)
    running = RunningWorkbench(settings, {})
    stop = labwright_command("down"), {**os.environ, **settings.as_environment()}
    try:
        with cleaned_up_by(*stop):
            done = run_labwright(settings, "up", "--wait", check=False)
            assert done.returncode == 0, done.stdout + done.stderr + last_lines(settings.logs)
            running.passwords["admin"] = password_in(done.stdout)
            yield running
    finally:
        running.close()
        run_labwright(settings, "down")


def last_lines(logs: Path) -> str:
    """The end of every log, for a start that failed."""
    return "".join(f"\n== {path.name}\n" + "\n".join(path.read_text().splitlines()[-8:]) for path in logs.iterdir())
