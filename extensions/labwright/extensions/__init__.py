"""The Jupyter server extension: a thin, authenticated door from the browser to core and data. Holds no state."""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from labwright.extensions.application import LabwrightExtension

    return [{"module": "labwright.extensions.application", "app": LabwrightExtension}]
