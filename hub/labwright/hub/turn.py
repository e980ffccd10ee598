"""Run a module once a port is open: `python -m labwright.hub.turn <port> <module> [arguments]`.

It gives the processor to what a person waits for first. The port opens late or never: it starts all the same.
"""

from __future__ import annotations

import runpy
import socket
import sys
import time

LONGEST_SECONDS = 15.0
POLL_SECONDS = 0.1


def wait_for_port(port: int, seconds: float = LONGEST_SECONDS) -> bool:
    """Whether something listens on the loopback port within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(POLL_SECONDS)
    return False


def main() -> None:
    port, module = int(sys.argv[1]), sys.argv[2]
    sys.argv[:] = [module, *sys.argv[3:]]
    wait_for_port(port)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
