"""One source's own process: the only one that holds this source's credential.

Started with a control socket (SOCK_SEQPACKET) as its one argument. The first message is the set-up, credential
included, so that it is neither in the arguments nor in the environment. Every later message carries the end of a
stream socket: one request each. Frames on it: one letter, the length in four bytes, the payload.

    D  bytes of an Arrow IPC stream        J  a JSON answer (catalogue)
    Z  end: {"rows", "truncated", "seconds"}   E  failure: {"kind", "message", "position", "hint"}

The other end closing means nobody waits any more: the statement is cancelled in the source.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from labwright.hub.data import drivers
from labwright.hub.data.drivers import Running, Source, SourceError, SourceUnreachable
from labwright.hub.data.frames import FRAME
from labwright.hub.data.values import decode_parameter

log = logging.getLogger("labwright.data.worker")
PARALLEL = 8  # statements at a time
WAIT_SECONDS = 60.0  # for one of those places
PIECE_BYTES = 1 << 20  # of a stream: the service holds a few of them, however large a value is
SEND_SECONDS = 60  # a reader that takes nothing for so long has left


class Request:
    """One request on its socket, with the thread that notices when the other end leaves."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        # Not `settimeout`: the thread that watches reads from this socket for as long as the statement runs.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_SECONDS, 0))
        self._running: Running | None = None
        self._lock = threading.Lock()
        self.cancelled = False
        self.timed_out = False

    def read(self) -> dict[str, Any]:
        (length,) = struct.unpack("!I", _exactly(self.peer, 4))
        request: dict[str, Any] = json.loads(_exactly(self.peer, length))
        return request

    def send(self, kind: bytes, payload: bytes | bytearray | memoryview) -> None:
        self.peer.sendall(FRAME.pack(kind, len(payload)))
        self.peer.sendall(payload)

    def send_stream(self, payload: bytes | bytearray) -> None:
        with memoryview(payload) as view:
            for start in range(0, len(view), PIECE_BYTES):
                self.send(b"D", view[start : start + PIECE_BYTES])

    def send_json(self, kind: bytes, value: Any) -> None:
        self.send(kind, json.dumps(value).encode())

    def attach(self, running: Running | None) -> None:
        """From here on a leaving peer cancels `running`; None when it is over."""
        with self._lock:
            self._running = running

    def watch(self) -> None:
        """Cancel when the peer closes, again and again, since the first may come before the source began."""
        with suppress(OSError):
            self.peer.recv(1)
        while self.cancel():
            time.sleep(0.1)

    def time_out(self) -> None:
        self.timed_out = True
        self.cancel()

    def cancel(self) -> bool:
        with self._lock:
            if self._running is None:
                return False
            self.cancelled = True
            self._running.cancel()
            return True


class Worker:
    def __init__(self, setup: Mapping[str, Any]) -> None:
        self._driver = drivers.find(setup["driver"])
        self._options: Mapping[str, str] = setup["options"]
        self._secret: str | None = setup["secret"]
        self._timeout = float(setup["timeout_seconds"])
        self._source: Source | None = None
        self._opening = threading.Lock()
        self._places = threading.BoundedSemaphore(PARALLEL)

    def source(self) -> Source:
        with self._opening:
            if self._source is None:
                self._source = self._driver.open(self._options, self._secret, timeout_seconds=self._timeout)
            return self._source

    def serve(self, peer: socket.socket) -> None:
        """Answer one request; every failure becomes a frame, without the credential in it."""
        request = Request(peer)
        with peer:
            try:
                self._answer(request, request.read())
            except SourceError as error:
                failure = {"kind": "query", "message": str(error), "position": error.position, "hint": error.hint}
                if request.timed_out:
                    failure = {"kind": "timeout", "message": f"It took longer than {self._timeout:g} s."}
                self._fail(request, failure)
            except SourceUnreachable as error:
                self._fail(request, {"kind": "unreachable", "message": str(error)})
            except (BrokenPipeError, ConnectionError, BlockingIOError):
                pass  # nobody waits any more, or reads
            except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
                message = "A column of the result has a type that cannot be sent."
                self._fail(request, {"kind": "query", "message": message, "hint": "Cast it to text."})
            except Exception as error:  # noqa: BLE001 - the top of a request
                # Only the kind of it: the text of a driver's error may quote its connection string.
                log.error("a request failed with %s", type(error).__name__)
                self._fail(request, {"kind": "internal", "message": type(error).__name__})

    def _fail(self, request: Request, failure: Mapping[str, Any]) -> None:
        clean = {
            key: self._without_secret(value) if isinstance(value, str) else value for key, value in failure.items()
        }
        with suppress(OSError):
            request.send_json(b"E", clean)

    def _without_secret(self, text: str) -> str:
        for form in _forms(self._secret):
            text = text.replace(form, "***")
        return text

    def _answer(self, request: Request, ask: Mapping[str, Any]) -> None:
        if ask["what"] == "catalog":
            found = self.source().catalog()
            tables = [asdict(table) for table in found.tables]
            request.send_json(b"J", {"tables": tables, "functions": sorted(found.functions)})
            return
        if not self._places.acquire(timeout=WAIT_SECONDS):
            raise SourceUnreachable(f"It is busy with {PARALLEL} other queries.")
        try:
            self._query(request, ask)
        finally:
            self._places.release()

    def _query(self, request: Request, ask: Mapping[str, Any]) -> None:
        started = time.monotonic()
        running = self.source().prepare(ask["sql"], [decode_parameter(value) for value in ask["parameters"]])
        request.attach(running)
        threading.Thread(target=request.watch, daemon=True).start()
        timer = threading.Timer(self._timeout, request.time_out)
        timer.daemon = True
        timer.start()
        ended = False
        try:
            rows, truncated = stream(request, running.begin(), ask.get("limit"))
            ended = not truncated
            seconds = time.monotonic() - started
            request.send_json(b"Z", {"rows": rows, "truncated": truncated, "seconds": seconds})
        finally:
            timer.cancel()
            if not ended:
                running.cancel()
            request.attach(None)
            running.finish(clean=ended and not request.cancelled)


def stream(request: Request, reader: pa.RecordBatchReader, limit: int | None) -> tuple[int, bool]:
    """Send the schema and then each batch as a frame; stops at `limit` rows. Returns rows, and whether it stopped.

    The last batch is empty and carries what the client wants to know in its metadata under `labwright`: rows,
    truncated and seconds, or the failure that came in the middle (an HTTP status can no longer tell of it).
    """
    started = time.monotonic()
    sink = Frames()
    rows, truncated = 0, False
    writer = pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), reader.schema)
    request.send_stream(sink.take())
    try:
        for batch in reader:
            part = batch if limit is None else batch.slice(0, max(limit - rows, 0))
            truncated = part.num_rows < batch.num_rows
            rows += part.num_rows
            if part.num_rows:
                writer.write_batch(part)
                request.send_stream(sink.take())
            if truncated:
                break
    except SourceError as error:
        failure = {"kind": "timeout" if request.timed_out else "query", "message": str(error), "hint": error.hint}
        _write_note(writer, reader.schema, {"error": failure})
        request.send_stream(sink.take())
        raise
    seconds = time.monotonic() - started
    _write_note(writer, reader.schema, {"rows": rows, "truncated": truncated, "seconds": seconds})
    writer.close()
    request.send_stream(sink.take())
    return rows, truncated


def _write_note(writer: pa.ipc.RecordBatchStreamWriter, schema: pa.Schema, note: Mapping[str, Any]) -> None:
    empty = pa.RecordBatch.from_pylist([], schema=schema)
    writer.write_batch(empty, custom_metadata={"labwright": json.dumps(note)})


class Frames:
    """Where the Arrow writer writes: collects bytes until they are taken."""

    closed = False

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._bytes += view
        return view.nbytes

    def take(self) -> bytearray:
        taken, self._bytes = self._bytes, bytearray()
        return taken

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _forms(secret: str | None) -> Sequence[str]:
    if not secret:
        return ()
    return (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode())


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = peer.recv(count - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return bytes(data)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's ^C is the service's business
    control = socket.socket(fileno=int(sys.argv[1]))
    worker = Worker(json.loads(control.recv(1 << 20)))
    while True:
        message, handles, _flags, _address = socket.recv_fds(control, 16, 1)
        if not message:
            os._exit(0)  # the service is gone; statements end with their sockets
        for handle in handles:
            peer = socket.socket(fileno=handle)
            threading.Thread(target=worker.serve, args=(peer,), daemon=True).start()


if __name__ == "__main__":
    main()
