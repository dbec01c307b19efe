"""Priority inheritance: who waits for which lock, and what that makes of its owner.

An owner counts as no less urgent than the first of those who wait for one of its locks; if it waits for a lock itself, so does
that lock's owner, and so on along the chain (futex(2), "Priority-inheritance futexes"). Only real-time waiters go before
others; the rest are equals, in order of arrival.

Invariants:
- `LOCKS[key]` exists exactly while the lock has waiters, and `key` is in PI_KEYS as long;
- a lock is in `OWNED` of its owner; its waiters are sorted by `place`; a task waits for one lock at most;
- the owners form no cycle: `join` refuses the wait that would close one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable
from operator import attrgetter
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EDEADLOCK
from trapline.abi.sched import DEFAULT_PRIO, MAX_PRIO
from trapline.kernel.ipc.futex.queue import PI_KEYS, Entry

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

CHAIN_LIMIT = 1024  #: longest chain of lock owners; a longer one counts as a deadlock, as on Linux

_place = attrgetter("place")


class Lock:
    """A contended lock."""

    __slots__ = ("key", "owner", "waiters")

    def __init__(self, key: Hashable, owner: Task) -> None:
        self.key = key
        self.owner = owner
        self.waiters: list[Entry] = []


LOCKS: dict[Hashable, Lock] = {}
OWNED: dict[Task, dict[Lock, None]] = {}
_waits_for: dict[Task, tuple[Lock, Entry]] = {}
_arrivals = 0


def join(entry: Entry, key: Hashable, owner: Task) -> None:
    """The task of `entry` waits for the lock of `owner` from now on. Raises EDEADLK."""
    _check_deadlock(entry.task, owner)
    lock = LOCKS.get(key)
    if lock is None:
        lock = LOCKS[key] = Lock(key, owner)
        PI_KEYS.add(key)
        OWNED.setdefault(owner, {})[lock] = None
    _line_up(lock, entry)
    _waits_for[entry.task] = (lock, entry)
    _settle(lock.owner)


def leave(entry: Entry) -> None:
    """The wait of `entry` for a lock, if it has one, is over, with the lock or without."""
    lock, current = _waits_for.get(entry.task, (None, None))
    if lock is None or current is not entry:
        return
    del _waits_for[entry.task]
    _step_out(lock, entry)
    if not lock.waiters:
        del LOCKS[lock.key]
        PI_KEYS.discard(lock.key)
        _disown(lock)
    _settle(lock.owner)


def heir(lock: Lock) -> Entry | None:
    """Who is to have the lock next: the first whose wait is not over for another reason."""
    return next((each for each in lock.waiters if each.waiter.reason < 0), None)


def grant(lock: Lock, entry: Entry) -> None:
    """`entry`, a waiter, becomes the owner, and is woken."""
    old = lock.owner
    _disown(lock)
    lock.owner = entry.task
    OWNED.setdefault(entry.task, {})[lock] = None
    entry.wake()
    leave(entry)
    _settle(old)


def reprioritised(task: Task) -> None:
    """The priority of `task` itself has changed: it may wait for a lock."""
    if task in _waits_for:
        _settle(_moved(task))


def _disown(lock: Lock) -> None:
    owned = OWNED.get(lock.owner)
    if owned is not None:
        owned.pop(lock, None)
        if not owned:
            del OWNED[lock.owner]


def _check_deadlock(task: Task, owner: Task) -> None:
    for _ in range(CHAIN_LIMIT):
        if owner is task:
            raise EDEADLOCK("a chain of lock owners")
        found = _waits_for.get(owner)
        if found is None:
            return
        owner = found[0].owner
    raise EDEADLOCK(f"a chain of more than {CHAIN_LIMIT} lock owners")


# ---- the order of those who wait


def _line_up(lock: Lock, entry: Entry) -> None:
    global _arrivals
    _arrivals += 1
    entry.place = (min(entry.task.entity.rank(), DEFAULT_PRIO) if entry.task.entity.priority else DEFAULT_PRIO, _arrivals)
    insort(lock.waiters, entry, key=_place)


def _step_out(lock: Lock, entry: Entry) -> None:
    del lock.waiters[bisect_left(lock.waiters, entry.place, key=_place)]


def _moved(task: Task) -> Task:
    """`task`, which waits, has another rank: line it up again; the lock's owner."""
    lock, entry = _waits_for[task]
    _step_out(lock, entry)
    _line_up(lock, entry)
    return lock.owner


def _settle(task: Task) -> None:
    """Lend `task` the rank of the first who wait for its locks; as long as that changes something, go on along the chain."""
    while True:
        lent = min((each.waiters[0].task.entity.rank() for each in OWNED.get(task, ()) if each.waiters), default=MAX_PRIO)
        if lent == task.entity.lent:
            return
        task.kernel.sched.lend(task, lent)
        if task not in _waits_for:
            return
        task = _moved(task)
