"""`%connect`: what connections there are; `%connect warehouse`: use this one from here on, and see its tables."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labwright.api.client import Client, endpoints_from
from labwright.api.errors import LabwrightError
from labwright.magics import sql
from labwright.magics.line_parser import LineParser

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

SHOWN = 50


class Listing:
    """A small table, the same as text and as HTML."""

    def __init__(self, sentence: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.sentence = sentence
        self.head = head
        self.rows = rows

    def __repr__(self) -> str:
        widths = [max(len(row[i]) for row in (self.head, *self.rows)) for i in range(len(self.head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.head, *self.rows)
        ]
        return "\n".join([self.sentence, *lines])

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:left'>{html.escape(cell)}</th>" for cell in self.head)
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        return (
            f"<div>{html.escape(self.sentence)}</div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def run(line: str, cell: str | None, shell: InteractiveShell) -> Any:
    options = LineParser(prog="%connect", description="List connections, or choose one for %%sql.")
    options.add_argument("connection", nargs="?", help="the connection to use when %%%%sql names none")
    given = options.parse_line(line)
    if given is None:
        return None
    client = Client(endpoints_from(os.environ))
    try:
        return use(client, given.connection) if given.connection else overview(client)
    finally:
        client.close()


def overview(client: Client) -> Listing:
    items = client.data("GET", "/connections")["items"]
    default = sql.default_connection()
    rows = [
        ["→" if item["name"] == default else "", item["name"], item["title"], _state(item), item["description"]]
        for item in items
    ]
    count = f"{len(items)} connection{'' if len(items) == 1 else 's'}; %connect NAME chooses one."
    return Listing(count, ["", "name", "kind", "state", "description"], rows)


def _state(item: dict[str, Any]) -> str:
    return str(item["state"]) if item["granted"] else "no grant: ask your admin"


def use(client: Client, name: str) -> Listing:
    """Make `name` the default and show its tables."""
    tables = client.data("GET", f"/connections/{name}/catalog")["tables"]
    sql.set_default_connection(name)
    rows = [
        [f"{item['schema_name']}.{item['name']}", item["kind"], "" if item["rows"] is None else _count(item["rows"])]
        for item in tables[:SHOWN]
    ]
    more = f", the first {SHOWN} of them" if len(tables) > SHOWN else ""
    sentence = f"{name} is used by %%sql from here on; {len(tables)} table{'' if len(tables) == 1 else 's'}{more}:"
    return Listing(sentence, ["table", "kind", "rows (about)"], rows)


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def complete(text: str, line: str, shell: InteractiveShell) -> list[str]:
    try:
        return [name for name in sql._connections() if name.startswith(text)]
    except LabwrightError:
        return []
