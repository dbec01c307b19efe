"""Who waits on which futex word: real-time tasks first, by priority, and among equals in order of arrival.

A word is known by its *key*: for a private futex its address space and address, for a shared one whatever backs it.

Invariants:
- a queue in QUEUES is never empty;
- an entry is on at most one queue, that of its key; who takes it off the queue for good also wakes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EAGAIN, EINVAL, ENOSYS
from trapline.abi.futex import (
    FUTEX_BITSET_MATCH_ANY,
    FUTEX_OP_CMP_EQ,
    FUTEX_OP_CMP_GE,
    FUTEX_OP_CMP_GT,
    FUTEX_OP_CMP_LE,
    FUTEX_OP_CMP_LT,
    FUTEX_OP_CMP_NE,
    FUTEX_OP_OPARG_SHIFT,
    FUTEX_OP_XOR,
)
from trapline.kernel.sync.park import WOKEN, Waiter

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.task.task import Task


class Entry:
    """One task waiting on one word. `requeue_key` is set by FUTEX_WAIT_REQUEUE_PI: the lock it may be moved to."""

    __slots__ = ("bitset", "key", "mm", "place", "requeue_key", "task", "uaddr", "urgency", "waiter", "woken")

    def __init__(self, task: Task, waiter: Waiter, key: Hashable, bitset: int = FUTEX_BITSET_MATCH_ANY) -> None:
        self.task = task
        self.waiter = waiter
        self.key = key
        self.bitset = bitset
        self.requeue_key: Hashable = None
        self.woken = False
        self.mm: AddressSpace = task.mm  #: with `uaddr`: where a lock's word is, for its next owner
        self.uaddr = 0
        self.urgency: int = min(task.entity.own(), 100)  #: as it was when the wait began
        self.place = (0, 0)  #: among those who wait for a lock: (rank, arrival)

    def wake(self) -> bool:
        """Wake the waiter; False when its wait is over for another reason."""
        if self.waiter.wake() or self.waiter.reason == WOKEN:
            self.woken = True
            return True
        return False


QUEUES: dict[Hashable, deque[Entry]] = {}
TRIES = 4096  #: a word that changes whenever it is looked at, as no lock does, is left alone after so many looks
PI_KEYS: set[Hashable] = set()  #: words that are locks with waiters: waking them is an error


def key_of(mm: AddressSpace, uaddr: int, shared: bool) -> Hashable:
    """The key of a word. Raises EINVAL (misaligned) or EFAULT."""
    if uaddr & 3:
        raise EINVAL("misaligned futex")
    if shared or uaddr >> 47:
        return mm.futex_key(uaddr, shared)
    return (mm, uaddr)


def enqueue(entry: Entry) -> None:
    queue = QUEUES.get(entry.key)
    if queue is None:
        queue = QUEUES[entry.key] = deque()
    if entry.urgency and queue and queue[-1].urgency < entry.urgency:
        queue.insert(next(at for at, each in enumerate(queue) if each.urgency < entry.urgency), entry)
    else:
        queue.append(entry)


def dequeue(entry: Entry) -> None:
    """Take an entry off its queue, if it is still there."""
    queue = QUEUES.get(entry.key)
    if queue is not None and entry in queue:
        queue.remove(entry)
        if not queue:
            del QUEUES[entry.key]


def wake_key(key: Hashable, count: int, bitset: int = FUTEX_BITSET_MATCH_ANY) -> int:
    """Wake up to `count` waiters (at least one) whose bit set meets `bitset`; how many. Raises EINVAL for a lock."""
    queue = QUEUES.get(key)
    if queue is None:
        if key in PI_KEYS:
            raise EINVAL("a lock's waiters are woken by FUTEX_UNLOCK_PI")
        return 0
    woken = 0
    for entry in tuple(queue):
        if not entry.bitset & bitset:
            continue
        if entry.requeue_key is not None:
            raise EINVAL("its waiters wait to be requeued")
        dequeue(entry)
        if entry.wake():
            woken += 1
            if woken >= count:
                break
    return woken


def wake(mm: AddressSpace, uaddr: int, count: int = 1, *, shared: bool = True) -> int:
    """Wake waiters on a word: what clear_child_tid and robust lists need. Raises EINVAL, EFAULT."""
    return wake_key(key_of(mm, uaddr, shared), count)


def requeue(source: Hashable, target: Hashable, wake_count: int, move_count: int) -> int:
    """FUTEX_REQUEUE: wake some waiters of `source`, move others to `target`; how many were woken or moved."""
    done = 0
    for entry in tuple(QUEUES.get(source, ())):
        if entry.requeue_key is not None:
            raise EINVAL("its waiters wait to be requeued to a lock")
        if done - wake_count >= move_count:
            break
        if done < wake_count:
            dequeue(entry)
            done += entry.wake()
        else:
            if source != target:
                dequeue(entry)
                entry.key = target
                enqueue(entry)
            done += 1
    return done


def check_value(mm: AddressSpace, uaddr: int, expected: int) -> None:
    """Raise EAGAIN unless the word holds `expected`."""
    if mm.read_u32(uaddr) != expected:
        raise EAGAIN("the futex word changed")


def wake_op(mm: AddressSpace, keys: tuple[Hashable, Hashable], uaddr2: int, counts: tuple[int, int], op: int) -> int:
    """FUTEX_WAKE_OP: change the second word, wake the first's waiters, and the second's if its old value says so."""
    old = _modify(mm, uaddr2, op)
    woken = wake_key(keys[0], counts[0])
    if _compare(old, op):
        woken += wake_key(keys[1], counts[1])
    return woken


def _sign12(value: int) -> int:
    return ((value & 0xFFF) ^ 0x800) - 0x800


def _modify(mm: AddressSpace, uaddr: int, op: int) -> int:
    """Perform the encoded operation on the word, atomically; its old value."""
    operation, argument = op >> 28 & 7, _sign12(op >> 12)
    if op >> 28 & FUTEX_OP_OPARG_SHIFT:
        argument = 1 << (argument & 31)
    if operation > FUTEX_OP_XOR or (op >> 24 & 15) > FUTEX_OP_CMP_GE:
        raise ENOSYS("unknown futex operation")
    return mm.modify_u32(uaddr, operation, argument)


def _compare(old: int, op: int) -> bool:
    signed, argument, how = (old ^ 1 << 31) - (1 << 31), _sign12(op), op >> 24 & 15
    if how == FUTEX_OP_CMP_EQ:
        return signed == argument
    if how == FUTEX_OP_CMP_NE:
        return signed != argument
    if how == FUTEX_OP_CMP_LT:
        return signed < argument
    if how == FUTEX_OP_CMP_LE:
        return signed <= argument
    if how == FUTEX_OP_CMP_GT:
        return signed > argument
    return signed >= argument
