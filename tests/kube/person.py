"""A person with a browser's means: forms, cookies, the hub's API, and a kernel's messages."""

from __future__ import annotations

import contextlib
import json
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx
import websocket

from tests.kube.kubectl import Kubectl, wait_for

JSON = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a cell printed, showed or raised; `died` when its kernel did."""

    text: str
    error: str = ""
    died: bool = False


@dataclass
class Person:
    name: str
    url: str
    token: str  # of the tests' service, which may act for anybody; also everybody's password
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, follow_redirects=True, timeout=60, trust_env=False)

    def close(self) -> None:
        self.http.close()

    def log_in(self) -> str:
        """By the form; the text of the page that follows."""
        self.http.get("/hub/login")
        form = {"username": self.name, "password": self.token, "_xsrf": self._xsrf("/hub/")}
        answer = self.http.post("/hub/login", data=form)
        answer.raise_for_status()
        return answer.text

    def spawn_page(self) -> str:
        answer = self.http.get("/hub/spawn")
        return answer.text

    def spawn_by_form(self, **fields: str) -> httpx.Response:
        self.http.get("/hub/spawn")
        return self.http.post(f"/hub/spawn?_xsrf={self._xsrf('/hub/')}", data=fields)

    def spawn(self, options: JSON, server: str = "") -> httpx.Response:
        path = f"/users/{self.name}/servers/{server}" if server else f"/users/{self.name}/server"
        return self.api("POST", path, json=options)

    def stop(self, server: str = "") -> None:
        path = f"/users/{self.name}/servers/{server}" if server else f"/users/{self.name}/server"
        answer = self.api("DELETE", path)
        assert answer.status_code in (202, 204, 400, 404), answer.text
        wait_for(f"{self.name}'s server to stop", lambda: server not in self.servers(), 60)

    def api(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {"Authorization": f"token {self.token}"}
        return httpx.request(
            method, f"{self.url}/hub/api{path}", headers=headers, timeout=60, trust_env=False, **arguments
        )

    def ensure_known(self) -> None:
        answer = self.api("POST", f"/users/{self.name}")
        assert answer.status_code in (201, 409), answer.text

    def servers(self) -> JSON:
        answer = self.api("GET", f"/users/{self.name}")
        answer.raise_for_status()
        servers: JSON = answer.json()["servers"]
        return servers

    def wait_until_ready(self, seconds: float = 120) -> JSON:
        def ready() -> JSON | None:
            server = self.servers().get("")
            return server if server and server["ready"] else None

        return wait_for(f"{self.name}'s server", ready, seconds)

    def progress(self, seconds: float, until: str | None = None, server: str = "", hub_url: str = "") -> list[JSON]:
        """The messages of a spawn as its page gets them: to its end, or to the first that contains `until`."""
        path = f"/users/{self.name}/servers/{server}/progress" if server else f"/users/{self.name}/server/progress"
        headers = {"Authorization": f"token {self.token}"}
        events: list[JSON] = []
        deadline = time.monotonic() + seconds
        address = f"{hub_url or self.url}/hub/api{path}"
        with (
            contextlib.suppress(httpx.ReadTimeout),
            httpx.stream("GET", address, headers=headers, timeout=seconds, trust_env=False) as lines,
        ):
            for line in lines.iter_lines():
                if line.startswith("data:"):
                    events.append(json.loads(line.removeprefix("data:")))
                    last = events[-1]
                    if last.get("failed") or last.get("ready") or (until and until in last.get("message", "")):
                        break
                if time.monotonic() > deadline:
                    break
        return events

    def server(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The person's own server, through the proxy."""
        if method != "GET":
            arguments["headers"] = {"X-XSRFToken": self._xsrf(f"/user/{self.name}/")}
        return self.http.request(method, f"/user/{self.name}{path}", **arguments)

    def start_kernel(self) -> str:
        answer = self.server("POST", "/api/kernels", json={"name": "python3"})
        answer.raise_for_status()
        kernel: str = answer.json()["id"]
        return kernel

    def run(self, kernel: str, code: str, seconds: float = 60) -> Outcome:
        """Runs a cell and waits for its end, over the same WebSocket that Lab uses."""
        address = self.url.replace("http://", "ws://") + f"/user/{self.name}/api/kernels/{kernel}/channels"
        cookies = "; ".join(f"{c.name}={c.value}" for c in self.http.cookies.jar if c.value is not None)
        socket = websocket.create_connection(address, cookie=cookies, timeout=seconds, origin=self.url)
        try:
            ask = uuid.uuid4().hex
            socket.send(json.dumps(execute_request(ask, code)))
            return _collect(socket, ask, time.monotonic() + seconds)
        finally:
            socket.close()

    def _xsrf(self, path: str) -> str:
        found = [c.value for c in self.http.cookies.jar if c.name == "_xsrf" and c.path == path]
        return str(found[0]) if found else ""


def pod_of(kubectl: Kubectl, person: Person) -> str:
    pods = kubectl.list("pods", f"component=singleuser-server,hub.jupyter.org/username={person.name}")
    assert pods, f"{person.name} has no pod"
    name: str = pods[0]["metadata"]["name"]
    return name


def execute_request(ask: str, code: str) -> JSON:
    header = {"msg_id": ask, "msg_type": "execute_request", "username": "", "session": ask, "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }


def _collect(socket: websocket.WebSocket, ask: str, deadline: float) -> Outcome:
    text, error, replied, idle = "", "", False, False
    while not (replied and idle):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the cell did not end; it had printed {text!r}")
        message = json.loads(socket.recv())
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] in ("restarting", "dead", "autorestarting"):
            return Outcome(text, error, died=True)
        if message["parent_header"].get("msg_id") != ask:
            continue
        if kind == "stream":
            text += content["text"]
        elif kind in ("execute_result", "display_data"):
            text += content["data"].get("text/plain", "")
        elif kind == "error":
            error = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"]))
        elif kind == "execute_reply":
            replied = True
        elif kind == "status":
            idle = content["execution_state"] == "idle"
    return Outcome(text, error)
