"""The form of `%schedule`: one field for each parameter of the notebook, and when to run it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets  # type: ignore[import-untyped]

from labwright.api.errors import LabwrightError
from labwright.api.job_client import JobClient
from labwright.api.parameters import from_text
from labwright.magics.job_words import Shown, shown_job, shown_run

WIDE = {"description_width": "9em"}
FULL = {"width": "auto"}
FOLLOW = "Follow the notebook: each save in Lab becomes what runs next"


def form(jobs: JobClient, path: Path, content: Mapping[str, Any]) -> Form:
    return Form(jobs, path, content)


class Form:
    """Shows itself in a notebook; as text it says how to do the same with words."""

    def __init__(self, jobs: JobClient, path: Path, content: Mapping[str, Any]) -> None:
        self._jobs, self._path, self._content = jobs, path, content
        self._schema = jobs.inspect(content).parameters_schema
        self.fields = {name: field(name, about) for name, about in self._schema["properties"].items()}
        self.name = widgets.Text(value=path.stem, description="name", style=WIDE)
        self.cron = widgets.Text(value="0 6 * * *", description="schedule", style=WIDE)
        self.zone = widgets.Text(value="UTC", description="time zone", style=WIDE)
        there = next(iter(jobs.jobs(name=path.stem)), None)
        self._followed = there is not None and there.follow
        self.follow = widgets.Checkbox(value=self._followed, description=FOLLOW, indent=False, layout=FULL)
        self.answer = widgets.HTML()
        self.run_now = widgets.Button(description="Run now")
        self.schedule = widgets.Button(description="Schedule", button_style="primary")
        self.run_now.on_click(lambda _: self._attempt(now=True))
        self.schedule.on_click(lambda _: self._attempt(now=False))

    def __repr__(self) -> str:
        words = " ".join(f"-p {name}=…" for name in self.fields)
        return f"%schedule {self._path.name} {words} --now, or --cron '0 6 * * *' --zone Europe/Berlin"

    def _ipython_display_(self) -> None:
        from IPython.display import display

        rows = [described(about, self.fields[name]) for name, about in self._schema["properties"].items()]
        buttons = widgets.HBox([self.run_now, self.schedule])
        box = widgets.VBox([self.name, *rows, self.cron, self.zone, self.follow, buttons, self.answer])
        display(box)  # type: ignore[no-untyped-call]

    def values(self) -> dict[str, Any]:
        """The fields as JSON values; one that was left as it was is left to the notebook's default."""
        found = {}
        for name, about in self._schema["properties"].items():
            value = self.fields[name].value
            if isinstance(value, datetime.date):
                value = value.isoformat()
            elif isinstance(value, str) and "enum" not in about:
                if value == shown_default(about):
                    continue
                value = from_text(self._schema, name, value)
            if value is not None and value != about.get("default"):
                found[name] = value
        return found

    def _attempt(self, *, now: bool) -> None:
        try:
            self.answer.value = self._submit(now=now)._repr_html_()
        except LabwrightError as error:
            self.answer.value = f"<div style='color:var(--jp-error-color1)'>{escape(error.sentence())}</div>"

    def _submit(self, *, now: bool) -> Shown:
        schedule = None if now else {"cron": self.cron.value, "timezone": self.zone.value}
        # Left alone it says nothing: another name may be of a job that follows.
        follow = None if self.follow.value == self._followed else self.follow.value
        job = self._jobs.place(
            self._path, self._content, self.values(), name=self.name.value, schedule=schedule, follow=follow
        )
        self._followed = self.follow.value = job.follow
        return shown_run(self._jobs.start(job.id)) if now else shown_job(job)


def shown_default(about: Mapping[str, Any]) -> str:
    default = about.get("default")
    return default if isinstance(default, str) else "" if default is None else json.dumps(default)


def field(name: str, about: Mapping[str, Any]) -> Any:
    """The widget that fits the parameter's type."""
    default = about.get("default")
    if "enum" in about:
        chosen = default if default in about["enum"] else about["enum"][0]
        return widgets.Dropdown(options=about["enum"], value=chosen, description=name, style=WIDE)
    if about.get("type") == "boolean":
        return widgets.Checkbox(value=bool(default), description=name, style=WIDE)
    if about.get("format") == "date":
        day = datetime.date.fromisoformat(default) if default else None
        return widgets.DatePicker(value=day, description=name, style=WIDE)
    # Numbers too: an IntText shows 0 where there is no default, and cannot hold 2**60.
    return widgets.Text(value=shown_default(about), description=name, style=WIDE)


def described(about: Mapping[str, Any], widget: Any) -> Any:
    if text := about.get("description"):
        return widgets.HBox([widget, widgets.HTML(f"<small>{escape(str(text))}</small>")])
    return widget
