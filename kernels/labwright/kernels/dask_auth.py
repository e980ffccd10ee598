"""How Dask's gateway client says who is asking: `DASK_GATEWAY__AUTH__TYPE=labwright.kernels.dask_auth.TokenAuth`.

With it set, `dask_gateway.Gateway()` works in a notebook or a run as it stands in Dask's own documentation.
"""

from __future__ import annotations

import os
from typing import Any

from dask_gateway.auth import GatewayAuth

from labwright.api.client import endpoints_from
from labwright.kernels import tls_errors


class TokenAuth(GatewayAuth):  # type: ignore[misc]  # dask-gateway has no types
    """A bearer token, read anew for each request: a run's is renewed in place."""

    def __init__(self) -> None:
        """Made with the gateway's client, before anything connects."""
        tls_errors.keep_apart()

    def pre_request(self, resp: Any) -> tuple[dict[str, str], None]:
        return {"Authorization": f"Bearer {endpoints_from(os.environ).bearer()}"}, None
