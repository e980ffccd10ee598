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
from collections.abc import Callable, Mapping
from pathlib import Path

from nbformat.v4 import new_code_cell, new_notebook

from labwright.kernels.client import ForkServer
from labwright.kernels.engine import ForkServerEngine
from labwright.kernels.execution import Execution, Outcome, parameterise
from labwright.kernels.sessions import children_of, is_resource_tracker, parse_stat

NOTEBOOK = new_notebook(
    cells=[
        new_code_cell("number = 0", metadata={"tags": ["parameters"]}),
        # A subprocess that would outlive the kernel.
        new_code_cell("import subprocess\nchild = subprocess.Popen(['sleep', '300'])\nprint(number)"),
        # Shared memory that nobody unlinks, now and then: it costs a process of Python's to watch over it, which is
        # told first: killed between making memory and telling that process, Python leaves it, forked or not.
        new_code_cell("""if number % 4 == 0:
    import os
    from multiprocessing import resource_tracker
    from multiprocessing.shared_memory import SharedMemory
    name = f"{os.environ['LABWRIGHT_SOAK_MEMORY']}{number}"
    resource_tracker.register(f"/{name}", "shared_memory")
    memory = SharedMemory(name, create=True, size=4096)"""),
        new_code_cell("number * 2"),
    ],
    metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
)
STATES = {"succeeded", "died"}
# One of each is killed after about so many runs. A parent takes a second to warm up (ten on a busy machine), and a
# server has to warm up its parents: killed too often, they would do nothing else.
EVERY: Mapping[str, float] = {"kernel": 8, "parent": 150, "server": 400}
# A kill comes up to so long after the run that it is due at has begun: anywhere in its life.
LONGEST_WAIT_SECONDS = 0.2


class Soak:
    def __init__(
        self, folder: Path, runs: int, workers: int, seed: int, every: Mapping[str, float], most_seconds: float
    ) -> None:
        self.folder = folder
        self.server = ForkServer(folder / "server", idle_seconds=5)
        self.engine = ForkServerEngine(self.server)
        self.runs = runs
        self.begun = 0
        self.changed = threading.Condition()
        self.outcomes: dict[int, list[Outcome]] = collections.defaultdict(list)
        self.wrong: list[int] = []
        self.seed = seed
        self.every = every
        self.kills: collections.Counter[str] = collections.Counter()
        self.done = threading.Event()
        self.workers = workers
        self.until = time.monotonic() + most_seconds
        self.memory_prefix = f"soak-{folder.name}-"
        self.env = {**os.environ, "LABWRIGHT_SOAK": str(folder), "LABWRIGHT_SOAK_MEMORY": self.memory_prefix}

    def run(self) -> None:
        killers = [threading.Thread(target=self.kill_at_random, args=(kind,)) for kind in self.every]
        workers = [threading.Thread(target=self.work) for _ in range(self.workers)]
        for thread in (*killers, *workers):
            thread.start()
        for thread in workers:
            thread.join()
        self.done.set()
        with self.changed:
            self.changed.notify_all()
        for thread in killers:
            thread.join()

    def next_run(self) -> int | None:
        with self.changed:
            if self.begun == self.runs or time.monotonic() > self.until:
                return None
            self.begun += 1
            self.changed.notify_all()
            if self.begun % 500 == 0:
                print(f"{self.begun} runs begun, kills {dict(self.kills)}", flush=True)
            return self.begun - 1

    def work(self) -> None:
        while (number := self.next_run()) is not None:
            target = self.folder / f"out-{threading.get_ident()}.ipynb"
            execution = Execution(parameterise(NOTEBOOK, {"number": number}), target, self.folder, self.env)
            outcome = self.engine.execute(execution, on_cell=lambda progress: None, cancelled=threading.Event())
            self.outcomes[number].append(outcome)
            notebook = json.loads(target.read_text())
            expected = [str(number * 2)]
            if outcome.state == "succeeded" and notebook["cells"][-1]["outputs"][0]["data"]["text/plain"] != expected:
                self.wrong.append(number)

    def kill_at_random(self, kind: str) -> None:
        choice = random.Random(f"{self.seed} {kind}")
        due = 0.0
        while True:
            due += choice.expovariate(1 / self.every[kind])
            with self.changed:
                self.changed.wait_for(lambda: self.begun > due or self.done.is_set())  # noqa: B023 - ends in this turn
            if self.done.wait(choice.uniform(0, LONGEST_WAIT_SECONDS)):
                return
            with contextlib.suppress(OSError, IndexError, ValueError):
                os.kill(choice.choice(self.victims(kind)), signal.SIGKILL)
                self.kills[kind] += 1

    def victims(self, kind: str) -> list[int]:
        server = int((self.folder / "server" / "pid").read_text())
        if kind == "server":
            return [server]
        parents = children_of(server)
        if kind == "parent":
            return parents
        # A parent also has what cleans up after a kernel that has ended: Python's to kill, and left then as by Python.
        return [pid for parent in parents for pid in children_of(parent) if not is_resource_tracker(pid)]

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
        if left := wait_until_none(self.processes):
            found.append(f"processes left behind: {left}")
        if memory := wait_until_none(self.shared_memory):
            found.append(f"shared memory left behind: {memory}")
        if files := [path.name for path in self.folder.iterdir() if path.name.startswith(".")]:
            found.append(f"files left behind: {files[:5]}")
        if self.server.directory.exists():
            found.append(f"the server's folder is still there: {sorted(self.server.directory.iterdir())}")
        return found

    def shared_memory(self) -> list[str]:
        """What runs on forks left; an ordinary kernel kills Python's process that would remove it."""
        elsewhere = {number for number, outcomes in self.outcomes.items() if any(map(fell_back, outcomes))}
        names = [path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(self.memory_prefix)]
        return [name for name in names if int(name.removeprefix(self.memory_prefix)) not in elsewhere]

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
    every: Mapping[str, float] = EVERY,
    most_seconds: float = float("inf"),
) -> tuple[list[str], Soak]:
    """The list of what did not hold, and the soak."""
    with tempfile.TemporaryDirectory() as folder:
        attempt = Soak(Path(folder), runs, workers, seed, every, most_seconds)
        files = open_files()
        attempt.run()
        problems = attempt.problems(attempt.begun)
        if more := wait_until_none(lambda: sorted(open_files() - files)):
            problems.append(f"the runner left files open: {more}")
        return problems, attempt


def fell_back(outcome: Outcome) -> bool:
    return outcome.log.startswith("Fell back")


def open_files() -> set[str]:
    """What this process has open, by number and name."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{fd.name} {fd.readlink()}")
    return {entry for entry in found if not entry.endswith("/fd")}


def wait_until_none(look: Callable[[], list[str]], seconds: float = 20.0) -> list[str]:
    """What is still there after so long: the last of them end while we look."""
    deadline = time.monotonic() + seconds
    while (left := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    for kind, runs in EVERY.items():
        parser.add_argument(f"--{kind}-every", type=float, default=runs, metavar="RUNS")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so long")
    options = parser.parse_args()
    started = time.monotonic()
    every = {kind: getattr(options, f"{kind}_every") for kind in EVERY}
    problems, attempt = soak(options.runs, options.workers, options.seed, every, options.minutes * 60)
    states = collections.Counter(o.state for outcomes in attempt.outcomes.values() for o in outcomes)
    elsewhere = sum(fell_back(o) for outcomes in attempt.outcomes.values() for o in outcomes)
    result = {"runs": len(attempt.outcomes), "states": dict(states), "by_papermill": elsewhere}
    result |= {"kills": dict(attempt.kills), "problems": problems}
    print(json.dumps({**result, "seconds": round(time.monotonic() - started)}))
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
