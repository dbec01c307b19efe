"""Locks with an owner: FUTEX_LOCK_PI and its kin. The word holds the owner's tid, so that free locks need no kernel.

A lock has a state in the kernel only while somebody waits for it (`inherit.py`). Ownership is handed over: who unlocks (or
dies) writes the next owner's tid into the word and wakes it. That is the most urgent waiter, not the first to come.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EAGAIN, EDEADLOCK, EINVAL, EPERM, ESRCH, ETIMEDOUT, Errno
from trapline.abi.futex import FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS
from trapline.kernel.ipc.futex.inherit import LOCKS, OWNED, grant, heir, join, leave
from trapline.kernel.ipc.futex.queue import QUEUES, TRIES, Entry, check_value, dequeue, enqueue, key_of
from trapline.kernel.sync.park import RESTART_NOINTR, Interrupted, Waiter, park

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.task.task import Task

RESTLESS = "the word does not hold still"


def try_lock(task: Task, mm: AddressSpace, uaddr: int, key: Hashable) -> Task | None:
    """Take the lock for `task`: None when it has it, else the owner to wait for (FUTEX_WAITERS is then set).

    Raises EDEADLK (the task owns it), ESRCH (no such owner), EINVAL (the word contradicts the waiters), EFAULT; EAGAIN for a
    word that does not hold still.
    """
    for _ in range(TRIES):
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
    raise EAGAIN(RESTLESS)


def _owner(task: Task, tid: int) -> Task:
    owner = task.kernel.tasks.get(tid)
    if owner is None or owner.mm is None:
        raise ESRCH("the lock's owner does not exist")
    return owner


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
    join(entry, key, owner)
    try:
        woken = await park(entry.waiter, deadline_ns, RESTART_NOINTR)
    finally:
        leave(entry)
    if not woken:
        raise ETIMEDOUT
    return 0


def unlock_pi(task: Task, uaddr: int, shared: bool) -> int:
    """FUTEX_UNLOCK_PI: hand the lock to its most urgent waiter, or free it. Raises EPERM unless the caller owns it."""
    key = key_of(task.mm, uaddr, shared)
    for _ in range(TRIES):
        found = task.mm.read_u32(uaddr)
        if found & FUTEX_TID_MASK != task.tid:
            raise EPERM("the caller does not own the lock")
        lock = LOCKS.get(key)
        next_one = heir(lock) if lock is not None else None
        if lock is not None and lock.owner is not task:
            raise EINVAL("the word does not name the lock's owner")
        new = next_one.task.tid | FUTEX_WAITERS if next_one is not None else 0
        if task.mm.compare_exchange_u32(uaddr, found, new) == found:
            if lock is not None and next_one is not None:
                grant(lock, next_one)
            return 0
    raise EAGAIN(RESTLESS)


def owner_died(task: Task) -> None:
    """`task` is gone: hand the contended locks it owns to their most urgent waiters, marked FUTEX_OWNER_DIED."""
    for lock in tuple(OWNED.get(task, ())):
        entry = heir(lock)
        if entry is None:
            continue
        with suppress(Errno):  # if its word is gone, the heir finds out itself
            entry.mm.write_u32(entry.uaddr, entry.task.tid | FUTEX_WAITERS | FUTEX_OWNER_DIED)
        grant(lock, entry)


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
        leave(entry)
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
        if owner is not None:
            join(entry, key2, owner)
        dequeue(entry)
        entry.key = key2
        if owner is None:
            entry.wake()
        done += 1
    return done
