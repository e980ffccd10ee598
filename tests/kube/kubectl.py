"""The cluster under the tests, whichever it is: everything goes through kubectl and its kubeconfig."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Object = dict[str, Any]


class KubectlFailed(Exception):
    pass


def wait_for(what: str, look: Callable[[], T | None], seconds: float, every: float = 0.2) -> T:
    """The first true thing that `look` returns."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(every)


@dataclass(frozen=True)
class Kubectl:
    namespace: str

    def run(self, *arguments: str, stdin: str | None = None, seconds: float = 60) -> str:
        command = ["kubectl", f"--namespace={self.namespace}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
        if done.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(arguments[:6])}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, manifest: str | Object) -> None:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        self.run("apply", "--filename=-", stdin=text)

    def get(self, kind: str, name: str) -> Object | None:
        try:
            answer: Object = json.loads(self.run("get", kind, name, "--output=json"))
        except KubectlFailed as error:
            if "NotFound" in str(error):
                return None
            raise
        return answer

    def list(self, kind: str, selector: str = "") -> list[Object]:
        items: list[Object] = json.loads(self.run("get", kind, f"--selector={selector}", "--output=json"))["items"]
        return items

    def delete(self, kind: str, name: str, *more: str) -> None:
        self.run("delete", kind, name, "--ignore-not-found", *more, seconds=120)

    def run_in(self, pod: str, *command: str, seconds: float = 60) -> str:
        return self.run("exec", pod, "--", *command, seconds=seconds)

    def told(self, *arguments: str) -> str:
        """For people to read: what kubectl says, or why it says nothing."""
        try:
            return self.run(*arguments, seconds=20)
        except (KubectlFailed, subprocess.TimeoutExpired) as error:
            return str(error)

    def log_of(self, deployment: str, without: str, lines: int = 80) -> str:
        """The last lines; those that have `without` in them (a test's own polling) are left out."""
        log = self.told("logs", f"deployment/{deployment}", "--tail=2000").splitlines()
        return "\n".join([line for line in log if without not in line][-lines:])

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[int]:
        """A loopback port that leads to `target` (pod/NAME, service/NAME)."""
        process = subprocess.Popen(
            ["kubectl", f"--namespace={self.namespace}", "port-forward", target, f":{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if found is None:
                raise KubectlFailed(f"port-forward to {target} said {line!r}")
            yield int(found[1])
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()


def patch_extended_resource(node: str, resource: str, count: int | None) -> None:
    """As a device plugin would: the node has so many of them; None takes them away."""
    key = resource.replace("/", "~1")
    parts = [
        {"op": "remove", "path": f"/status/{part}/{key}"} if count is None
        else {"op": "add", "path": f"/status/{part}/{key}", "value": str(count)}
        for part in ("capacity", "allocatable")
    ]  # fmt: skip
    Kubectl("default").run("patch", "node", node, "--subresource=status", "--type=json", f"--patch={json.dumps(parts)}")
