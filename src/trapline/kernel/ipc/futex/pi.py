"""Locks with an owner: FUTEX_LOCK_PI and its kin. The word holds the owner's tid, so that free locks need no kernel.

A lock has a state here only while somebody waits for it. Ownership is handed over: who unlocks (or dies) writes the next
owner's tid into the word and wakes it. Waiters are served in order of arrival; as all tasks of this kernel have the
same kind of priority, nothing is inherited.

Invariant: `LOCKS[key]` exists exactly while it has waiters, and `key` is in PI_KEYS as long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from typing import TYPE_CHECKING

from trapline.abi.errno import EAGAIN, EDEADLOCK, EINVAL, EPERM, ESRCH, ETIMEDOUT, Errno
from trapline.abi.futex import FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS
from trapline.kernel.ipc.futex.queue import PI_KEYS, QUEUES, Entry, check_value, dequeue, enqueue, key_of
from trapline.kernel.sync.park import RESTART_NOINTR, Interrupted, Waiter, park

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.task.task import Task

CHAIN_LIMIT = 1024  #: longest chain of lock owners that is searched for a deadlock


class Lock:
    """A contended lock."""

    __slots__ = ("key", "owner", "waiters")

    def __init__(self, key: Hashable, owner: Task) -> None:
        self.key = key
        self.owner = owner
        self.waiters: deque[Entry] = deque()


LOCKS: dict[Hashable, Lock] = {}
_waits_for: dict[Task, Lock] = {}


def try_lock(task: Task, mm: AddressSpace, uaddr: int, key: Hashable) -> Task | None:
    """Take the lock for `task`: None when it has it, else the owner to wait for (FUTEX_WAITERS is then set).

    Raises EDEADLK (the task owns it), ESRCH (no such owner), EINVAL (the word contradicts the waiters), EFAULT.
    """
    while True:
        found = mm.read_u32(uaddr)
        tid = found & FUTEX_TID_MASK
        if tid == task.tid:
            raise EDEADLOCK("the caller owns the lock")
        lock = LOCKS.get(key)
        if lock is not None:
            if lock.owner.tid != tid:
                raise EINVAL("the word does not name the lock's owner")
        elif tid == 0:
            new = task.tid | found & FUTEX_OWNER_DIED
            if mm.compare_exchange_u32(uaddr, found, new) == found:
                return None
            continue
        owner = lock.owner if lock is not None else _owner(task, tid)
        if found & FUTEX_WAITERS or mm.compare_exchange_u32(uaddr, found, found | FUTEX_WAITERS) == found:
            return owner


def _owner(task: Task, tid: int) -> Task:
    owner = task.kernel.tasks.get(tid)
    if owner is None or owner.mm is None:
        raise ESRCH("the lock's owner does not exist")
    return owner


def _check_deadlock(task: Task, owner: Task) -> None:
    for _ in range(CHAIN_LIMIT):
        lock = _waits_for.get(owner)
        if lock is None:
            return
        owner = lock.owner
        if owner is task:
            raise EDEADLOCK("a chain of lock owners")


def _join(entry: Entry, key: Hashable, owner: Task) -> Lock:
    _check_deadlock(entry.task, owner)
    lock = LOCKS.get(key)
    if lock is None:
        lock = LOCKS[key] = Lock(key, owner)
        PI_KEYS.add(key)
    lock.waiters.append(entry)
    _waits_for[entry.task] = lock
    return lock


def _leave(lock: Lock, entry: Entry) -> None:
    """The wait of `entry` is over, with the lock or without."""
    if entry in lock.waiters:
        lock.waiters.remove(entry)
    if _waits_for.get(entry.task) is lock:
        del _waits_for[entry.task]
    _forget_if_idle(lock)


def _forget_if_idle(lock: Lock) -> None:
    if not lock.waiters and LOCKS.get(lock.key) is lock:
        del LOCKS[lock.key]
        PI_KEYS.discard(lock.key)


async def lock_pi(task: Task, uaddr: int, shared: bool, deadline_ns: int | None, *, wait: bool = True) -> int:
    """FUTEX_LOCK_PI, or FUTEX_TRYLOCK_PI: raises EAGAIN when it would wait."""
    key = key_of(task.mm, uaddr, shared)
    owner = try_lock(task, task.mm, uaddr, key)
    if owner is None:
        return 0
    if not wait:
        raise EAGAIN("locked")
    entry = Entry(task, Waiter(task, True), key)
    entry.uaddr = uaddr
    return await _wait_for(_join(entry, key, owner), entry, deadline_ns)


async def _wait_for(lock: Lock, entry: Entry, deadline_ns: int | None) -> int:
    try:
        woken = await park(entry.waiter, deadline_ns, RESTART_NOINTR)
    finally:
        _leave(lock, entry)
    if not woken:
        raise ETIMEDOUT
    return 0


def unlock_pi(task: Task, uaddr: int, shared: bool) -> int:
    """FUTEX_UNLOCK_PI: hand the lock to its first waiter, or free it. Raises EPERM unless the caller owns it."""
    key = key_of(task.mm, uaddr, shared)
    while True:
        found = task.mm.read_u32(uaddr)
        if found & FUTEX_TID_MASK != task.tid:
            raise EPERM("the caller does not own the lock")
        lock = LOCKS.get(key)
        heir = _heir(lock) if lock is not None else None
        if lock is not None and lock.owner is not task:
            raise EINVAL("the word does not name the lock's owner")
        new = heir.task.tid | FUTEX_WAITERS if heir is not None else 0
        if task.mm.compare_exchange_u32(uaddr, found, new) == found:
            if lock is not None and heir is not None:
                _grant(lock, heir)
            return 0


def _heir(lock: Lock) -> Entry | None:
    return next((each for each in lock.waiters if each.waiter.reason < 0), None)


def _grant(lock: Lock, heir: Entry) -> None:
    lock.owner = heir.task
    heir.wake()
    _leave(lock, heir)


def owner_died(task: Task) -> None:
    """`task` is gone: hand the contended locks it owns to their first waiters, marked FUTEX_OWNER_DIED."""
    for lock in [each for each in LOCKS.values() if each.owner is task]:
        heir = _heir(lock)
        if heir is None:
            continue
        with suppress(Errno):  # if its word is gone, the heir finds out itself
            heir.mm.write_u32(heir.uaddr, heir.task.tid | FUTEX_WAITERS | FUTEX_OWNER_DIED)
        _grant(lock, heir)


# ---- condition variables: waiting on one word, waking up with a lock


async def wait_requeue_pi(
    task: Task, uaddr: int, uaddr2: int, shared: bool, expected: int, deadline_ns: int | None
) -> int:
    """FUTEX_WAIT_REQUEUE_PI: wait on `uaddr` to be moved to the lock `uaddr2`; returns owning the lock."""
    key, key2 = key_of(task.mm, uaddr, shared), key_of(task.mm, uaddr2, shared)
    if key == key2:
        raise EINVAL("a futex cannot be requeued to itself")
    check_value(task.mm, uaddr, expected)
    entry = Entry(task, Waiter(task, True), key)
    entry.requeue_key, entry.uaddr = key2, uaddr2
    enqueue(entry)
    try:
        woken = await park(entry.waiter, deadline_ns, RESTART_NOINTR)
    except Interrupted:
        if entry.key != key:  # moved already: the word has changed, a restart would find just that
            raise EAGAIN("interrupted after it was requeued") from None
        raise
    finally:
        lock = LOCKS.get(entry.key)
        if lock is not None:
            _leave(lock, entry)
        _waits_for.pop(task, None)
        dequeue(entry)
    if not woken:
        raise ETIMEDOUT
    return 0


def requeue_pi(task: Task, uaddr: int, uaddr2: int, shared: bool, move_count: int, expected: int) -> int:
    """FUTEX_CMP_REQUEUE_PI: give the lock to the first waiter if it is free, let the others wait for it."""
    key, key2 = key_of(task.mm, uaddr, shared), key_of(task.mm, uaddr2, shared)
    if key == key2:
        raise EINVAL("a futex cannot be requeued to itself")
    check_value(task.mm, uaddr, expected)
    done = 0
    for entry in tuple(QUEUES.get(key, ())):
        if done > move_count:
            break
        if entry.requeue_key != key2:
            raise EINVAL("a waiter waits for another lock")
        if entry.waiter.reason >= 0:
            continue
        owner = try_lock(entry.task, task.mm, uaddr2, key2)
        dequeue(entry)
        entry.key = key2
        if owner is None:
            entry.wake()
        else:
            _join(entry, key2, owner)
        done += 1
    return done
