"""The machine's lock, for harts on threads: all that is Python is done by who holds it.

Python's own locks wake a waiter, but whoever asks again in the meantime gets the lock first; a hart that lets go for a
microsecond of native code, over and over, could keep the others out. Here, after a few such turns, it queues behind
them.
"""

from __future__ import annotations

import threading

PATIENCE = 8  #: turns that others may have while somebody waits


class TurnLock:
    """Not reentrant. `with` takes it and lets it go."""

    __slots__ = ("_lock", "_passed", "_queue", "_waiting", "release")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue = threading.Lock()  # held by the one that waits; the others wait for this
        self._waiting = False
        self._passed = 0  # turns that it has let pass
        self.release = self._lock.release

    def acquire(self) -> None:
        if self._passed < PATIENCE and self._lock.acquire(blocking=False):
            self._passed += self._waiting
            return
        with self._queue:
            self._waiting = True
            self._lock.acquire()
            self._waiting, self._passed = False, 0

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
