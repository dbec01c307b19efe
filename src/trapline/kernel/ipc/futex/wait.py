"""Waiting on a futex word, or on several, with the restart rules of futex(2).

Deadlines are points of CLOCK_MONOTONIC. A wait with a deadline that a signal interrupts goes on, through
restart_syscall(2), to the same deadline.
"""

from __future__ import annotations

from collections.abc import Coroutine, Hashable
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi.errno import EAGAIN, ETIMEDOUT
from trapline.kernel.ipc.futex.queue import Entry, check_value, dequeue, enqueue, key_of
from trapline.kernel.sync.park import RESTART_BLOCK, RESTART_SYS, Interrupted, Waiter, park

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


def start(
    task: Task, uaddr: int, shared: bool, expected: int, bitset: int, deadline_ns: int | None
) -> Coroutine[Any, Any, int]:
    """FUTEX_WAIT: check the word, join its queue, and return the rest of the wait.

    Raises EAGAIN, EINVAL, EFAULT, and ETIMEDOUT if the deadline has passed already.
    """
    key = key_of(task.mm, uaddr, shared)
    check_value(task.mm, uaddr, expected)
    if deadline_ns is not None and deadline_ns <= task.kernel.clock.monotonic_ns():
        raise ETIMEDOUT
    entry = Entry(task, Waiter(task, True), key, bitset)
    enqueue(entry)

    def again(task: Task) -> Coroutine[Any, Any, int]:
        return start(task, uaddr, shared, expected, bitset, deadline_ns)

    return _wait(entry, deadline_ns, again)


async def _wait(entry: Entry, deadline_ns: int | None, again: Any) -> int:
    try:
        woken = await park(entry.waiter, deadline_ns, RESTART_SYS)
    except Interrupted as stop:
        if deadline_ns is not None:
            stop.restart, stop.again = RESTART_BLOCK, again
        raise
    finally:
        dequeue(entry)
    if not woken:
        raise ETIMEDOUT
    return 0


async def wait_vector(
    task: Task, words: list[tuple[int, Hashable, int]], deadline_ns: int | None
) -> int:
    """futex_waitv(2): wait until any of (address, key, expected value) is woken; its index.

    Raises EAGAIN if a word does not hold its value, ETIMEDOUT, Interrupted.
    """
    for uaddr, _, expected in words:
        check_value(task.mm, uaddr, expected)
    waiter = Waiter(task, True)
    entries = [Entry(task, waiter, key) for _, key, _ in words]
    for entry in entries:
        enqueue(entry)
    try:
        woken = await park(waiter, deadline_ns, RESTART_SYS)
    finally:
        for entry in entries:
            dequeue(entry)
    if not woken:
        raise ETIMEDOUT
    for index, entry in enumerate(entries):
        if entry.woken:
            return index
    raise EAGAIN("woken by nobody")
