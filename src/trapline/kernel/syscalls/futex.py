"""futex(2) and futex_waitv(2).

Waking a word that nobody waits for is the common call: it is decided before anything else is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import futex as f
from trapline.abi.errno import EINVAL, ENOSYS
from trapline.abi.futex import FUTEX_BITSET_MATCH_ANY, FUTEX_PRIVATE_FLAG, FUTEX_WAKE
from trapline.abi.time import CLOCK_MONOTONIC, CLOCK_REALTIME
from trapline.kernel.ipc.futex import pi
from trapline.kernel.ipc.futex.queue import PI_KEYS, QUEUES, check_value, key_of, requeue, wake_key, wake_op
from trapline.kernel.ipc.futex.wait import start, wait_vector
from trapline.kernel.syscalls.declare import Arg, Result, UInt, UserPtr, syscall
from trapline.kernel.syscalls.timearg import after, read_timespec

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

FutexOp = Annotated[int, Arg(-32, "flags:futex_op")]
ClockId = Annotated[int, Arg(-32, "clock")]
WaitVector = Annotated[int, Arg(64, "struct:futex_waitv")]
Timeout = Annotated[int, Arg(64, "ptr")]

_WAKE_PRIVATE = FUTEX_WAKE | FUTEX_PRIVATE_FLAG


@syscall("futex")
def sys_futex(task: Task, uaddr: UserPtr, op: FutexOp, val: UInt, timeout: Timeout, uaddr2: UserPtr, val3: UInt) -> Result:
    """futex(2): sleep on a word of memory, and wake who sleeps there."""
    if op == _WAKE_PRIVATE and not uaddr & 3 and not uaddr >> 47:
        key = (task.mm, uaddr)
        if key not in QUEUES and key not in PI_KEYS:
            return 0
    verb = _VERBS.get(op & f.FUTEX_CMD_MASK)
    if verb is None:
        raise ENOSYS("unknown futex operation")
    if op & f.FUTEX_CLOCK_REALTIME and op & f.FUTEX_CMD_MASK not in _CLOCK_CHOICE:
        raise ENOSYS("FUTEX_CLOCK_REALTIME with an operation that has no absolute time-out")
    return verb(task, Call(task, uaddr, op, val, timeout, uaddr2, val3))


class Call:
    """The arguments of one futex(2) call."""

    __slots__ = ("op", "shared", "timeout", "uaddr", "uaddr2", "val", "val2", "val3")

    def __init__(
        self, task: Task, uaddr: int, op: int, val: int, timeout: int, uaddr2: int, val3: int
    ) -> None:
        self.uaddr, self.op, self.val = uaddr, op, val
        self.timeout, self.uaddr2, self.val3 = timeout, uaddr2, val3
        self.shared = not op & FUTEX_PRIVATE_FLAG
        self.val2 = timeout & 0xFFFFFFFF  #: the operations without a time-out have a second count in its place

    def absolute(self, task: Task, clock: int) -> int | None:
        """The deadline of an operation whose time-out is a point of `clock`."""
        if not self.timeout:
            return None
        return task.kernel.clock.deadline_ns(clock, read_timespec(task, self.timeout))  # type: ignore[no-any-return]

    def clock(self) -> int:
        return CLOCK_REALTIME if self.op & f.FUTEX_CLOCK_REALTIME else CLOCK_MONOTONIC


def _wait(task: Task, call: Call) -> Result:
    deadline = None
    if call.timeout:
        deadline = after(task.kernel.clock.monotonic_ns(), read_timespec(task, call.timeout))
    return start(task, call.uaddr, call.shared, call.val, FUTEX_BITSET_MATCH_ANY, deadline)


def _wait_bitset(task: Task, call: Call) -> Result:
    deadline = call.absolute(task, call.clock())
    if not call.val3:
        raise EINVAL("an empty bit set")
    return start(task, call.uaddr, call.shared, call.val, call.val3, deadline)


def _wake(task: Task, call: Call) -> Result:
    return wake_key(key_of(task.mm, call.uaddr, call.shared), _signed(call.val))


def _wake_bitset(task: Task, call: Call) -> Result:
    if not call.val3:
        raise EINVAL("an empty bit set")
    return wake_key(key_of(task.mm, call.uaddr, call.shared), _signed(call.val), call.val3)


def _requeue(task: Task, call: Call) -> Result:
    counts, keys = _two(task, call)
    return requeue(*keys, *counts)


def _cmp_requeue(task: Task, call: Call) -> Result:
    counts, keys = _two(task, call)
    check_value(task.mm, call.uaddr, call.val3)
    return requeue(*keys, *counts)


def _two(task: Task, call: Call) -> tuple[tuple[int, int], tuple[Hashable, Hashable]]:
    wake_count, move_count = _signed(call.val), _signed(call.val2)
    if wake_count < 0 or move_count < 0:
        raise EINVAL("a negative count")
    first = key_of(task.mm, call.uaddr, call.shared)
    return (wake_count, move_count), (first, key_of(task.mm, call.uaddr2, call.shared))


def _wake_op(task: Task, call: Call) -> Result:
    keys = key_of(task.mm, call.uaddr, call.shared), key_of(task.mm, call.uaddr2, call.shared)
    return wake_op(task.mm, keys, call.uaddr2, (_signed(call.val), _signed(call.val2)), call.val3)


def _lock_pi(task: Task, call: Call) -> Result:
    return pi.lock_pi(task, call.uaddr, call.shared, call.absolute(task, CLOCK_REALTIME))


def _lock_pi2(task: Task, call: Call) -> Result:
    return pi.lock_pi(task, call.uaddr, call.shared, call.absolute(task, call.clock()))


def _trylock_pi(task: Task, call: Call) -> Result:
    return pi.lock_pi(task, call.uaddr, call.shared, None, wait=False)


def _unlock_pi(task: Task, call: Call) -> Result:
    return pi.unlock_pi(task, call.uaddr, call.shared)


def _wait_requeue_pi(task: Task, call: Call) -> Result:
    deadline = call.absolute(task, call.clock())
    return pi.wait_requeue_pi(task, call.uaddr, call.uaddr2, call.shared, call.val, deadline)


def _cmp_requeue_pi(task: Task, call: Call) -> Result:
    if call.val != 1 or _signed(call.val2) < 0:
        raise EINVAL("exactly one waiter is woken")
    return pi.requeue_pi(task, call.uaddr, call.uaddr2, call.shared, call.val2, call.val3)


_VERBS: dict[int, Callable[[Task, Call], Result]] = {
    f.FUTEX_WAIT: _wait,
    f.FUTEX_WAKE: _wake,
    f.FUTEX_REQUEUE: _requeue,
    f.FUTEX_CMP_REQUEUE: _cmp_requeue,
    f.FUTEX_WAKE_OP: _wake_op,
    f.FUTEX_LOCK_PI: _lock_pi,
    f.FUTEX_UNLOCK_PI: _unlock_pi,
    f.FUTEX_TRYLOCK_PI: _trylock_pi,
    f.FUTEX_WAIT_BITSET: _wait_bitset,
    f.FUTEX_WAKE_BITSET: _wake_bitset,
    f.FUTEX_WAIT_REQUEUE_PI: _wait_requeue_pi,
    f.FUTEX_CMP_REQUEUE_PI: _cmp_requeue_pi,
    f.FUTEX_LOCK_PI2: _lock_pi2,
}
_CLOCK_CHOICE = frozenset((f.FUTEX_WAIT_BITSET, f.FUTEX_WAIT_REQUEUE_PI, f.FUTEX_LOCK_PI2))


def _signed(value: int) -> int:
    return (value ^ 1 << 31) - (1 << 31)


@syscall("futex_waitv")
def sys_futex_waitv(
    task: Task, waiters: WaitVector, nr_futexes: UInt, flags: UInt, timeout: Timeout, clockid: ClockId
) -> Result:
    """futex_waitv(2): sleep until any of several words is woken; the index of one that was."""
    if flags or not 0 < nr_futexes <= f.FUTEX_WAITV_MAX or not waiters:
        raise EINVAL("flags, or the number of futexes")
    deadline = _deadline(task, timeout, clockid)
    raw = task.mm.read(waiters, nr_futexes * f.FUTEX_WAITV.size)
    words = []
    for expected, uaddr, how, reserved in f.FUTEX_WAITV.iter_unpack(raw):
        if reserved or expected >> 32:
            raise EINVAL("a reserved field is set, or the value has more than 32 bits")
        words.append((uaddr, key_of(task.mm, uaddr, _is_shared(how)), expected))
    return wait_vector(task, words, deadline)


def _is_shared(flags: int) -> bool:
    if flags & ~(f.FUTEX2_SIZE_MASK | f.FUTEX2_PRIVATE) or flags & f.FUTEX2_SIZE_MASK != f.FUTEX2_SIZE_U32:
        raise EINVAL("only 32-bit futexes are supported")
    return not flags & f.FUTEX2_PRIVATE


def _deadline(task: Task, timeout: int, clockid: int) -> int | None:
    if not timeout:
        return None
    if clockid not in (CLOCK_MONOTONIC, CLOCK_REALTIME):
        raise EINVAL("clock")
    return task.kernel.clock.deadline_ns(clockid, read_timespec(task, timeout))  # type: ignore[no-any-return]
