"""What the server knows: the newest events and output, bounded, and the state of the run.

Readers hold positions, not queues: one that is slow, or gone, costs nothing, and is told how many it missed.

Invariants: a ring's items are numbered from 0 without gaps; it holds the last ones, at most `most` and `most_bytes`.
"""

from __future__ import annotations

import asyncio
from typing import Any

MOST_EVENTS = 200_000
MOST_EVENT_BYTES = 96 << 20
ON_PAGE = 100_000  #: as many a page itself keeps
MOST_CHUNKS = 4096
MOST_CHUNK_BYTES = 1 << 20


class Ring:
    """Bytes objects by number, the old ones forgotten."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._items: list[bytes] = []
        self._gone = 0  #: items at the start of the list that are forgotten
        self._most = most
        self._room = most_bytes
        self.first = 0  #: number of the oldest item that is still there

    @property
    def end(self) -> int:
        """The number that the next item will have."""
        return self.first + len(self._items) - self._gone

    def append(self, item: bytes) -> None:
        self._items.append(item)
        self._room -= len(item)
        while self.end - self.first > self._most or (self._room < 0 and self.end - self.first > 1):
            self._room += len(self._items[self._gone])
            self._items[self._gone] = b""
            self._gone += 1
            self.first += 1
        if self._gone > 1000 and self._gone > len(self._items) // 2:
            del self._items[: self._gone]
            self._gone = 0

    def since(self, position: int, most: int) -> tuple[list[bytes], int, int]:
        """(items from `position` on, the position after them, how many before them are gone)."""
        start = min(max(position, self.first), self.end)
        index = start - self.first + self._gone
        items = self._items[index : index + most]
        return items, start + len(items), max(0, start - position)


class Hub:
    """`state` maps names to what JSON can hold; `version` of a name grows when it changes."""

    def __init__(self, most_events: int = MOST_EVENTS) -> None:
        self.events = Ring(most_events, MOST_EVENT_BYTES)
        self.console = Ring(MOST_CHUNKS, MOST_CHUNK_BYTES)
        self.state: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self._news = asyncio.Event()

    def update(self, patch: dict[str, Any]) -> None:
        for name, value in patch.items():
            self.state[name] = value
            self.versions[name] = self.versions.get(name, 0) + 1
        self.notify()

    def changed(self, seen: dict[str, int]) -> dict[str, Any]:
        """What is newer than `seen`, which is brought up to date."""
        names = [name for name, version in self.versions.items() if seen.get(name) != version]
        seen.update({name: self.versions[name] for name in names})
        return {name: self.state[name] for name in names}

    def notify(self) -> None:
        """Wake whoever waits for news."""
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """Whether there was news in that time."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return False
        return True
