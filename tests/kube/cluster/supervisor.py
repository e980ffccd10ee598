"""Process 1 of the cluster: `python -m tests.kube.cluster.supervisor`, in its own namespaces.

It owns the process and mount namespaces that everything of the cluster lives in, so that its end is the
end of every process and mount: the kernel sees to it, whatever crashed before. It starts the programs in
the order in which they need each other, restarts one that dies, and collects orphans.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.kube.cluster import control_plane, node
from tests.kube.cluster.api import Api
from tests.kube.cluster.places import CGROUP_ROOT, KUBE, MOUNT_POINTS, OUTSIDE_NAMESPACE, Places

RESTARTS_ALLOWED = 20
# See the API server's WatchList: without this each client of 1.34 asks for a streamed list first and logs the refusal.
GO_PROGRAMS_ENVIRONMENT = {"KUBE_FEATURE_WatchListClient": "false", "GOMAXPROCS": str(max(2, os.cpu_count() or 2))}


@dataclass
class Program:
    name: str
    command: list[str]
    started: int = 0
    process: subprocess.Popen[bytes] | None = None


@dataclass
class Supervisor:
    places: Places
    programs: list[Program] = field(default_factory=list)
    stopping: bool = False

    def start(self, name: str, command: list[str]) -> None:
        program = Program(name, command)
        self.programs.append(program)
        self._spawn(program)

    def wait_until(self, what: str, holds: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            self.collect()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} took longer than {seconds:.0f} s")
            time.sleep(0.05)

    def run_forever(self) -> None:
        while not self.stopping:
            self.collect()
            time.sleep(0.2)

    def collect(self) -> None:
        """Reap whatever ended; start a program of ours again."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for program in self.programs:
                if program.process is not None and program.process.pid == pid:
                    program.process.returncode = os.waitstatus_to_exitcode(status)
                    print(f"{program.name} ended with {program.process.returncode}", flush=True)
                    if not self.stopping and program.started <= RESTARTS_ALLOWED:
                        self._spawn(program)
            self._report()

    def stop(self) -> None:
        """Last started, first stopped; what does not listen ends with this process."""
        self.stopping = True
        for program in reversed(self.programs):
            if program.process is not None and program.process.returncode is None:
                program.process.terminate()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and any(
            p.process is not None and p.process.returncode is None for p in self.programs
        ):
            self.collect()
            time.sleep(0.05)

    def _spawn(self, program: Program) -> None:
        program.started += 1
        with (self.places.logs / f"{program.name}.log").open("ab") as output:
            program.process = subprocess.Popen(
                program.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **GO_PROGRAMS_ENVIRONMENT},
                start_new_session=True,
            )
        self._report()

    def _report(self) -> None:
        """programs.json, which `status` reads."""
        report = {
            p.name: {
                "running": p.process is not None and p.process.returncode is None,
                "starts": p.started,
                "exit": p.process.returncode if p.process else None,
            }
            for p in self.programs
        }
        scratch = self.places.state / "programs.json.new"
        scratch.write_text(json.dumps(report))
        scratch.replace(self.places.state / "programs.json")


def prepare_mounts(places: Places) -> None:
    """A mount tree of our own: shared inside (pods' volumes must propagate), and nothing reaches the host."""

    def mount(*arguments: str) -> None:
        subprocess.run(["mount", *arguments], check=True)

    mount("--make-rprivate", "/")
    mount("-t", "proc", "proc", "/proc")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    mount("--bind", str(places.logs), "/var/log")
    for folder in MOUNT_POINTS:
        folder.mkdir(exist_ok=True)
        mount("-t", "tmpfs", "tmpfs", str(folder))
    places.containerd_socket.parent.mkdir(parents=True)
    mount("--make-rshared", "/")


def bring_up(supervisor: Supervisor, outside: int) -> None:
    """`outside`: the other network namespace, open: its name is hidden with the host's /run."""
    places, python = supervisor.places, sys.executable
    stand_in = ["nsenter", f"--net=/proc/1/fd/{outside}", "--", python, "-m", "tests.kube.cluster.outside"]
    supervisor.start("etcd", control_plane.etcd(places))
    supervisor.start("containerd", node.containerd(places))
    supervisor.start("outside", stand_in)
    supervisor.start("kube-apiserver", control_plane.api_server(places))
    api = Api(places.kubeconfig)
    supervisor.wait_until("the API server's start", api.is_ready, 60)
    supervisor.start("policies", [python, "-m", "tests.kube.cluster.policies"])
    supervisor.start("kube-controller-manager", control_plane.controllers(places))
    supervisor.start("kube-scheduler", control_plane.scheduler(places))
    supervisor.start("kube-proxy", node.proxy(places))
    supervisor.wait_until("containerd's start", places.containerd_socket.exists, 20)
    supervisor.start("kubelet", node.kubelet(places))
    supervisor.start("volumes", [python, "-m", "tests.kube.cluster.volumes"])
    supervisor.start("kwok", control_plane.kwok(places))
    apply = [str(places.program("kubectl")), f"--kubeconfig={places.kubeconfig}", "apply", "-f"]
    # Not restarted: it is no program but a step.
    subprocess.run([*apply, str(KUBE / "addons" / "cluster.yaml")], check=True)


def main() -> None:
    places = Places.from_environment()
    supervisor = Supervisor(places)

    def on_signal(_number: int, _frame: object) -> None:
        supervisor.stopping = True

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    if not CGROUP_ROOT.exists():
        sys.exit("no control groups are mounted at /sys/fs/cgroup")
    outside = os.open(f"/run/netns/{OUTSIDE_NAMESPACE}", os.O_RDONLY)
    prepare_mounts(places)
    bring_up(supervisor, outside)
    places.ready.touch()
    supervisor.run_forever()
    supervisor.stop()


if __name__ == "__main__":
    main()
