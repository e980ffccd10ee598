"""How core and data ask the hub about people."""

from __future__ import annotations

from urllib.parse import unquote

import httpx
import pytest

from labwright.hub.callers import HubDirectory, UnknownPerson

PEOPLE = "/hub/api/users/"


@pytest.mark.parametrize("name", ["ada", "ada.l", "..", ".", "ada/../..", "a%2Fb", "a?b#c", "\x15", "Ü", ""])
async def test_a_name_is_one_segment_of_the_hubs_path_whatever_it_holds(name: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return httpx.Response(404)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        directory = HubDirectory("http://127.0.0.1/hub/api", lambda: "token", client)
        with pytest.raises(UnknownPerson):
            await directory.person(name)
    segment = asked[0].removeprefix(PEOPLE)
    assert asked[0].startswith(PEOPLE)
    assert not {"/", "?", "#", "."} & set(segment)
    assert unquote(segment) == name
