"""Values of parameters as they come in JSON: what each stands for, and which could be bound nowhere."""

from __future__ import annotations

import base64
import decimal
from collections.abc import Mapping
from datetime import date, datetime
from datetime import time as clock_time
from typing import Any

_INTEGERS = range(-(1 << 63), 1 << 63)


class BadValue(ValueError):
    """A sentence that goes on after 'The parameter :name '."""


def decode_parameter(value: Any) -> Any:
    """JSON has no dates: {"type": "date", "value": "2013-01-01"} stands for one."""
    if isinstance(value, list):
        return [decode_parameter(item) for item in value]
    if isinstance(value, Mapping):
        return _decode_tagged(value.get("type"), str(value.get("value")))
    if isinstance(value, int) and value not in _INTEGERS:
        raise BadValue("is an integer of more than 64 bits; give a decimal")
    if isinstance(value, str) and not _is_text(value):
        raise BadValue("has half a character (a lone surrogate) in it")
    return value


def _decode_tagged(kind: Any, text: str) -> Any:
    try:
        match kind:
            case "date":
                return date.fromisoformat(text)
            case "timestamp":
                return datetime.fromisoformat(text)
            case "time":
                return clock_time.fromisoformat(text)
            case "decimal":
                return decimal.Decimal(text)
            case "bytes":
                return base64.b64decode(text, validate=True)
    except (ValueError, decimal.InvalidOperation):
        raise BadValue(f"is no {kind}") from None
    raise BadValue("has an unknown type; use date, timestamp, time, decimal or bytes")


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
