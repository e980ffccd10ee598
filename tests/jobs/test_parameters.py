"""Typed parameters from a notebook's cell, and their values."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labwright.api.errors import BadNotebook, BadParameter, UnknownParameter
from labwright.api.parameters import from_text, validate
from labwright.hub.jobs.parameters import dates, parameters_schema

from .conftest import notebook

SOURCE = """
%matplotlib inline
from datetime import date
from typing import Literal, Optional
carrier: str = "UA"  # two letters
# how many
# at most
count: int = 3
ratio: float = 0.5
deep: bool = False
names: list[str] = ["a",
    "b"]
sizes: dict[str, int] = {"x": 1}
maybe: Optional[int] = None
either: "int | None" = 4
kind: Literal["fast", "exact"] = "fast"
since: date = date(2013, 1, 31)
needed: int
plain = 7
computed = count * 2
_private = 1
"""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return parameters_schema(notebook(parameters=SOURCE))


def test_types_defaults_and_comments_become_json_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    found = schema["properties"]
    assert found["carrier"] == {"type": "string", "default": "UA", "description": "two letters"}
    assert found["count"]["description"] == "how many at most"
    assert found["ratio"] == {"type": "number", "default": 0.5}
    assert found["names"] == {"type": "array", "items": {"type": "string"}, "default": ["a", "b"]}
    assert found["sizes"]["additionalProperties"] == {"type": "integer"}
    assert found["maybe"] == {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}
    assert found["either"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]
    assert found["kind"] == {"enum": ["fast", "exact"], "default": "fast"}
    assert found["since"] == {"type": "string", "format": "date", "default": "2013-01-31"}
    assert found["plain"] == {"type": "integer", "default": 7}
    assert found["computed"] == {}
    assert "_private" not in found
    assert schema["required"] == ["needed"]


def test_values_of_the_declared_type_pass(schema: dict[str, Any]) -> None:
    values = {"needed": 1, "ratio": 2, "maybe": None, "kind": "exact", "since": "2013-02-28", "sizes": {"y": 2}}
    assert validate(schema, values) == values
    jsonschema.validate(values, schema)
    assert dates(schema, values) == ["since"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", "3"),
        ("count", True),
        ("count", 3.5),
        ("ratio", float("nan")),
        ("deep", 1),
        ("carrier", None),
        ("kind", "slow"),
        ("since", "2013-02-30"),
        ("since", "today"),
        ("names", ["a", 1]),
        ("sizes", {"x": "1"}),
        ("maybe", "x"),
    ],
)
def test_an_ill_typed_value_is_refused_by_name(schema: dict[str, Any], name: str, value: object) -> None:
    with pytest.raises(BadParameter, match=f"'{name}'"):
        validate(schema, {"needed": 1, name: value})


@pytest.mark.parametrize("name", ["carier", "_private", "x; import os", "carrier = 1\nimport os", ""])
def test_a_name_that_is_not_declared_is_refused(schema: dict[str, Any], name: str) -> None:
    with pytest.raises(UnknownParameter) as refused:
        validate(schema, {"needed": 1, name: 1})
    assert "carrier" in refused.value.remedy


def test_a_parameter_without_a_default_needs_a_value(schema: dict[str, Any]) -> None:
    with pytest.raises(BadParameter, match="needed"):
        validate(schema, {})


def test_a_cell_that_is_no_python_is_refused() -> None:
    with pytest.raises(BadNotebook, match="line 2"):
        parameters_schema(notebook(parameters="a = 1\nb = = 2"))


def test_a_notebook_without_the_cell_has_none() -> None:
    assert parameters_schema(notebook("a = 1"))["properties"] == {}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("carrier", "7", "7"),
        ("carrier", "true", "true"),
        ("count", "7", 7),
        ("ratio", "1e-3", 1e-3),
        ("deep", "True", True),
        ("maybe", "none", None),
        ("maybe", "null", None),
        ("names", '["x"]', ["x"]),
        ("kind", "exact", "exact"),
        ("since", "2013-01-01", "2013-01-01"),
    ],
)
def test_text_of_a_command_line_is_read_by_the_type(
    schema: dict[str, Any], name: str, text: str, value: object
) -> None:
    if text == "none":
        with pytest.raises(BadParameter):
            from_text(schema, name, text)
    else:
        assert from_text(schema, name, text) == value


@settings(max_examples=50)
@given(st.text(), st.integers(), st.lists(st.text()))
def test_values_are_injected_as_literals_and_never_as_code(text: str, number: int, texts: list[str]) -> None:
    from papermill.translators import PythonTranslator

    for value in (text, number, texts):
        scope: dict[str, Any] = {}
        exec(f"x = {PythonTranslator.translate(value)}", {"__builtins__": {}}, scope)
        assert scope["x"] == value
