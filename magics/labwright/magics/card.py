"""A small card as a magic's result: the same words as HTML and as plain text."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Card:
    """A title, lines of name and value, and a link; a bundle for `IPython.display.display(raw=True)`."""

    title: str
    lines: dict[str, str] = field(default_factory=dict)
    link: str | None = None  # below the person's server, such as 'labwright/mlflow/'
    link_text: str = "Open"

    def __repr__(self) -> str:
        return "\n".join([self.title, *(f"  {name}: {value}" for name, value in self.lines.items())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:left;opacity:.7;padding:0 12px 0 0'>{escape(name)}</td>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self.lines.items()
        )
        prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
        link = ""
        if self.link is not None and prefix:
            link = f"<a href='{escape(prefix + self.link, quote=True)}' target='_blank'>{escape(self.link_text)} ↗</a>"
        return (
            "<div style='border:1px solid var(--jp-border-color2,#ccc);border-radius:4px;padding:8px 12px;"
            f"max-width:40em'><b>{escape(self.title)}</b><table style='margin:4px 0'>{rows}</table>{link}</div>"
        )
