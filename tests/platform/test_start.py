"""What `up` and `down` say when the machine or the file does not allow a start."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from workbench import CHECKOUT, run_labwright, workbench_settings

from labwright.api.errors import Conflict
from labwright.hub import supervision
from labwright.hub.commands.config import command as config
from labwright.hub.commands.place import remember, settings_for
from labwright.hub.people import ADMINS, People, generate_password
from labwright.hub.programs import programs, supervisor_configuration
from labwright.hub.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return workbench_settings(tmp_path / "home", LABWRIGHT_BY_USER="0")


def test_a_broken_file_stops_the_start_with_line_column_and_fix(tmp_path: Path) -> None:
    broken = tmp_path / "workbench.yaml"
    broken.write_text("profiles:\n- slug: small\n  cpu: two\n")
    settings = workbench_settings(tmp_path / "home", LABWRIGHT_CONFIG=str(broken))
    for verb in (("up",), ("config", "check")):
        done = run_labwright(settings, *verb, check=False)
        assert done.returncode == 2
        assert f"{broken}:3:3: profiles.0.cpu" in done.stderr
        assert "Traceback" not in done.stderr
    assert not settings.home.exists()


def test_what_a_new_file_would_change_is_said_entry_by_entry(tmp_path: Path) -> None:
    settings = workbench_settings(tmp_path / "home")
    text = settings.workbench_file.read_text()
    new = tmp_path / "new.yaml"
    new.write_text(
        text.replace("price_per_hour: 0.21", "price_per_hour: 0.3")
        .replace("- {group: everyone, connection: lake}", "- {group: research, connection: lake}")
        .replace("servers: 2,", "servers: 3,")
    )
    assert run_labwright(settings, "config", "diff", str(new)).stdout.splitlines() == [
        "profile large: price_per_hour 0.21 → 0.3",
        "quota of default: servers 2 → 3",
        "- grant of lake to everyone",
        "+ grant of lake to research",
    ]
    assert run_labwright(settings, "config", "diff", str(settings.workbench_file)).stdout == "Nothing changes.\n"


def test_what_somebody_may_do_is_explained_by_the_groups_they_are_in(settings: Settings) -> None:
    workbench = settings.workbench_file.read_text()
    settings.home.mkdir()
    file = settings.home / "workbench.yaml"
    file.write_text(workbench.replace("- {group: everyone, connection: lake}", "- {group: research, connection: lake}"))
    arguments = ("config", "explain", "--file", str(file), "--user")
    unknown = run_labwright(settings, *arguments, "bob")
    assert "no workbench was started here" in unknown.stderr
    assert "lake" not in unknown.stdout
    settings.hub_folder.mkdir()
    People(settings.hub_folder / "people.json").add("bob", ("research",))
    own = run_labwright(settings, *arguments, "bob").stdout
    assert own.startswith("bob, in everyone, research:")
    assert "grant by research: lake" in own
    assert "lake" not in run_labwright(settings, *arguments, "bob", "--group", "everyone").stdout
    refused = run_labwright(settings, *arguments, "bo", check=False)
    assert refused.returncode == 1
    assert "There is no person 'bo'." in refused.stderr
    assert "--group" in refused.stderr


def test_verbs_find_the_port_and_the_file_of_the_last_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LABWRIGHT_HOME", "LABWRIGHT_PORT", "LABWRIGHT_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    home, file = tmp_path / "home", tmp_path / "my workbench.yaml"
    shutil.copy(CHECKOUT / "config" / "workbench.yaml", file)
    standard = settings_for(str(home), None)
    started = workbench_settings(home, port=20000, LABWRIGHT_CONFIG=str(file))
    home.mkdir()
    remember(started)
    found = settings_for(str(home), None)
    assert (found.port, found.workbench_file) == (20000, file)
    monkeypatch.setenv("LABWRIGHT_HOME", str(home))
    assert f"{file} is good" in CliRunner().invoke(config, ["check"]).output
    monkeypatch.setenv("LABWRIGHT_CONFIG", str(tmp_path / "other.yaml"))
    found = settings_for(None, 21000)
    assert (found.port, found.workbench_file) == (21000, tmp_path / "other.yaml")
    # A checkout's own file is not held on to: the next version has another checkout.
    remember(replace(started, workbench_file=standard.workbench_file))
    monkeypatch.delenv("LABWRIGHT_CONFIG")
    assert settings_for(None, None).workbench_file == standard.workbench_file
    assert list(home.iterdir()) == [home / "port"]
    (home / "port").write_text("nonsense")
    assert settings_for(None, None).port == standard.port


def test_a_port_in_use_is_said_with_its_holder_and_the_remedy(settings: Settings) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", settings.core_port))
        holder.listen()
        done = run_labwright(settings, "up", check=False)
    assert done.returncode == 1
    assert f"Port {settings.core_port}, meant for the core, is in use by" in done.stderr
    assert "--port" in done.stderr
    assert not (settings.hub_folder / "people.json").exists()


def test_a_missing_environment_is_said(settings: Settings, tmp_path: Path) -> None:
    elsewhere = workbench_settings(tmp_path / "home", LABWRIGHT_ENVIRONMENTS=str(tmp_path), LABWRIGHT_BY_USER="0")
    done = run_labwright(elsewhere, "up", check=False)
    assert "The environment" in done.stderr
    assert "make up" in done.stderr


def test_a_full_disk_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "NEEDED_BYTES", 1 << 60)  # nobody's disk has that
    with pytest.raises(supervision.CannotStart, match="is full"):
        supervision.check_machine(settings)


def test_a_stale_pid_counts_for_nothing(settings: Settings) -> None:
    settings.run.mkdir(parents=True)
    for text in ("1\n", "999999999\n", "", "nonsense"):
        (settings.run / "supervisord.pid").write_text(text)
        assert supervision.supervisor_pid(settings) is None


def test_down_and_doctor_say_that_nothing_runs(settings: Settings) -> None:
    assert "There is no workbench" in run_labwright(settings, "down").stdout
    done = run_labwright(settings, "doctor", check=False)
    assert done.returncode == 1
    assert "it is down" in done.stdout
    assert "exactly one person" in done.stdout


def test_a_path_that_the_supervisor_cannot_take_is_refused(tmp_path: Path) -> None:
    for name in ('ho"me', "ho%me"):
        settings = workbench_settings(tmp_path / name, LABWRIGHT_BY_USER="0")
        with pytest.raises(supervision.CannotStart, match="quotation mark"):
            supervision.check_machine(settings)


def test_two_starts_at_a_time_are_refused(settings: Settings) -> None:
    with supervision.only_one(settings):
        assert "Another 'labwright up'" in run_labwright(settings, "up", check=False).stderr


def test_odd_paths_survive_the_supervisors_configuration(tmp_path: Path) -> None:
    from supervisor.options import ServerOptions

    settings = workbench_settings(tmp_path / "ho me, with a comma; and more", LABWRIGHT_BY_USER="0")
    for folder in (settings.logs, settings.run, *(Path(program.home) for program in programs(settings))):
        folder.mkdir(parents=True, exist_ok=True)
    config = tmp_path / "supervisord.conf"
    config.write_text(supervisor_configuration(settings, programs(settings)))
    options = ServerOptions()
    options.realize(args=["-c", str(config)])
    found = {process.name: process for group in options.process_group_configs for process in group.process_configs}
    assert found["core"].environment["LABWRIGHT_HOME"] == str(settings.home)
    assert str(settings.launcher_socket) in found["launcher"].command


def test_each_service_knows_its_own_database_alone(tmp_path: Path) -> None:
    urls = {part: f"postgresql+psycopg://{part}:{part}-password@db/{part}" for part in ("core", "data")}
    given = {f"LABWRIGHT_{part.upper()}_DATABASE_URL": url for part, url in urls.items()}
    settings = workbench_settings(tmp_path / "home", LABWRIGHT_BY_USER="0", **given)
    text = supervisor_configuration(settings, programs(settings))
    for section in text.split("[program:")[1:]:
        name = section.split("]", 1)[0]
        known = {part for part in urls if f"{part}-password" in section}
        assert known == {name} & set(urls), name


def test_people_have_generated_passwords_and_the_last_admin_stays(tmp_path: Path) -> None:
    people = People(tmp_path / "people.json")
    password = people.add("admin", (ADMINS,))
    assert people.check("admin", password)
    assert not people.check("admin", password + "x")
    assert not people.check("nobody", password)
    renewed = people.renew_password("admin")
    assert renewed != password
    assert people.check("admin", renewed)
    assert not people.check("admin", password)
    with pytest.raises(Conflict, match="last administrator"):
        people.remove("admin")
    with pytest.raises(Conflict, match="last administrator"):
        people.set_groups("admin", ("research",))
    people.set_groups("admin", ("research", ADMINS))
    people.add("alice", (ADMINS,))
    people.set_groups("admin", ())
    assert [person.groups for person in people.all().values()] == [(), (ADMINS,)]
    for name in ("../x", "A", "", "a b", "a\n"):
        with pytest.raises(Exception, match="cannot be a name"):
            people.add(name, ())
    assert len({generate_password() for _ in range(100)}) == 100
