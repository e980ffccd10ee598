"""`%jobs`: your jobs and their runs.

%jobs                        list
%jobs run NAME -p month=8    run one now
%jobs show NAME              its runs
%jobs open NAME              the last output, as a path in your home
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labwright.api.job_client import JobClient, older_runs, split_parameter
from labwright.api.parameters import from_text
from labwright.magics.job_words import Shown, completions, job_client, job_names, shown_job, shown_jobs, shown_run
from labwright.magics.line_parser import LineParser

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

RUN_VERBS = ("run", "runs", "cancel", "log", "open")
VERBS = ("list", "show", *RUN_VERBS, "pause", "resume", "follow", "unfollow", "delete", "restore")


def parser() -> LineParser:
    made = LineParser(
        prog="%jobs",
        description="Your jobs. JOB is a name, an id, or a number of the list; RUN an id, JOB#3, or JOB for its last.",
    )
    verbs = made.add_subparsers(dest="verb", metavar="verb")
    verbs.add_parser("list", help="all jobs, newest first (also without a word)").add_argument("search", nargs="?")
    for verb in ("show", "runs"):
        text = "a job and its runs"
        one = verbs.add_parser(verb, help=text, description=text)
        one.add_argument("job")
        one.add_argument("--limit", type=count, default=20, help="how many runs, 20 by default")
    for verb, text in {
        "pause": "let its schedule rest",
        "resume": "let its schedule go on",
        "follow": "follow the notebook: each save in Lab becomes what runs next",
        "unfollow": "keep the notebook as the job has it: saves in Lab do not change what runs",
        "delete": "delete a job and stop what of it runs",
        "restore": "take a job's deletion back, by its name or id",
    }.items():
        verbs.add_parser(verb, help=text, description=text).add_argument("job")
    run = verbs.add_parser("run", help="run a job now", description="run a job now")
    run.add_argument("job")
    run.add_argument(
        "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="changed for this run"
    )
    run.add_argument("--wait", action="store_true", help="follow it to its end")
    for verb, text in {
        "cancel": "stop a run",
        "log": "what its kernel printed outside of its cells",
        "open": "save its output notebook in your home",
    }.items():
        verbs.add_parser(verb, help=text, description=text).add_argument("run")
    return made


def count(text: str) -> int:
    """A whole number of at least one."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def run(line: str, cell: str | None, shell: InteractiveShell | None) -> Any:
    asked = parser().parse_line(line)
    if asked is None:
        return None
    jobs = job_client()
    verbs: dict[str | None, Callable[[JobClient, Any], Any]] = {
        None: list_jobs,
        "list": list_jobs,
        "show": show,
        "runs": show,
        "run": run_job,
        "cancel": lambda jobs, asked: shown_run(jobs.cancel(jobs.find_run(asked.run).id)),
        "pause": lambda jobs, asked: shown_job(jobs.update(jobs.find(asked.job).id, {"paused": True})),
        "resume": lambda jobs, asked: shown_job(jobs.update(jobs.find(asked.job).id, {"paused": False})),
        "follow": lambda jobs, asked: shown_job(jobs.update(jobs.find(asked.job).id, {"follow": True})),
        "unfollow": lambda jobs, asked: shown_job(jobs.update(jobs.find(asked.job).id, {"follow": False})),
        "delete": delete,
        "restore": lambda jobs, asked: shown_job(jobs.restore(jobs.find_deleted(asked.job))),
        "log": log,
        "open": open_output,
    }
    return verbs[asked.verb](jobs, asked)


def list_jobs(jobs: JobClient, asked: Any) -> Shown:
    return shown_jobs(jobs.jobs(getattr(asked, "search", None)))


def show(jobs: JobClient, asked: Any) -> Shown:
    job = jobs.find(asked.job)
    page = jobs.runs(job.id, asked.limit)
    shown = shown_job(job, page.items)
    if note := older_runs(page, f"%jobs {asked.verb}", job):
        shown.notes = [*shown.notes, note]
    return shown


def run_job(jobs: JobClient, asked: Any) -> Shown:
    job = jobs.find(asked.job)
    texts = dict(split_parameter(text) for text in asked.parameters)
    values = {name: from_text(job.parameters_schema, name, text) for name, text in texts.items()}
    found = jobs.start(job.id, values)
    return follow(jobs, found) if asked.wait else shown_run(found)


def follow(jobs: JobClient, found: Any) -> Shown:
    """One display that changes with the run until it is over."""
    from IPython.display import display

    handle = display(shown_run(found), display_id=True)  # type: ignore[no-untyped-call]
    for latest in jobs.follow(found):
        found = latest
        if handle is not None:
            handle.update(shown_run(found))
    return shown_run(found)


def delete(jobs: JobClient, asked: Any) -> Shown:
    job = jobs.find(asked.job)
    jobs.delete(job.id)
    return Shown(f"{job.name} is deleted.", notes=[f"%jobs restore {job.id} brings it back."])


def log(jobs: JobClient, asked: Any) -> None:
    found = jobs.find_run(asked.run)
    sys.stdout.write(jobs.log(found.id))
    if found.error is not None:
        sys.stdout.write(f"{found.error.traceback}\n")


def open_output(jobs: JobClient, asked: Any) -> Shown:
    """The output next to nothing of yours: in `runs/`, one file a run."""
    found = jobs.find_run(asked.run)
    folder = Path.home() / "runs"
    folder.mkdir(exist_ok=True)
    path = folder / f"{Path(found.notebook_path).stem}-{found.number}-{found.id[-6:]}.ipynb"
    path.write_text(json.dumps(jobs.notebook(found.id), indent=1, ensure_ascii=False))
    return Shown(f"{path.relative_to(Path.home())} holds the output of run {found.number}.")


def complete(text: str, line: str, shell: InteractiveShell | None) -> list[str]:
    words = line.split()
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        return completions([*VERBS, "--help"], text)
    return completions(job_names(), text)
