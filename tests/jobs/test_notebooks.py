"""Hostile notebooks and paths, over HTTP: refused, and the service goes on."""

from __future__ import annotations

import json

import pytest

from labwright.api.client import Client
from labwright.api.errors import BadNotebook, InvalidRequest
from labwright.hub.jobs.notebooks import check, safe_path

from .conftest import Workplace, job_request, notebook, raw

GOOD = json.dumps(job_request("1"))
HOSTILE = {
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "no JSON": b"{",
    "NaN": GOOD.replace('"nbformat_minor": 5', '"nbformat_minor": NaN').encode(),
    "too deep": GOOD.replace('"A title"', "[" * 100_000 + "]" * 100_000).encode(),
    "quite deep": GOOD.replace('"nbformat": 4', '"nbformat": 4, "x": ' + "[" * 500 + "]" * 500).encode(),
    "a list": GOOD.replace(json.dumps(json.loads(GOOD)["notebook"]["content"]), "[]").encode(),
    "a number": GOOD.replace(json.dumps(json.loads(GOOD)["notebook"]["content"]), "4").encode(),
    "format 3": GOOD.replace('"nbformat": 4', '"nbformat": 3').encode(),
    "no cells": GOOD.replace('"cells"', '"sells"').encode(),
    "cells of text": GOOD.replace('"cells": [', '"cells": ["x", ').encode(),
    "a lone surrogate": GOOD.replace("A title", "\\ud800").encode(),
}


def test_a_hostile_notebook_is_refused_and_the_service_lives(workplace: Workplace, alice: Client) -> None:
    headers = {"Authorization": "Bearer alice-token", "Content-Type": "application/json"}
    with raw(workplace) as http:
        for name, body in HOSTILE.items():
            answer = http.post("/api/v1/jobs", content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "bad-notebook"), (name, answer.text[:500])
            assert answer.json()["remedy"]
    assert alice.core("GET", "/jobs")["items"] == []


@pytest.mark.parametrize(
    "path",
    [
        "../x.ipynb",
        "/etc/x.ipynb",
        "a/../../x.ipynb",
        "~bob/x.ipynb",
        "a\0.ipynb",
        "",
        ".",
        "x.py",
        "a\\..\\x.ipynb",
        "\n.ipynb",
    ],
)
def test_a_path_out_of_the_home_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest):
        safe_path(path)


def test_a_path_is_normalised() -> None:
    assert safe_path("./a//b.ipynb") == "a/b.ipynb"


def test_a_valid_notebook_keeps_every_byte_of_its_meaning() -> None:
    made = notebook("print('ü')")
    assert json.loads(check(made)) == made


def test_too_many_cells_are_refused() -> None:
    made = {**notebook(), "cells": [{}] * 10_001}
    with pytest.raises(BadNotebook, match="10000"):
        check(made)
