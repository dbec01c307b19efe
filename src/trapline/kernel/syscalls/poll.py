"""poll(2), ppoll(2), select(2), pselect6(2): waiting for any of several descriptors."""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import TYPE_CHECKING, Annotated, Any

from trapline.abi.errno import EFAULT, EINTR, EINVAL
from trapline.abi.personality import STICKY_TIMEOUTS
from trapline.abi.poll import (
    POLLERR,
    POLLEX_SET,
    POLLFD,
    POLLHUP,
    POLLIN_SET,
    POLLNVAL,
    POLLOUT_SET,
)
from trapline.abi.time import NSEC, TIMESPEC, TIMEVAL
from trapline.kernel.fs.special import SpecialFile
from trapline.kernel.sync.park import (
    RESTART_BLOCK,
    RESTART_NOHAND,
    Interrupted,
    sleep_until,
    wait_any,
)
from trapline.kernel.syscalls.declare import Arg, Int, Result, Size, UserPtr, syscall
from trapline.kernel.syscalls.pollarray import SLICE, LongPoll, file_events, lookup
from trapline.kernel.syscalls.timearg import after, timespec_ns
from trapline.kernel.task.signals.mask import set_temporary

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.sync.park import WaitQueue
    from trapline.kernel.task.task import Task

NFds = Annotated[int, Arg(32, "udec")]
PollFds = Annotated[int, Arg(64, "struct:pollfd")]
FdSet = Annotated[int, Arg(64, "struct:fd_set")]
TimeSpec = Annotated[int, Arg(64, "struct:timespec")]
TimeVal = Annotated[int, Arg(64, "struct:timeval")]
SigSet = Annotated[int, Arg(64, "struct:sigset")]




async def wait_files(task: Task, watched: list[tuple[File, int]], deadline: int | None, restart: int) -> bool:
    """Sleep until any of the files may have changed. False: the deadline passed."""
    queues: list[WaitQueue] = []
    for file, _ in watched:
        queues += file.queues_as(task) if isinstance(file, SpecialFile) else file.poll_queues()
    if not queues:
        await sleep_until(deadline, restart=restart)
        return False
    return await wait_any(queues, deadline, restart=restart)


async def wait_ready(
    task: Task, watched: list[tuple[File, int]], check: Callable[[], int], deadline: int | None, restart: int
) -> int:
    """Sleep until `check` counts something or the deadline passes: its count. Raises Interrupted."""
    for file, _ in watched:
        file.get()
    try:
        while True:
            woken = await wait_files(task, watched, deadline, restart)
            count = check()
            if count or not woken:
                return count
    finally:
        for file, _ in watched:
            file.put()


# ---- poll(2)


class _Poll:
    """One array of struct pollfd, copied once."""

    def __init__(self, task: Task, address: int, count: int) -> None:
        self.task = task
        self.address = address
        raw = task.mm.read(address, count * POLLFD.size) if count else b""
        self.entries = list(POLLFD.iter_unpack(raw))
        self.watched: list[tuple[File, int]] = []
        self.files: list[File | None] = []
        for fd, events, _ in self.entries:
            file = lookup(task, fd) if fd >= 0 else None
            self.files.append(file)
            if file is not None:
                self.watched.append((file, events))
        self.revents = [0] * count

    def check(self) -> int:
        """Fill in `revents`; how many are not zero."""
        found = 0
        task = self.task
        for index, (fd, events, _) in enumerate(self.entries):
            file = self.files[index]
            if file is None:
                ready = POLLNVAL if fd >= 0 else 0
            else:
                ready = file_events(task, file) & (events | POLLERR | POLLHUP) & 0xFFFF
            self.revents[index] = ready
            if ready:
                found += 1
        return found

    def store(self) -> None:
        raw = b"".join(
            [POLLFD.pack(fd, events, _short(self.revents[i])) for i, (fd, events, _) in enumerate(self.entries)]
        )
        if raw:
            self.task.mm.write(self.address, raw)


def _short(value: int) -> int:
    return value - 0x10000 if value & 0x8000 else value


@syscall("poll")
def sys_poll(task: Task, fds: PollFds, nfds: NFds, timeout: Int) -> Result:
    """poll(2): wait for some event on a file descriptor."""
    poll = _new_poll(task, fds, nfds)
    if isinstance(poll, LongPoll):
        now = task.kernel.clock.monotonic_ns()
        return _poll_long(poll, timeout == 0, after(now, timeout * 1_000_000) if timeout > 0 else None)
    found = poll.check()
    if found or timeout == 0:
        poll.store()
        return found
    now = task.kernel.clock.monotonic_ns()
    return _poll_waiting(poll, None if timeout < 0 else after(now, timeout * 1_000_000))


def _new_poll(task: Task, address: int, count: int) -> _Poll | LongPoll:
    if count > task.files.limit:
        raise EINVAL
    return _Poll(task, address, count) if count <= SLICE else LongPoll(task, address, count)


async def _poll_waiting(poll: _Poll, deadline: int | None) -> int:
    try:
        found = await wait_ready(poll.task, poll.watched, poll.check, deadline, RESTART_BLOCK)
    except Interrupted:
        raise _restart(poll.address, len(poll.entries), deadline) from None
    poll.store()
    return found


async def _poll_long(poll: LongPoll, only_look: bool, deadline: int | None) -> int:
    try:
        await poll.look()
        if not await poll.check() and not only_look:
            await poll.wait(deadline, RESTART_BLOCK)
        return await poll.store()
    except Interrupted:
        raise _restart(poll.address, poll.count, deadline) from None
    finally:
        poll.let_go()


def _restart(address: int, count: int, deadline: int | None) -> Interrupted:
    """The same call, with what is left of its time-out."""

    def again(task: Task) -> Result:
        poll = _new_poll(task, address, count)
        if isinstance(poll, LongPoll):
            return _poll_long(poll, False, deadline)
        found = poll.check()
        if found:
            poll.store()
            return found
        return _poll_waiting(poll, deadline)

    return Interrupted(RESTART_BLOCK, again)


@syscall("ppoll")
def sys_ppoll(task: Task, fds: PollFds, nfds: NFds, tmo: TimeSpec, sigmask: SigSet, sigsetsize: Size) -> Result:
    """ppoll(2): poll with a precise time-out, which is updated, and a temporary signal mask."""
    left = _Timeout(task, tmo, TIMESPEC)
    _use_mask(task, sigmask, sigsetsize)
    poll = _new_poll(task, fds, nfds)
    return _until_long(poll, left) if isinstance(poll, LongPoll) else _until(poll, left)


def _use_mask(task: Task, address: int, size: int) -> None:
    """The temporary signal mask of a call, if it has one. EINVAL, EFAULT."""
    if not address:
        return
    if size != 8:
        raise EINVAL
    set_temporary(task, task.mm.read_u64(address))


class _Timeout:
    """A time-out in user memory, and writing back what is left of it."""

    def __init__(self, task: Task, address: int, layout: Any) -> None:
        self.task = task
        self.address = address
        self.layout = layout
        self.deadline: int | None = None
        self.length = -1
        if address:
            seconds, fraction = layout.unpack(task.mm.read(address, 16))
            if layout is _TIMEVAL:
                if seconds < 0 or fraction < 0:
                    raise EINVAL
                seconds, fraction = seconds + fraction // 1_000_000, fraction % 1_000_000 * 1000
            self.length = timespec_ns(seconds, fraction)
            self.deadline = after(task.kernel.clock.monotonic_ns(), self.length)

    def is_zero(self) -> bool:
        return self.length == 0

    def store(self) -> bool:
        """False when user memory cannot take it, as where a program keeps its time-out in read-only memory, or is not to."""
        if self.deadline is None:
            return True
        if self.task.personality & STICKY_TIMEOUTS:
            return False
        left = max(0, self.deadline - self.task.kernel.clock.monotonic_ns()) if self.length else 0
        unit = 1000 if self.layout is _TIMEVAL else 1
        try:
            self.task.mm.write(self.address, self.layout.pack(left // NSEC, left % NSEC // unit))
        except EFAULT:
            return False
        return True

    def interrupted(self, stop: Interrupted) -> BaseException:
        """A restart would begin with the time-out in memory: without it there, there is none."""
        return stop if self.store() else EINTR()


class _TimevalLayout:
    """struct timeval; its own object, so that it can be told from struct timespec."""

    unpack = TIMEVAL.unpack
    pack = TIMEVAL.pack


_TIMEVAL = _TimevalLayout


# ---- select(2)


class _Select:
    """Three sets of descriptors, copied once."""

    def __init__(self, task: Task, count: int, addresses: tuple[int, int, int]) -> None:
        if count < 0:
            raise EINVAL
        fds = task.files.fds()
        table = max(64, (fds[-1] if fds else 0) + 64 & -64)
        self.size = ((min(count, table) + 63) >> 6) * 8
        self.task = task
        self.addresses = addresses
        mask = (1 << min(count, table)) - 1
        wanted = [
            int.from_bytes(task.mm.read(address, self.size), "little") & mask if address and self.size else 0
            for address in addresses
        ]
        self.raw = [bits.to_bytes(self.size, "little") for bits in wanted]
        any_of = (wanted[0] | wanted[1] | wanted[2]).to_bytes(self.size, "little")
        self.places = [(at, 1 << bit) for at, byte in enumerate(any_of) if byte for bit in range(8) if byte >> bit & 1]
        self.watched = [(task.files.get(at * 8 + mask.bit_length() - 1), 0) for at, mask in self.places]
        self.found = [bytearray(self.size) for _ in range(3)]

    def check(self) -> int:
        found = self.found = [bytearray(self.size) for _ in range(3)]
        count = 0
        for (file, _), (at, mask) in zip(self.watched, self.places, strict=True):
            events = file_events(self.task, file)
            for index, interest in enumerate(_INTERESTS):
                if events & interest and self.raw[index][at] & mask:
                    found[index][at] |= mask
                    count += 1
        return count

    def store(self) -> None:
        for address, bits in zip(self.addresses, self.found, strict=True):
            if address and self.size:
                self.task.mm.write(address, bytes(bits))


_INTERESTS = (POLLIN_SET, POLLOUT_SET, POLLEX_SET)


@syscall("select")
def sys_select(task: Task, nfds: Int, readfds: FdSet, writefds: FdSet, exceptfds: FdSet, timeout: TimeVal) -> Result:
    """select(2): wait until a descriptor of three sets is ready; the time-out is updated."""
    left = _Timeout(task, timeout, _TIMEVAL)
    return _until(_Select(task, nfds, (readfds, writefds, exceptfds)), left)


@syscall("pselect6")
def sys_pselect6(
    task: Task, nfds: Int, readfds: FdSet, writefds: FdSet, exceptfds: FdSet, timeout: TimeSpec, sigmask: UserPtr
) -> Result:
    """pselect(2): select with a precise time-out and a temporary signal mask."""
    address = size = 0
    if sigmask:
        address, size = task.mm.read_u64(sigmask), task.mm.read_u64(sigmask + 8)
    left = _Timeout(task, timeout, TIMESPEC)
    _use_mask(task, address, size)
    return _until(_Select(task, nfds, (readfds, writefds, exceptfds)), left)


# ---- both, with a time-out that is updated


def _until(call: _Poll | _Select, left: _Timeout) -> Result:
    found = call.check()
    if found or left.is_zero():
        call.store()
        left.store()
        return found
    return _waiting(call, left)


async def _waiting(call: _Poll | _Select, left: _Timeout) -> int:
    try:
        found = await wait_ready(call.task, call.watched, call.check, left.deadline, RESTART_NOHAND)
    except Interrupted as stop:
        raise left.interrupted(stop) from None
    call.store()
    left.store()
    return found


async def _until_long(call: LongPoll, left: _Timeout) -> int:
    try:
        await call.look()
        if not await call.check() and not left.is_zero():
            await call.wait(left.deadline, RESTART_NOHAND)
        found = await call.store()
        left.store()
        return found
    except Interrupted as stop:
        raise left.interrupted(stop) from None
    finally:
        call.let_go()
