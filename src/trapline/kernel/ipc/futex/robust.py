"""Robust futexes: marking and waking what a dying task leaves locked, get_robust_list(2).

The list is in user memory and is as hostile as all of it: it may be circular, misaligned or gone. The walk is bounded and
any surprise ends it, as the kernel's documentation (robust-futex-ABI) allows.
"""

from __future__ import annotations

from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL, Errno
from trapline.abi.futex import (
    FUTEX_OWNER_DIED,
    FUTEX_TID_MASK,
    FUTEX_WAITERS,
    ROBUST_LIST_HEAD,
    ROBUST_LIST_LIMIT,
)
from trapline.kernel.ipc.futex.queue import PI_KEYS, TRIES, wake

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

_MASK64 = (1 << 64) - 1


def exit_robust_list(task: Task) -> None:
    """`task` is about to give up its memory (it exits, or executes a program): release the locks it holds."""
    head = task.robust_list[0]
    task.robust_list = (0, 0)
    if head and task.mm is not None:
        with suppress(Errno):  # user memory that cannot be read: nothing more can be released
            _walk(task, head)
    if PI_KEYS:
        from trapline.kernel.ipc.futex import pi
        from trapline.kernel.ipc.futex.inherit import OWNED

        if task in OWNED:
            pi.owner_died(task)


def _walk(task: Task, head: int) -> None:
    mm = task.mm
    entry, offset, pending = ROBUST_LIST_HEAD.unpack(mm.read(head, ROBUST_LIST_HEAD.size))
    left = ROBUST_LIST_LIMIT
    while entry & ~1 != head and left:
        following = mm.read_u64(entry & ~1)  # first: releasing the lock may let its memory go
        if entry & ~1 != pending & ~1:
            _release(task, (entry & ~1) + offset & _MASK64, bool(entry & 1), False)
        entry = following
        left -= 1
    if pending & ~1:
        _release(task, (pending & ~1) + offset & _MASK64, bool(pending & 1), True)


def _release(task: Task, uaddr: int, is_pi: bool, pending: bool) -> None:
    """One futex on the list: mark it FUTEX_OWNER_DIED and wake a waiter if the task owns it."""
    mm = task.mm
    if uaddr & 3:
        raise EINVAL("misaligned futex")
    for _ in range(TRIES):
        found = mm.read_u32(uaddr)
        if pending and not is_pi and not found:
            wake(mm, uaddr)  # died between unlocking and waking
            return
        if found & FUTEX_TID_MASK != task.tid:
            return
        if mm.compare_exchange_u32(uaddr, found, found & FUTEX_WAITERS | FUTEX_OWNER_DIED) == found:
            break
    if not is_pi and found & FUTEX_WAITERS:
        wake(mm, uaddr)
