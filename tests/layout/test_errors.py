"""Errors come back over the wire as the classes they were."""

from __future__ import annotations

import pytest

from labwright.api import errors


@pytest.mark.parametrize("kind", [errors.NotFound, errors.Conflict, errors.InvalidRequest, errors.LabwrightError])
def test_a_subclass_with_its_parents_code_does_not_stand_in_for_it(kind: type[errors.LabwrightError]) -> None:
    heir = type("Heir", (kind,), {})
    found = errors.from_problem({"code": kind.code, "detail": "It is gone."}, kind.status)
    assert type(found) is kind
    assert issubclass(heir, kind)
