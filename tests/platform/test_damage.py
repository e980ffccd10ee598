"""A folder of state that a crash, a full disk or a hand has left half made: what `up` and `doctor` say, and mend."""

from __future__ import annotations

import os
import pwd
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from workbench import reachable_folder, run_labwright, workbench_settings

from labwright.api.errors import LabwrightError
from labwright.hub.core import schema
from labwright.hub.damage import damages
from labwright.hub.data.vault import Vault
from labwright.hub.database import Database
from labwright.hub.installation import install, misplaced
from labwright.hub.people import People
from labwright.hub.settings import SERVICE_USER, SERVICES, Settings
from labwright.hub.tokens import create_signing_key


def made(settings: Settings) -> Settings:
    """As it is after a first start."""
    install(settings)
    create_signing_key(settings.signing_key_file, settings.public_key_file)
    Vault(settings.data_folder / "secrets.key")
    for path in (
        settings.core_folder / "core.sqlite",
        settings.data_folder / "data.sqlite",
        settings.hub_folder / "jupyterhub.sqlite",
        settings.mlflow_folder / "mlflow.sqlite",
    ):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE kept (n)")
        path.chmod(0o600)
    return settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return made(workbench_settings(tmp_path / "home", LABWRIGHT_BY_USER="0"))


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def written(path: Path, text: str) -> None:
    path.write_text(text)


def replaced_by_a_file(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    folder.touch()


DAMAGES: dict[str, tuple[Callable[[Settings], None], str, str]] = {
    "people, empty": (lambda s: cut(s.hub_folder / "people.json", 0), "people.json is damaged", "added again"),
    "people, cut": (lambda s: cut(s.hub_folder / "people.json", 40), "people.json is damaged", "Put back a copy"),
    "people, other": (
        lambda s: written(s.hub_folder / "people.json", '[{"name": 1}]'),
        "people.json is damaged",
        "Put back a copy",
    ),
    "signing key": (lambda s: cut(s.signing_key_file, 20), "signing.key is damaged", "Remove it"),
    "secrets' key": (lambda s: cut(s.data_folder / "secrets.key", 10), "secrets.key is damaged", "passwords again"),
    "core's": (lambda s: cut(s.core_folder / "core.sqlite", 9), "core.sqlite is damaged", "without jobs, runs"),
    "data's": (lambda s: cut(s.data_folder / "data.sqlite", 9), "data.sqlite is damaged", "move it away"),
    "hub's": (lambda s: cut(s.hub_folder / "jupyterhub.sqlite", 9), "jupyterhub.sqlite is damaged", "tokens"),
    "MLflow's": (lambda s: cut(s.mlflow_folder / "mlflow.sqlite", 9), "mlflow.sqlite is damaged", "experiments"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_said_before_anything_starts(settings: Settings, name: str) -> None:
    assert list(damages(settings)) == []
    harm, what, remedy = DAMAGES[name]
    harm(settings)
    with pytest.raises(LabwrightError, match=what) as caught:
        install(settings)
    assert remedy in caught.value.remedy
    assert str(settings.home) in str(caught.value)


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda s: cut(s.hub_folder / "people.json", 40), "people.json is damaged"),
        (lambda s: replaced_by_a_file(s.logs), "logs is no folder"),
    ],
)
def test_up_says_it_in_a_sentence(settings: Settings, harm: Callable[[Settings], None], what: str) -> None:
    harm(settings)
    done = run_labwright(settings, "up", check=False)
    assert done.returncode == 1
    assert what in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_doctor_says_it_too(settings: Settings) -> None:
    cut(settings.signing_key_file, 20)
    cut(settings.core_folder / "core.sqlite", 9)
    said = run_labwright(settings, "doctor", check=False).stdout
    assert f"state: The key {settings.signing_key_file} is damaged." in said
    assert "core.sqlite is damaged" in said


def test_a_token_that_is_no_whole_one_is_made_anew_and_the_others_stay(settings: Settings) -> None:
    before = {service: settings.service_token_file(service).read_text() for service in SERVICES}
    cut(settings.service_token_file("core"), 0)
    cut(settings.hub_folder / "proxy.token", 10)
    install(settings)
    after = {service: settings.service_token_file(service).read_text() for service in SERVICES}
    assert {service for service in SERVICES if before[service] != after[service]} == {"core"}
    assert len(after["core"]) == len((settings.hub_folder / "proxy.token").read_text()) == 64


def test_files_that_were_opened_to_others_are_closed_again(settings: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch(0o644)
    (settings.core_folder / "link").symlink_to(outside)
    (settings.core_folder / "hard").hardlink_to(outside)
    opened = [settings.signing_key_file, settings.hub_folder / "people.json", settings.data_folder / "secrets.key"]
    for path in opened:
        path.chmod(0o777)
    assert len(list(misplaced(settings))) == 3
    install(settings)
    assert list(misplaced(settings)) == []
    assert {path.stat().st_mode & 0o777 for path in opened} == {0o700}
    assert outside.stat().st_mode & 0o777 == 0o644


def test_a_change_of_people_leaves_nothing_open(settings: Settings) -> None:
    People(settings.hub_folder / "people.json").add("bob", ())
    assert list(misplaced(settings)) == []


@pytest.mark.uid
def test_files_that_were_given_to_root_go_back_to_their_services() -> None:
    with reachable_folder() as folder:
        settings = made(workbench_settings(folder / "home"))
        install(settings)
        below = settings.core_folder / "artifacts" / "run" / "output.ipynb"
        below.parent.mkdir(parents=True)
        below.touch()
        outside = folder / "outside"
        outside.touch()
        (below.parent / "link").symlink_to(outside)
        for path in (settings.core_folder, *settings.core_folder.rglob("*")):
            os.chown(path, 0, 0, follow_symlinks=False)
        assert list(misplaced(settings))
        install(settings)
        service = pwd.getpwnam(SERVICE_USER).pw_uid
        assert list(misplaced(settings)) == []
        assert below.stat().st_uid == settings.signing_key_file.stat().st_uid == service
        assert outside.stat().st_uid == 0


def test_a_database_of_another_version_is_left_alone_and_said(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'core.sqlite'}")
    try:
        database.migrate(schema.MIGRATIONS)
        with database.write() as connection:
            connection.execute(sa.text("INSERT INTO alembic_version VALUES ('jobs_9999')"))
        with pytest.raises(LabwrightError, match=r"another version of Labwright \(jobs_9999\)"):
            database.migrate(schema.MIGRATIONS)
    finally:
        database.close()
