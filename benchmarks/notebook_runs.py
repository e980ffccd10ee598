"""Trivial parameterised notebooks per second: our engine, durable per cell, against papermill's API.

    make bench NAME=notebook_runs
    make bench NAME=notebook_runs ARGS="--minutes 60"    # only ours, for an hour at 11.6 runs/s

Both sides run in the same number of worker processes and take turns. The long run asks for one million runs a
day and tells how many were lost and whether memory stayed flat.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from side_by_side import complain_in, complaints_in, report, take_turns

RATE = 11.6  # a million a day
PACE = 12.0
numbers = itertools.count()


def make_notebook() -> nbformat.NotebookNode:
    cells = [
        new_markdown_cell("# A trivial notebook"),
        new_code_cell("number = 0", metadata={"tags": ["parameters"]}),
        new_code_cell("doubled = number * 2\nprint('twice', number, 'is', doubled)"),
        new_code_cell("doubled"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=metadata)


def check(path: Path, number: int) -> None:
    """A run counts only if its output says so."""
    cells = json.loads(path.read_text())["cells"]
    assert cells[-1]["outputs"][0]["data"]["text/plain"] == [str(number * 2)], path


class Ours:
    """What one worker process keeps between its runs."""

    engine = None

    @classmethod
    def run(cls, source: Path, target: Path, number: int, directory: str) -> None:
        from labwright.kernels.client import ForkServer
        from labwright.kernels.engine import ForkServerEngine
        from labwright.kernels.execution import Execution, parameterise

        if cls.engine is None:
            cls.engine = ForkServerEngine(ForkServer(Path(directory) / "server", idle_seconds=30))
            cls.notebook = nbformat.read(source, as_version=4)
        notebook = parameterise(cls.notebook, {"number": number})
        execution = Execution(notebook, target, source.parent, os.environ)
        outcome = cls.engine.execute(execution, on_cell=lambda progress: None, cancelled=threading.Event())
        assert outcome.state == "succeeded", outcome


def papermill_run(source: Path, target: Path, number: int, directory: str) -> None:
    import papermill

    papermill.execute_notebook(source, target, {"number": number}, progress_bar=False)


def work(side: str, directory: str, seconds: float) -> int:
    """Run for `seconds` and count what was finished; the first run of a worker only warms it up."""
    run = Ours.run if side == "ours" else papermill_run
    folder = Path(directory)
    done = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or done == 0:
        number = next(numbers)
        target = folder / f"{side}-{os.getpid()}.ipynb"
        run(folder / "in.ipynb", target, number, directory)
        check(target, number)
        done += 1
    return done


def workers(count: int, log: Path) -> ProcessPoolExecutor:
    """Processes that run notebooks, one at a time each."""
    return ProcessPoolExecutor(count, get_context("spawn"), complain_in, (log,))


def measure(pool: ProcessPoolExecutor, side: str, directory: str, seconds: float, workers: int) -> list[float]:
    started = time.monotonic()
    counts = [pool.submit(work, side, directory, seconds) for _ in range(workers)]
    wait(counts)
    total = sum(count.result() for count in counts)
    return [total / (time.monotonic() - started)]


def sustain(pool: ProcessPoolExecutor, directory: str, minutes: float, workers: int) -> None:
    """Ours alone, a little faster than a million a day, with the memory of all that belongs to it."""
    done, lost, memory, started = 0, 0, [], time.monotonic()
    while time.monotonic() - started < minutes * 60:
        # What is due by the end of this minute, with what earlier minutes left undone.
        due = PACE * (time.monotonic() - started + 60) - done - lost
        futures = [pool.submit(paced, directory, due / workers / 60, 60.0) for _ in range(workers)]
        answers = [future.result() for future in futures]
        done += sum(answer[0] for answer in answers)
        lost += sum(answer[1] for answer in answers)
        memory.append(resident_megabytes(directory) + sum(answer[2] for answer in answers))
        rate = done / (time.monotonic() - started)
        print(f"{done} runs, {lost} lost, {rate:.2f}/s, {memory[-1]:.0f} MB, load {os.getloadavg()[0]:.1f}", flush=True)
    seconds = time.monotonic() - started
    result = {"name": "notebook_runs_sustained", "runs": done, "lost": lost, "seconds": seconds, "rate": done / seconds}
    spread = {"memory_least_mb": min(memory), "memory_most_mb": max(memory)}
    print(json.dumps({**result, "memory_first_mb": memory[0], "memory_last_mb": memory[-1], **spread}))


def paced(directory: str, rate: float, seconds: float) -> tuple[int, int, float]:
    """Runs at `rate`, catching up when it fell behind: how many came out right, how many did not, and our memory."""
    folder = Path(directory)
    started, done, lost = time.monotonic(), 0, 0
    while done + lost < rate * seconds:
        pause = started + (done + lost) / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        number = next(numbers)
        target = folder / f"paced-{os.getpid()}.ipynb"
        try:
            Ours.run(folder / "in.ipynb", target, number, directory)
            check(target, number)
            done += 1
        except Exception as error:  # noqa: BLE001 - whatever it was, the run is lost
            print(f"lost run {number}: {error!r}", flush=True)
            lost += 1
    return done, lost, megabytes(os.getpid())


def resident_megabytes(directory: str) -> float:
    """Resident memory of the fork server and its parents."""
    from labwright.kernels.client import ForkServer

    server = ForkServer(Path(directory) / "server")
    status = server.status()
    server.close()
    pids = [status["pid"], *(parent["pid"] for parent in status["parents"])]
    return sum(map(megabytes, pids))


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each side in each round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=0.0, help="instead: sustain 11.6 runs/s for so long")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        complaints_in(Path(directory) / "stderr") as log,
        workers(options.workers, log) as pool,
    ):
        nbformat.write(make_notebook(), Path(directory) / "in.ipynb")
        for side in ("ours", "papermill"):
            measure(pool, side, directory, 0.0, options.workers)
        if options.minutes:
            sustain(pool, directory, options.minutes, options.workers)
        else:
            ours, peer = take_turns(
                lambda: measure(pool, "ours", directory, options.seconds, options.workers),
                lambda: measure(pool, "papermill", directory, options.seconds, options.workers),
                options.rounds,
            )
            report("notebook_runs", ours, peer, "runs/s", True, sustains=statistics.median(ours) >= RATE)


if __name__ == "__main__":
    main()
