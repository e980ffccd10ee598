"""What one TLS connection leaves in OpenSSL's queue of errors is not taken for another's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dask_gateway_server.tls import new_keypair

PROGRAM = """
import asyncio, errno, ssl, sys
from tornado.iostream import StreamClosedError
from tornado.tcpclient import TCPClient
from tornado.tcpserver import TCPServer
from labwright.kernels import tls_errors

class Echo(TCPServer):
    async def handle_stream(self, stream, address):
        while True:
            await stream.write(await stream.read_bytes(4))

def leave_a_broken_pipe():
    tls_errors.find("ERR_new")()
    tls_errors.find("ERR_set_error")(2, errno.EPIPE, None)  # ERR_LIB_SYS

async def main():
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(sys.argv[1], sys.argv[2])
    wanted = ssl.create_default_context(cafile=sys.argv[1])
    wanted.check_hostname = False
    server = Echo(ssl_options=served)
    server.listen(0, "127.0.0.1")
    port = next(iter(server._sockets.values())).getsockname()[1]
    stream = await TCPClient().connect("127.0.0.1", port, ssl_options=wanted)
    for word in (b"ping", b"pong"):
        leave_a_broken_pipe()
        answer = stream.read_bytes(4)  # there is nothing to read yet
        leave_a_broken_pipe()
        await stream.write(word)
        print((await answer).decode())

if "apart" in sys.argv:
    tls_errors.keep_apart()
    tls_errors.keep_apart()
try:
    asyncio.run(main())
except StreamClosedError as error:
    print("closed", error.real_error)
"""


def test_a_healthy_connection_outlives_the_broken_pipe_of_another(tmp_path: Path) -> None:
    certificate, key = new_keypair("cluster")
    (tmp_path / "crt").write_bytes(certificate)
    (tmp_path / "key").write_bytes(key)
    files = [str(tmp_path / "crt"), str(tmp_path / "key")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *files, "apart"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout.split(), done.stderr) == (["ping", "pong"], "")
