"""The notebook behind the launcher's Welcome card; the front end saves a copy of it in the person's home."""

from __future__ import annotations

from labwright.extensions.application import welcome_notebook
from labwright.extensions.door import LabwrightHandler


class WelcomeHandler(LabwrightHandler):
    """`{base_url}labwright/welcome`."""

    async def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(welcome_notebook())
