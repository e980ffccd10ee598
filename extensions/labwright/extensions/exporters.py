"""What nbconvert exports to, for Lab's File menu: asked for as soon as a notebook opens.

Jupyter Server finds out by importing every exporter, which keeps the server from answering for a second just while
the notebook's kernel starts. A process of the lowest priority does it here, once for a server, when that kernel has
started: nobody exports a notebook in its first seconds.
"""

from __future__ import annotations

import asyncio
import sys

from jupyter_server.auth.decorator import authorized
from jupyter_server.services.nbconvert.handlers import NbconvertRootHandler
from tornado import web

from labwright.api.errors import LabwrightError

FIND = """
import json, os
os.nice(19)
from nbconvert.exporters import base
found = {}
for name in base.get_export_names():
    try:
        found[name] = {"output_mimetype": base.get_exporter(name).output_mimetype}
    except ValueError:
        continue
print(json.dumps(found))
"""
PAUSE_SECONDS = 3.0
SECONDS = 120.0


async def find_exporters() -> bytes:
    """Name -> {output_mimetype}, as JSON."""
    await asyncio.sleep(PAUSE_SECONDS)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", FIND, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise LabwrightError("The formats that notebooks can be exported to could not be found.")
    return output.strip()


class ExportersHandler(NbconvertRootHandler):
    """`{base_url}api/nbconvert`, in place of Jupyter Server's."""

    _finding: asyncio.Task[bytes] | None = None

    @web.authenticated
    @authorized
    async def get(self) -> None:
        cls = type(self)
        if cls._finding is None or (cls._finding.done() and cls._finding.exception()):
            cls._finding = asyncio.create_task(find_exporters())
        try:
            self.finish(await asyncio.shield(cls._finding))
        except (LabwrightError, TimeoutError) as error:
            raise web.HTTPError(500, str(error)) from None
