"""`labwright run`, `labwright jobs` and the magics against a real core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from labwright.api.client import Client, endpoints_from, kept_endpoints
from labwright.api.commands.login import write_private
from labwright.api.errors import InvalidRequest, UnknownParameter
from labwright.api.job_client import JobClient
from labwright.magics import jobs as jobs_magic
from labwright.magics import schedule as schedule_magic
from labwright.magics.job_words import client_for

from .conftest import Workplace, job_request, notebook

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def workplace(warm_workplace: Workplace) -> Workplace:
    return warm_workplace


def labwright(workplace: Workplace, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(workplace.home("alice")),
        "LABWRIGHT_CORE_URL": workplace.settings.core_url,
        "LABWRIGHT_DATA_URL": workplace.settings.data_url,
        "LABWRIGHT_TOKEN": "alice-token",
    }
    program = "from labwright.api.commands import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_the_exit_codes_of_run_tell_what_happened(workplace: Workplace) -> None:
    fails = str(EXAMPLES / "fails.ipynb")
    misspelt = labwright(workplace, "run", fails, "-p", "minuets=3", "--wait")
    assert misspelt.returncode == 2, misspelt
    assert "'minuets'" in misspelt.stderr
    assert "minutes" in misspelt.stderr
    failed = labwright(workplace, "run", fails, "-p", "minutes=3", "--wait")
    assert failed.returncode == 1, failed
    assert "cell 4: ValueError: a delay of 3 minutes is too much" in failed.stderr
    good = workplace.home("alice") / "good.ipynb"
    good.write_text(json.dumps(notebook("print(1)")))
    succeeded = labwright(workplace, "run", str(good), "--wait")
    assert succeeded.returncode == 0, succeeded
    assert "succeeded" in succeeded.stdout
    listed = labwright(workplace, "jobs", "list")
    assert "fails" in listed.stdout
    assert json.loads(labwright(workplace, "jobs", "runs", "good", "--json").stdout)[0]["state"] == "succeeded"
    assert "ValueError" in labwright(workplace, "jobs", "log", "fails").stderr
    assert labwright(workplace, "run", "nowhere.ipynb").returncode == 2
    shown = json.loads(labwright(workplace, "jobs", "output", "good#1").stdout)
    assert shown["cells"][-1]["outputs"][0]["text"] == "1\n"
    kept = workplace.home("alice") / "kept.ipynb"
    assert labwright(workplace, "jobs", "output", "good", "-o", str(kept)).stdout == f"Wrote {kept}.\n"
    assert json.loads(kept.read_text()) == shown
    assert "cannot be written" in labwright(workplace, "jobs", "output", "good", "-o", "/nowhere/x.ipynb").stderr


def test_a_notebook_is_scheduled_from_a_shell_and_changed_by_the_same_words(workplace: Workplace) -> None:
    path = workplace.home("alice") / "daily.ipynb"
    path.write_text(json.dumps(notebook("1", parameters="month: int = 7")))
    words = ("schedule", str(path), "--cron", "0 6 * * *", "--zone", "Europe/Berlin", "-p", "month=8")
    made = labwright(workplace, *words)
    assert made.returncode == 0, made
    assert "runs at 0 6 * * * Europe/Berlin; next " in made.stdout
    again = labwright(workplace, *words, "--overlap", "queue")
    assert again.stdout.split()[1] == made.stdout.split()[1]  # the same job
    job = json.loads(labwright(workplace, "jobs", "show", "daily", "--json").stdout)
    assert job["parameters"] == {"month": 8}
    assert job["policy"]["overlap"] == "queue"
    # By hand: the schedule stays as it is, and the last word holds for the job beside it.
    for timeout in ("50", "40"):
        assert labwright(workplace, "run", str(path), "-p", "month=9", "--timeout", timeout).returncode == 0
    beside = json.loads(labwright(workplace, "jobs", "show", "daily (by hand)", "--json").stdout)
    assert (beside["parameters"], beside["policy"]["timeout_seconds"]) == ({"month": 9}, 40)
    assert json.loads(labwright(workplace, "jobs", "show", "daily", "--json").stdout)["parameters"] == {"month": 8}
    never = labwright(workplace, "schedule", str(path), "--cron", "0 0 30 2 *")
    assert never.returncode == 2, never
    deleted = labwright(workplace, "jobs", "delete", "daily", "--yes")
    assert deleted.stdout == f"daily is deleted; 'labwright jobs restore {job['id']}' brings it back.\n"
    assert job["id"] in labwright(workplace, "jobs", "list", "--deleted", "--json").stdout
    of_notebook = labwright(workplace, "jobs", "list", "--deleted", "--notebook", str(path), "--json")
    assert [found["id"] for found in json.loads(of_notebook.stdout)] == [job["id"]]
    elsewhere = labwright(workplace, "jobs", "list", "--notebook", str(path.with_name("hourly.ipynb")))
    assert elsewhere.stdout == "No job runs 'hourly.ipynb'.\n"
    nothing = labwright(workplace, "jobs", "list", "--deleted", "--search", "hourly")
    assert nothing.stdout == "No deleted job has 'hourly' in its name or path.\n"
    again = labwright(workplace, *words)
    taken = labwright(workplace, "jobs", "restore", "daily")
    assert taken.returncode == 1, taken
    assert "You have another job 'daily' by now." in taken.stderr
    assert labwright(workplace, "jobs", "delete", again.stdout.split()[1].strip("()"), "--yes").returncode == 0
    restored = labwright(workplace, "jobs", "restore", job["id"])
    assert restored.stdout.startswith("daily is restored; next at "), restored
    assert labwright(workplace, "jobs", "delete", "daily", "--yes").returncode == 0
    assert labwright(workplace, "jobs", "restore", "daily").returncode == 0  # the last one of that name
    shown = json.loads(labwright(workplace, "jobs", "show", "daily", "--json").stdout)
    assert (shown["id"], shown["parameters"]) == (job["id"], {"month": 8})


FOLLOWS = "Follows the notebook: each save in Lab becomes what runs next."


def test_a_job_follows_its_notebook_from_when_that_is_said_until_it_is_taken_back(workplace: Workplace) -> None:
    path = workplace.home("alice") / "grows.ipynb"
    path.write_text(json.dumps(notebook("1")))

    def follows(*words: str) -> Any:
        done = labwright(workplace, "schedule", str(path), "--cron", "0 6 * * *", *words)
        assert done.returncode == 0, done
        return json.loads(labwright(workplace, "jobs", "show", "grows", "--json").stdout)["follow"]

    assert follows() is False
    assert follows("--follow") is True
    assert follows() is True  # nothing was said of it
    assert FOLLOWS in labwright(workplace, "jobs", "show", "grows").stdout
    assert follows("--no-follow") is False
    assert FOLLOWS not in labwright(workplace, "jobs", "show", "grows").stdout
    on = labwright(workplace, "jobs", "follow", "grows")
    assert on.stdout == "grows follows the notebook grows.ipynb: each save in Lab becomes what runs next.\n"
    assert FOLLOWS in labwright(workplace, "jobs", "show", "grows").stdout
    off = labwright(workplace, "jobs", "unfollow", "grows")
    assert off.stdout == "grows keeps the notebook grows.ipynb as it has it: saves in Lab do not change what runs.\n"
    assert FOLLOWS not in labwright(workplace, "jobs", "show", "grows").stdout


def test_a_notebook_outside_of_the_home_cannot_be_followed(workplace: Workplace, tmp_path: Path) -> None:
    path = tmp_path / "outside.ipynb"
    path.write_text(json.dumps(notebook("1")))
    refused = labwright(workplace, "schedule", str(path), "--cron", "0 6 * * *", "--follow")
    assert refused.returncode == 2, refused
    assert "is not in your home" in refused.stderr
    assert labwright(workplace, "jobs", "list", "--search", "outside").stdout.startswith("No job ")


def test_a_job_is_billed_to_the_group_that_was_named_last(workplace: Workplace) -> None:
    path = workplace.home("alice") / "bills.ipynb"
    path.write_text(json.dumps(notebook("1")))

    def billed(*words: str) -> Any:
        done = labwright(workplace, "schedule", str(path), "--cron", "0 6 * * *", *words)
        assert done.returncode == 0, done
        return json.loads(labwright(workplace, "jobs", "show", "bills", "--json").stdout)["group"]

    assert billed() is None
    assert billed("--group", "research") == "research"
    assert billed() == "research"  # nothing was said of it
    assert billed("--group", "") is None
    refused = labwright(workplace, "schedule", str(path), "--cron", "0 6 * * *", "--group", "board")
    assert refused.returncode == 1, refused
    assert "You are not in the group 'board'." in refused.stderr


@pytest.fixture
def as_alice(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """The magics of this process speak for alice, whose runs wait."""
    workplace.ledger.limit = 0
    monkeypatch.setenv("HOME", str(workplace.home("alice")))
    monkeypatch.setenv("LABWRIGHT_CORE_URL", workplace.settings.core_url)
    monkeypatch.setenv("LABWRIGHT_DATA_URL", workplace.settings.data_url)
    monkeypatch.setenv("LABWRIGHT_TOKEN", "alice-token")
    monkeypatch.setenv("LABWRIGHT_NOTEBOOK", "work.ipynb")
    yield workplace
    client_for(endpoints_from(os.environ)).close()
    client_for.cache_clear()


def test_the_newest_runs_are_shown_with_how_to_see_the_others(as_alice: Workplace) -> None:
    client = as_alice.client("alice")
    job = client.core("POST", "/jobs", json={**job_request("1"), "name": "many runs"})
    for _ in range(21):
        client.core("POST", f"/jobs/{job['id']}/runs", json={"parameters": {}})
    note = "These are the newest 20 runs; %jobs show 'many runs' --limit 200 shows older ones."
    shown = jobs_magic.run("show 'many runs'", None, None)
    assert shown.notes[-1] == note
    assert "#2 " in repr(shown)
    assert "#1 " not in repr(shown)
    whole = jobs_magic.run("runs 'many runs' --limit 21", None, None)
    assert "#1 " in repr(whole)
    assert "newest" not in repr(whole)
    with pytest.raises(InvalidRequest):
        jobs_magic.run("show 'many runs' --limit 0", None, None)
    listed = labwright(as_alice, "jobs", "runs", "many runs")
    assert (
        listed.stderr == "These are the newest 20 runs; labwright jobs runs 'many runs' --limit 200 shows older ones.\n"
    )
    assert labwright(as_alice, "jobs", "runs", "many runs", "--limit", "501").stderr == ""
    found = JobClient(client).runs(job["id"], 7, page=3)  # across pages
    assert ([run.number for run in found.items], found.next) == ([*range(21, 14, -1)], found.items[-1].id)
    client.close()


def test_the_magics_schedule_show_and_delete(as_alice: Workplace) -> None:
    home = as_alice.home("alice")
    (home / "work.ipynb").write_text(json.dumps(notebook("1", parameters="month: int = 7  # 1 to 12")))
    shell = InteractiveShell.instance()
    made = schedule_magic.run("--cron '0 6 * * *' --zone Europe/Berlin -p month=8", None, shell)
    assert "0 6 * * * (Europe/Berlin)" in repr(made)
    assert "0 6 * * * (Europe/Berlin)" in made._repr_html_()
    with pytest.raises(UnknownParameter):
        schedule_magic.run("--now -p moth=8", None, shell)
    with pytest.raises(InvalidRequest):
        schedule_magic.run("--never", None, shell)
    form = schedule_magic.run("", None, shell)
    form.fields["month"].value = "9"
    assert form.values() == {"month": 9}
    form.follow.value = True
    form.schedule.click()
    assert FOLLOWS in form.answer.value
    again = schedule_magic.run("", None, shell)
    assert again.follow.value
    again.follow.value = False
    again.schedule.click()
    assert FOLLOWS not in again.answer.value
    assert "work" in repr(jobs_magic.run("", None, shell))
    assert "queued" in repr(jobs_magic.run("run work", None, shell))
    assert "paused" in repr(jobs_magic.run("pause 1", None, shell))
    assert FOLLOWS in repr(jobs_magic.run("follow work", None, shell))
    assert FOLLOWS not in repr(jobs_magic.run("unfollow work", None, shell))
    assert FOLLOWS in repr(schedule_magic.run("--cron '0 6 * * *' --zone Europe/Berlin --follow", None, shell))
    assert FOLLOWS in jobs_magic.run("show work", None, shell)._repr_html_()
    assert FOLLOWS not in repr(schedule_magic.run("--cron '0 6 * * *' --zone Europe/Berlin --no-follow", None, shell))
    assert "cancelled" in repr(jobs_magic.run("cancel work#1", None, shell))
    assert "%jobs restore job-" in repr(jobs_magic.run("delete work", None, shell))
    assert "No jobs yet" in repr(jobs_magic.run("list", None, shell))
    assert "0 6 * * * (Europe/Berlin)" in repr(jobs_magic.run("restore work", None, shell))
    jobs_magic.run("delete work", None, shell)
    assert jobs_magic.run("--help", None, shell) is None
    assert jobs_magic.complete("sh", "%jobs sh", shell) == ["show"]
    assert schedule_magic.complete("Europe/Berl", "%schedule --zone Europe/Berl", shell) == ["Europe/Berlin"]


def test_credentials_of_login_are_private_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".config" / "labwright" / "credentials.json"
    write_private(path, json.dumps({"core": "http://c", "data": "http://d", "token": "t"}))
    assert path.stat().st_mode & 0o777 == 0o600
    assert endpoints_from({}) == kept_endpoints(path)
    Client(endpoints_from({})).close()
