"""The notebooks that come with Labwright; the front end saves copies of them in the person's home."""

from __future__ import annotations

import sys
from pathlib import Path

from labwright.api.errors import NotFound
from labwright.extensions.handler import LabwrightHandler


def folder() -> Path:
    """Where this environment has them."""
    return Path(sys.prefix) / "share" / "labwright" / "examples"


class ExamplesHandler(LabwrightHandler):
    """`{base_url}labwright/examples`: their names."""

    async def get(self) -> None:
        self.finish({"items": sorted(path.name for path in folder().glob("*.ipynb"))})


class ExampleHandler(LabwrightHandler):
    """`{base_url}labwright/examples/<name>`."""

    async def get(self, name: str) -> None:
        await self.execute(self.show(name))

    async def show(self, name: str) -> None:
        # Looked up among the names, never joined to the folder as it came.
        found = next((path for path in folder().glob("*.ipynb") if path.name == name), None)
        if found is None:
            raise NotFound("example", name)
        self.set_header("Content-Type", "application/json")
        self.finish(found.read_text(encoding="utf-8"))
