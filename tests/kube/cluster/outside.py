"""What answers at the metadata address and at one address of the 'internet'.

`python -m tests.kube.cluster.outside` runs in the outside namespace. Each answer names the address it
was asked at, so that a test which gets one knows what it has reached.
"""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.kube.cluster.places import INTERNET_ADDRESS, METADATA_ADDRESS


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        host, port = self.server.server_address[:2]
        body = f"labwright stand-in for {host}:{port}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET  # the newer metadata services ask for a token with PUT first

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    servers = [ThreadingHTTPServer((address, 80), Answer) for address in (METADATA_ADDRESS, INTERNET_ADDRESS)]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
