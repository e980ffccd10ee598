"""The proxy's process: configurable-http-proxy in Python, with its token from a file (docs/decisions/0010)."""

from __future__ import annotations

import os

from labwright.hub.settings import from_environment


def main() -> None:
    from configurable_http_proxy.cli import main as run

    settings = from_environment()
    # Set inside the process: it does not show in /proc/<pid>/environ.
    os.environ["CONFIGPROXY_AUTH_TOKEN"] = (settings.hub_folder / "proxy.token").read_text().strip()
    hub = f"http://127.0.0.1:{settings.hub_port}"
    run(
        [
            *("--ip", "127.0.0.1", "--port", str(settings.port)),
            *("--api-ip", "127.0.0.1", "--api-port", str(settings.proxy_api_port)),
            # Until the hub has given its routes, and for pages of parts that are away.
            *("--default-target", hub, "--error-target", f"{hub}/hub/error", "--log-level", "warning"),
        ]
    )


if __name__ == "__main__":
    main()
