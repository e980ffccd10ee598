"""A Dask preload that closes the scheduler's dashboard to everybody without its token.

The dashboard listens on loopback, where every account of the machine can connect; it shows code, logs and profiles.
Core's dashboard proxy knows the token and checks who asks.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Any

from labwright.kernels.cluster_process import FOLDER

HEADER = "X-Labwright-Dashboard"


def dask_setup(server: Any) -> None:
    """Called by Dask with the scheduler (or worker) that was made, before it serves."""
    from tornado import web

    token = (Path(os.environ[FOLDER]) / "dashboard.token").read_text().strip()
    application = server.http_application
    find_handler = application.find_handler

    def guarded(request: Any, **options: Any) -> Any:
        # Compared as bytes: a header may hold characters that compare_digest refuses in text.
        if hmac.compare_digest(request.headers.get(HEADER, "").encode(), token.encode()):
            return find_handler(request, **options)
        return application.get_handler_delegate(request, web.ErrorHandler, {"status_code": 401})

    application.find_handler = guarded
