"""A relay on loopback between a service and PostgreSQL, which can be away, cut connections, and lose a reply.

PostgreSQL's messages to its clients are a letter, a length of four bytes, and the rest; the reply to COMMIT is a
CommandComplete, `C`, whose rest is the tag `COMMIT`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

COMMITTED, ROLLED_BACK = b"COMMIT\0", b"ROLLBACK\0"


class Relay:
    """Passes everything on until it is told otherwise."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._links: set[Link] = set()
        self._away = False
        self._doomed: tuple[bytes, ...] = ()
        self.turned_away = 0
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url(self, url: str) -> str:
        """A database's URL by way of this relay. In the clear, so that the replies can be read."""
        made = sa.make_url(url).set(host="127.0.0.1", port=self._listener.getsockname()[1])
        return made.set(query={"sslmode": "disable", "gssencmode": "disable"}).render_as_string(hide_password=False)

    def go_away(self) -> None:
        """Cut every connection and let nobody in until `come_back`."""
        with self._lock:
            self._away = True
        self.cut()

    def come_back(self) -> None:
        with self._lock:
            self._away = False

    def cut(self) -> None:
        """End every connection in the middle of whatever it does."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()
        for link in links:
            link.join()

    def lose_reply(self, *texts: bytes) -> None:
        """Of the next transaction in which the client says all of `texts`, the reply to COMMIT is lost (`lost`)."""
        self.lost.clear()
        with self._lock:
            self._doomed = texts

    def is_doomed(self, said: bytes) -> bool:
        """Whether the reply to this transaction's COMMIT is the one to lose; once."""
        with self._lock:
            if not self._doomed or not all(text in said for text in self._doomed):
                return False
            self._doomed = ()
        return True

    def ended(self, link: Link) -> None:
        with self._lock:
            self._links.discard(link)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            with self._lock:
                if self._away:
                    self.turned_away += 1
                    client.close()
                    continue
                link = Link(self, client, self._target)
                self._links.add(link)
                link.start()  # before `cut` can find it, and wait for its thread


class Link:
    """One connection, in both directions."""

    def __init__(self, relay: Relay, client: socket.socket, target: Path) -> None:
        self._relay = relay
        self._client = client
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(str(target))
        self._said = bytearray()  # by the client, in this transaction
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(10)

    def cut(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        up = threading.Thread(target=self._until_cut, args=(self._up,), daemon=True)
        up.start()
        self._until_cut(self._down)
        up.join()
        self._relay.ended(self)
        self._client.close()
        self._server.close()

    def _until_cut(self, pass_on: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            pass_on()
        self.cut()

    def _up(self) -> None:
        while said := self._client.recv(1 << 16):
            self._said += said
            self._server.sendall(said)

    def _down(self) -> None:
        with self._server.makefile("rb") as replies:
            while head := replies.read(5):
                rest = replies.read(int.from_bytes(head[1:5], "big") - 4)
                if head[:1] == b"C" and rest in (COMMITTED, ROLLED_BACK):
                    if rest == COMMITTED and self._relay.is_doomed(bytes(self._said)):
                        self.cut()
                        self._relay.lost.set()
                        return
                    self._said.clear()
                self._client.sendall(head + rest)


@contextmanager
def relay_to(folder: Path) -> Iterator[Relay]:
    """To the PostgreSQL whose socket lies in `folder`."""
    relay = Relay(folder / ".s.PGSQL.5432")
    try:
        yield relay
    finally:
        relay.close()
