"""Times in user memory: reading timespec and timeval structures, checked, as nanoseconds, and writing them."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi.errno import EINVAL
from trapline.abi.time import NSEC, TIME_MAX_NS, TIMESPEC, TIMEVAL

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task


def timespec_ns(seconds: int, nanoseconds: int) -> int:
    """A timespec as nanoseconds, at most TIME_MAX_NS. Raises EINVAL."""
    if seconds < 0 or not 0 <= nanoseconds < NSEC:
        raise EINVAL("timespec out of range")
    return min(seconds * NSEC + nanoseconds, TIME_MAX_NS)


def timeval_ns(seconds: int, microseconds: int) -> int:
    """A timeval as nanoseconds, at most TIME_MAX_NS. Raises EINVAL."""
    if seconds < 0 or not 0 <= microseconds < 1_000_000:
        raise EINVAL("timeval out of range")
    return min(seconds * NSEC + microseconds * 1000, TIME_MAX_NS)


def read_timespec(task: Task, address: int) -> int:
    """The timespec at `address`, in nanoseconds. Raises EFAULT, EINVAL."""
    return timespec_ns(*TIMESPEC.unpack(task.mm.read(address, 16)))


def write_timespec(task: Task, address: int, ns: int) -> None:
    task.mm.write(address, TIMESPEC.pack(ns // NSEC, ns % NSEC))


def pack_timeval(ns: int) -> bytes:
    return TIMEVAL.pack(ns // NSEC, ns % NSEC // 1000)


def after(now_ns: int, delay_ns: int) -> int:
    """A deadline `delay_ns` from now that no addition takes beyond TIME_MAX_NS."""
    return min(now_ns + delay_ns, TIME_MAX_NS)
