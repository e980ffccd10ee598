"""workbench.yaml: what is good, and what is said about what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from labwright.spawner.workbench import BadWorkbench, WatchedWorkbench, json_schema, load, parse

CONFIG = Path(__file__).resolve().parents[2] / "config"
SMALL = "profiles:\n- {slug: small, name: Small, cpu: 1, memory: 2G, image: user, price_per_hour: 0.05}\n"


def problems(text: str) -> list[dict[str, Any]]:
    with pytest.raises(BadWorkbench) as caught:
        parse(text)
    found: list[dict[str, Any]] = caught.value.details["problems"]
    return found


def test_the_shipped_file_is_good_and_grants_the_two_connections_to_everyone() -> None:
    workbench = load(CONFIG / "workbench.yaml")
    assert [profile.slug for profile in workbench.profiles] == ["small", "large", "gpu"]
    assert workbench.profiles[0].memory_bytes == 2 << 30
    assert {(grant.group, grant.connection) for grant in workbench.grants} == {
        ("everyone", "warehouse"),
        ("everyone", "lake"),
    }


def test_the_published_schema_is_the_one_of_the_models_and_accepts_the_shipped_file() -> None:
    published = json.loads((CONFIG / "workbench.schema.json").read_text())
    assert published == json_schema()
    tree = YAML(typ="safe").load(CONFIG / "workbench.yaml")
    jsonschema.Draft202012Validator(published).validate(tree)


@pytest.mark.parametrize(
    ("text", "line", "column", "what", "fix"),
    [
        ("profiles: [\n", 2, 1, "not YAML", "brackets"),
        ("- a\n", 1, 1, "no mapping", "profiles:"),
        (SMALL + "colour: red\n", 3, 1, "'colour' is not known here", "currency"),
        (SMALL.replace("cpu: 1", "cpu: two"), 2, 30, "cpu", "cpu"),
        (SMALL.replace("cpu: 1", "cpu: -1"), 2, 30, "greater than 0", "cpu"),
        (SMALL.replace("2G", "2X"), 2, 38, "'2X' is not an amount of memory", ""),
        (SMALL.replace("image: user, ", ""), 2, 3, "'image' is missing", "Add 'image"),
        (SMALL.replace("slug: small", "slug: Sm all"), 2, 4, "slug", "slug"),
        (SMALL + SMALL.splitlines()[1] + "\n", 3, 4, "the slug 'small' is used twice", "its own"),
        (SMALL + "idle:\n  server: soon\n", 4, 3, "'soon' is not a duration", ""),
        (SMALL + "quotas:\n- {gpu: 1}\n", 4, 3, "for a group or for a user", "Give one"),
        (SMALL + "a: 1\na: 2\n", 4, 1, "duplicate key", ""),
        (
            SMALL + "connections:\n- {name: a, driver: duckdb}\ngrants:\n- {group: x, connection: b}\n",
            6,
            14,
            "there is no connection 'b'",
            "Use one of: a",
        ),
        (SMALL + "connections:\n- {name: a, driver: d, secret: hunter2}\n", 4, 24, "secret", "file:/path"),
        (SMALL + "connections:\n- {name: a, driver: d, secret: 'env:PASSWORD'}\n", 4, 24, "secret", "file:/path"),
        (SMALL.replace("0.05", ".inf"), 2, 63, "finite", "price_per_hour"),
        (SMALL.replace("cpu: 1", "cpu: .nan"), 2, 30, "cpu", "cpu"),
        (SMALL.replace("2G", "0"), 2, 38, "memory", "memory"),
        (SMALL.replace("2G", "9" * 30 + "G"), 2, 38, "is not an amount of memory", ""),
        (SMALL.replace("2G", "\u0662G"), 2, 38, "is not an amount of memory", ""),
        (SMALL.replace("cpu: 1", "cpu: " + "9" * 5000), 2, 35, "a number of more than 400 digits", "Shorten"),
        (SMALL + "idle: {server: 0s}\n", 3, 8, "is not a duration", ""),
        (SMALL + f"idle: {{server: {'9' * 30}d}}\n", 3, 8, "is not a duration", ""),
        ("profiles: " + "[" * 3000 + "]" * 3000, 1, 1, "too deep", "brackets"),
        ("\n".join(" " * depth + "a:" for depth in range(1200)), 1, 1, "too deep", "indentation"),
        (SMALL + "# " + "x" * (1 << 20), 1, 1, "larger than 1 MB", "right one"),
    ],
)
def test_an_error_names_line_column_what_and_the_fix(text: str, line: int, column: int, what: str, fix: str) -> None:
    found = problems(text)
    assert any(
        (item["line"], item["column"]) == (line, column) and what in item["what"] and fix in item["fix"]
        for item in found
    ), found


def test_a_secret_that_stands_in_the_file_is_not_repeated_in_the_error() -> None:
    text = SMALL + "connections:\n- {name: a, driver: d, secret: hunter2}\n"
    with pytest.raises(BadWorkbench) as caught:
        parse(text)
    assert "hunter2" not in str(caught.value) + caught.value.remedy


def test_a_key_that_is_there_twice_is_said_without_its_values() -> None:
    text = SMALL + "connections:\n- {name: a, driver: d, secret: hunter2, secret: hunter3}\n"
    with pytest.raises(BadWorkbench, match='duplicate key "secret"') as caught:
        parse(text)
    assert "hunter" not in str(caught.value) + caught.value.remedy


def test_all_problems_are_said_at_once_in_the_order_of_the_file() -> None:
    found = problems("profiles:\n- slug: a\n  cpu: two\n  memory: much\n")
    assert [item["line"] for item in found] == sorted(item["line"] for item in found)
    assert len(found) >= 4


def test_a_missing_file_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadWorkbench, match="No such file"):
        load(tmp_path / "workbench.yaml")


def test_a_changed_file_holds_without_a_restart_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "workbench.yaml"
    path.write_text(SMALL)
    said: list[BadWorkbench] = []
    watched = WatchedWorkbench(path, said.append)
    path.write_text(SMALL.replace("Small", "Smaller one"))
    assert watched().profiles[0].name == "Smaller one"
    path.write_text("profiles: [")
    assert watched().profiles[0].name == "Smaller one"
    assert watched().profiles[0].name == "Smaller one"
    assert len(said) == 1
