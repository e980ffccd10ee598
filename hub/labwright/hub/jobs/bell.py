"""A bell that any thread may ring and tasks of the event loop wait for."""

from __future__ import annotations

import asyncio


class Bell:
    """`ring` wakes everybody who waits; a ring while nobody waits is heard by the next who does."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: set[asyncio.Event] = set()
        self._rung = 0

    def open(self) -> None:
        """Bind to the running loop; rings before that are lost."""
        self._loop = asyncio.get_running_loop()

    def ring(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        self._rung += 1
        for waiter in self._waiters:
            waiter.set()

    @property
    def rung(self) -> int:
        """How often it has rung: read before looking for work, given to `wait` after."""
        return self._rung

    async def wait(self, seen: int, seconds: float) -> None:
        """Until it has rung more than `seen` times, or `seconds` are over."""
        if self._rung != seen:
            return
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        try:
            await asyncio.wait_for(waiter.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            self._waiters.discard(waiter)
