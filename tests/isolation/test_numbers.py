"""Whole numbers that come in by the API: each is one that every database holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench import workbench_settings

from labwright.api.names import MOST_WHOLE
from labwright.hub.core.app import build_core
from labwright.hub.core.app import create_app as create_core
from labwright.hub.data.app import create_app as create_data
from labwright.hub.usage.ledger import SqlLedger
from labwright.spawner.profiles import Workbench


def documents(folder: Path) -> list[dict[str, Any]]:
    settings = workbench_settings(folder, port=20000, LABWRIGHT_BY_USER="0")
    nothing = Workbench(profiles=())
    core = build_core(settings, ledger=SqlLedger(lambda: nothing), launcher=None, workbench=lambda: nothing)  # type: ignore[arg-type]
    core.database.close()
    return [create_core(core).openapi(), create_data(settings, lambda: nothing).openapi()]


def asked(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What each operation takes, with its name."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            taken = [operation.get("parameters", ()), operation.get("requestBody", {})]
            yield f"{method.upper()} {path}", taken


def numbers(part: Any, schemas: dict[str, Any], where: str, seen: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every integer below `part`, with where it stands."""
    if isinstance(part, list | tuple):
        for item in part:
            yield from numbers(item, schemas, where, seen)
    if not isinstance(part, dict):
        return
    if part.get("type") == "integer":
        yield where, part
    name = str(part.get("$ref", "")).rpartition("/")[2]
    if name and name not in seen:
        yield from numbers(schemas[name], schemas, where, (*seen, name))
    for key, value in part.items():
        label = part.get("name", key) if key == "schema" else key
        yield from numbers(value, schemas, f"{where} {label}" if isinstance(value, dict) else where, seen)


def test_every_whole_number_that_comes_in_has_an_upper_bound(tmp_path: Path) -> None:
    unbound = set()
    for document in documents(tmp_path):
        schemas = document["components"]["schemas"]
        for operation, taken in asked(document):
            for where, schema in numbers(taken, schemas, operation):
                if schema.get("maximum", MOST_WHOLE + 1) > MOST_WHOLE:
                    unbound.add(where)
    assert not unbound, "\n".join(sorted(unbound))
