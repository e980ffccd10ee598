"""`%schedule`: a notebook as a job, now or every so often.

%schedule --now -p month=8
%schedule reports/late.ipynb --cron "0 6 * * *" --zone Europe/Berlin
%schedule                       a form made of the notebook's parameters
"""

from __future__ import annotations

from argparse import BooleanOptionalAction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labwright.api.errors import InvalidRequest
from labwright.api.job_client import read_notebook, split_parameter
from labwright.magics.job_words import completions, job_client, shown_job, shown_run, this_notebook
from labwright.magics.line_parser import LineParser

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

OPTIONS = ("--cron", "--zone", "-p", "--name", "--profile", "--group", "--now", "--timeout", "--retries", "--help")
MORE_OPTIONS = ("--overlap", "--misfire", "--follow", "--no-follow")
OVERLAPS, MISFIRES = ("skip", "queue", "cancel-old"), ("skip", "once", "all")


def parser() -> LineParser:
    made = LineParser(
        prog="%schedule",
        description="Make a job of a notebook, as it was last saved: run it now, or every so often.",
        epilog="Without options: a form made of the notebook's parameters.",
    )
    made.add_argument("notebook", nargs="?", help="a path in your home; this notebook by default")
    made.add_argument("--cron", help="minute hour day month weekday, for example '0 6 * * *'")
    made.add_argument("--zone", default="UTC", help="the schedule's time zone, for example Europe/Berlin")
    made.add_argument(
        "-p",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter; any number of times",
    )
    made.add_argument("--name", help="the job's name; the file's by default")
    made.add_argument("--profile", default="small", help="the size it runs on")
    made.add_argument(
        "--group", help="the group that is billed, '' for you; without, you, or whom the job billed before"
    )
    made.add_argument(
        "--follow",
        action=BooleanOptionalAction,
        help="follow the notebook: each save in Lab becomes what runs next; without, as the job had it",
    )
    made.add_argument("--timeout", type=int, default=3600, help="seconds a run may take")
    made.add_argument("--retries", type=int, default=0, help="how often a failed run is tried again")
    made.add_argument("--overlap", choices=OVERLAPS, default="skip", help="when the run before still goes on")
    made.add_argument("--misfire", choices=MISFIRES, default="once", help="for slots missed while down")
    made.add_argument("--now", action="store_true", help="run it once at once")
    return made


def run(line: str, cell: str | None, shell: InteractiveShell | None) -> Any:
    asked = parser().parse_line(line)
    if asked is None:
        return None
    path = Path(asked.notebook).expanduser() if asked.notebook else this_notebook()
    content = read_notebook(path)
    jobs = job_client()
    if not asked.cron and not asked.now:
        if asked.parameters or asked.name or asked.follow is not None:
            raise InvalidRequest("Nothing says when.", remedy="Add --now, or --cron '0 6 * * *'.")
        from labwright.magics.schedule_form import form

        return form(jobs, path, content)
    values = jobs.typed(content, dict(split_parameter(text) for text in asked.parameters))
    policy = {name: getattr(asked, name) for name in ("retries", "overlap", "misfire")}
    schedule = {"cron": asked.cron, "timezone": asked.zone} if asked.cron else None
    policy["timeout_seconds"] = asked.timeout
    job = jobs.place(
        path,
        content,
        values,
        name=asked.name,
        profile=asked.profile,
        group=asked.group,
        schedule=schedule,
        policy=policy,
        follow=asked.follow,
    )
    return shown_run(jobs.start(job.id)) if asked.now else shown_job(job)


def complete(text: str, line: str, shell: InteractiveShell | None) -> list[str]:
    words = line.split()
    before = words[-2] if text and len(words) > 1 else words[-1]
    if before == "--zone":
        from zoneinfo import available_timezones

        return completions(sorted(available_timezones()), text)
    if before == "--overlap":
        return completions(OVERLAPS, text)
    if before == "--misfire":
        return completions(MISFIRES, text)
    if text.startswith("-"):
        return completions([*OPTIONS, *MORE_OPTIONS], text)
    return completions([str(path) for path in Path().glob("*.ipynb")], text)
