"""Values of a notebook's parameters by its JSON Schema: checked as JSON, or read from a command line (pure).

The schema is the one `POST /notebooks/inspect` answers: `properties` by name, each with `type`, `anyOf`, `enum`,
`items`, `format: date`, `default`, `description`; `required` names those without a default.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from typing import Any

from labwright.api.errors import BadParameter, UnknownParameter

Schema = Mapping[str, Any]
_NAMES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing (null)",
}


def validate(schema: Schema, values: Mapping[str, Any], *, complete: bool = True) -> dict[str, Any]:
    """The values, each of its declared type; `UnknownParameter` or `BadParameter` otherwise."""
    declared: Schema = schema["properties"]
    for name, value in values.items():
        if name not in declared:
            raise UnknownParameter(name[:100], list(declared))
        if not fits(declared[name], value):
            raise BadParameter(
                f"The parameter '{name}' must be {expected(declared[name])}, not {json.dumps(value)[:80]}.",
                parameter=name,
            )
    missing = [name for name in schema.get("required", ()) if name not in values]
    if complete and missing:
        raise BadParameter(
            f"The parameter '{missing[0]}' has no default and needs a value.",
            remedy=f"Give {missing[0]} {expected(declared[missing[0]])}.",
            parameter=missing[0],
        )
    return dict(values)


def fits(schema: Schema, value: Any) -> bool:
    """Whether a JSON value has the schema's type."""
    if "anyOf" in schema:
        return any(fits(option, value) for option in schema["anyOf"])
    if "enum" in schema:
        return any(type(value) is type(option) and value == option for option in schema["enum"])
    match schema.get("type"):
        case None:
            return True
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case "string":
            return isinstance(value, str) and (schema.get("format") != "date" or is_date(value))
        case "array":
            return isinstance(value, list) and all(fits(schema.get("items", {}), item) for item in value)
        case "object":
            inner = schema.get("additionalProperties", {})
            return isinstance(value, dict) and all(
                isinstance(key, str) and fits(inner, item) for key, item in value.items()
            )
    return False


def is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def expected(schema: Schema) -> str:
    """The type in words: 'a whole number'."""
    if "anyOf" in schema:
        return " or ".join(expected(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(json.dumps(option) for option in schema["enum"])
    if schema.get("format") == "date":
        return "a date such as 2013-07-31"
    if schema.get("type") == "array" and schema.get("items"):
        return f"a list, each item {expected(schema['items'])}"
    return _NAMES.get(schema.get("type", ""), "a value")


def from_text(schema: Schema, name: str, text: str) -> Any:
    """The value of `-p name=text`: text where the schema says text, JSON or Python's words for the rest."""
    declared: Schema = schema["properties"]
    if name not in declared:
        raise UnknownParameter(name[:100], list(declared))
    for candidate in _readings(text):
        if fits(declared[name], candidate):
            return candidate
    raise BadParameter(f"The parameter '{name}' must be {expected(declared[name])}, not {text[:80]!r}.", parameter=name)


def _readings(text: str) -> list[Any]:
    """What the text may mean, the plain text first unless it is a number or a word of JSON or Python."""
    words: dict[str, Any] = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
    readings: list[Any] = [text]
    if text in words:
        return [words[text], text]
    with suppress(ValueError, RecursionError):
        readings.append(json.loads(text))
    return readings
