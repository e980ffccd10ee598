"""Scripts that Lab's page asks for in any case, named in its response's head.

Lab's first script waits for the page to be complete, then for its extensions' entries, and only then asks for its core,
2.5 MB of it. A browser that is told at once fetches them meanwhile.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

CORE = re.compile(r"jlab_core\.([0-9a-f]+)\.js")


def name_first_scripts(handler: Any, page: dict[str, Any]) -> dict[str, Any]:
    """Jupyter's hook for the page's configuration, which leaves it as it is and adds `Link` headers."""
    for address in first_scripts(page, Path(page["staticDir"])):
        handler.add_header("Link", f"<{quote(address, safe='/@?=:')}>; rel=preload; as=script")
    return page


def first_scripts(page: dict[str, Any], static: Path) -> list[str]:
    """Their addresses, letter for letter as Lab asks for them: another one would be fetched twice."""
    cores = [
        f"{page['fullStaticUrl']}/{found[0]}?v={found[1]}" for found in map(CORE.fullmatch, names(static)) if found
    ]
    extensions = page.get("federated_extensions", [])
    return cores + [f"{page['fullLabextensionsUrl']}/{each['name']}/{each['load']}" for each in extensions]


def names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []
