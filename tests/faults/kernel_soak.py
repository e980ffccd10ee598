"""Runs on the fork server while children, warm parents and the server itself are killed at random.

    python tests/faults/kernel_soak.py --runs 10000

Holds when every run has exactly one final state, no run succeeds with a wrong output, and at the end no process,
socket, file or shared memory is left.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

from nbformat.v4 import new_code_cell, new_notebook

from labwright.kernels.client import ForkServer
from labwright.kernels.engine import ForkServerEngine
from labwright.kernels.execution import Execution, Outcome, parameterise
from labwright.kernels.sessions import children_of, parse_stat

NOTEBOOK = new_notebook(
    cells=[
        new_code_cell("number = 0", metadata={"tags": ["parameters"]}),
        # A subprocess that would outlive the kernel.
        new_code_cell("import subprocess\nchild = subprocess.Popen(['sleep', '300'])\nprint(number)"),
        new_code_cell("number * 2"),
    ],
    metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
)
STATES = {"succeeded", "died"}


class Soak:
    def __init__(
        self,
        folder: Path,
        runs: int,
        workers: int,
        seed: int,
        kill_every_seconds: float,
        weights: tuple[float, ...],
        most_seconds: float,
    ) -> None:
        self.folder = folder
        self.server = ForkServer(folder / "server", idle_seconds=5)
        self.engine = ForkServerEngine(self.server)
        self.numbers = iter(range(runs))
        self.lock = threading.Lock()
        self.outcomes: dict[int, list[Outcome]] = collections.defaultdict(list)
        self.wrong: list[int] = []
        self.random = random.Random(seed)
        self.kill_every_seconds = kill_every_seconds
        self.kills: collections.Counter[str] = collections.Counter()
        self.done = threading.Event()
        self.workers = workers
        # A parent takes a second to warm up (ten on a busy machine): killed too often, it would do nothing else.
        self.weights = weights
        self.until = time.monotonic() + most_seconds
        self.env = {**os.environ, "LABWRIGHT_SOAK": str(folder)}

    def run(self) -> None:
        killer = threading.Thread(target=self.kill_at_random)
        workers = [threading.Thread(target=self.work) for _ in range(self.workers)]
        for thread in (killer, *workers):
            thread.start()
        for thread in workers:
            thread.join()
        self.done.set()
        killer.join()

    def work(self) -> None:
        while True:
            with self.lock:
                number = next(self.numbers, None) if time.monotonic() < self.until else None
            if number is None:
                return
            target = self.folder / f"out-{threading.get_ident()}.ipynb"
            execution = Execution(parameterise(NOTEBOOK, {"number": number}), target, self.folder, self.env)
            outcome = self.engine.execute(execution, on_cell=lambda progress: None, cancelled=threading.Event())
            self.outcomes[number].append(outcome)
            notebook = json.loads(target.read_text())
            expected = [str(number * 2)]
            if outcome.state == "succeeded" and notebook["cells"][-1]["outputs"][0]["data"]["text/plain"] != expected:
                self.wrong.append(number)

    def kill_at_random(self) -> None:
        while not self.done.wait(self.random.expovariate(1 / self.kill_every_seconds)):
            with contextlib.suppress(OSError, IndexError, ValueError):
                self.kill_something()

    def kill_something(self) -> None:
        """Mostly a kernel, sometimes a parent, now and then the server."""
        server = int((self.folder / "server" / "pid").read_text())
        parents = children_of(server)
        kernels = [kernel for parent in parents for kernel in children_of(parent)]
        kind, victims = self.random.choices(
            [("kernel", kernels), ("parent", parents), ("server", [server])], weights=self.weights
        )[0]
        os.kill(self.random.choice(victims), signal.SIGKILL)
        self.kills[kind] += 1

    # -- what must hold -------------------------------------------------------------------------------

    def problems(self, runs: int) -> list[str]:
        found = []
        once = [number for number in range(runs) if len(self.outcomes[number]) != 1]
        strange = {outcome.state for outcomes in self.outcomes.values() for outcome in outcomes} - STATES
        unexplained = [o for outcomes in self.outcomes.values() for o in outcomes if o.state == "died" and not o.reason]
        self.server.stop()
        if once:
            found.append(f"{len(once)} runs without exactly one final state: {once[:5]}")
        if strange:
            found.append(f"unexpected states {strange}")
        if unexplained:
            found.append(f"{len(unexplained)} deaths without a reason")
        if self.wrong:
            found.append(f"wrong outputs of runs {self.wrong[:5]}")
        if left := self.wait_for_no_process():
            found.append(f"processes left behind: {left}")
        if files := [path.name for path in self.folder.iterdir() if path.name.startswith(".")]:
            found.append(f"files left behind: {files[:5]}")
        return found

    def wait_for_no_process(self, seconds: float = 20.0) -> list[str]:
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def processes(self) -> list[str]:
        """Living processes that carry the soak's mark in their environment, or are its server's."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                if not entry.name.isdigit() or int(entry.name) == os.getpid() or parse_stat(entry)[0] == "Z":
                    continue
                marks = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                if str(self.folder).encode() in marks:
                    found.append(f"{entry.name} {(entry / 'cmdline').read_bytes().decode()!r}")
        return found


def soak(
    runs: int,
    workers: int = 2,
    seed: int = 0,
    kill_every_seconds: float = 0.3,
    weights: tuple[float, ...] = (90, 7, 3),
    most_seconds: float = float("inf"),
) -> tuple[list[str], Soak]:
    """The list of what did not hold, and the soak. `weights` are of kernels, parents and the server as victims."""
    with tempfile.TemporaryDirectory() as folder:
        attempt = Soak(Path(folder), runs, workers, seed, kill_every_seconds, weights, most_seconds)
        files, shared = open_files(), shared_memory()
        attempt.run()
        problems = attempt.problems(len(attempt.outcomes) if most_seconds < float("inf") else runs)
        if left := shared_memory() - shared:
            problems.append(f"shared memory left behind: {left}")
        if (more := open_files()) > files + 4:
            problems.append(f"the runner's open files grew from {files} to {more}")
        return problems, attempt


def shared_memory() -> set[str]:
    """What Python's multiprocessing made; other programs of the machine come and go there too."""
    return {path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(("psm_", "sem."))}


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill-every-seconds", type=float, default=0.3)
    parser.add_argument("--weights", type=float, nargs=3, default=(90, 7, 3), help="kernels, parents, server")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so long")
    options = parser.parse_args()
    started = time.monotonic()
    limits = (tuple(options.weights), options.minutes * 60)
    problems, attempt = soak(options.runs, options.workers, options.seed, options.kill_every_seconds, *limits)
    states = collections.Counter(o.state for outcomes in attempt.outcomes.values() for o in outcomes)
    result = {"runs": len(attempt.outcomes), "states": dict(states), "kills": dict(attempt.kills), "problems": problems}
    print(json.dumps({**result, "seconds": round(time.monotonic() - started)}))
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
