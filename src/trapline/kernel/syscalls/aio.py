"""Linux asynchronous I/O: io_setup(2), io_destroy(2), io_submit(2), io_cancel(2), io_getevents(2).

Reading, writing and syncing are done while they are submitted, as Linux does for files in its page cache: their completions
wait in the ring when io_submit(2) returns. Only IOCB_CMD_POLL stays in flight.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated, NamedTuple

from trapline.abi import aio
from trapline.abi.errno import EAGAIN, EBADF, EFAULT, EINPROGRESS, EINTR, EINVAL, EOPNOTSUPP, ESPIPE, Errno
from trapline.abi.rw import RWF_APPEND, RWF_DSYNC, RWF_NOWAIT, RWF_SUPPORTED, RWF_SYNC
from trapline.abi.signal import SIGSET_SIZE
from trapline.kernel.ipc.aio import AioRing, PollRequest, find_ring
from trapline.kernel.ipc.eventfd import EventFd
from trapline.kernel.sync.park import RESTART_NOHAND, Interrupted
from trapline.kernel.syscalls.declare import Arg, Long, Result, UInt, UserPtr, syscall
from trapline.kernel.syscalls.iovec import many, one
from trapline.kernel.syscalls.timearg import after, read_timespec
from trapline.kernel.syscalls.transfer import Transfer, read_user, write_user
from trapline.kernel.task.signals.mask import set_temporary

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.syscalls.iovec import UserBuffer
    from trapline.kernel.task.task import Task

Timeout = Annotated[int, Arg(64, "struct:timespec")]
_READS = aio.IOCB_CMD_PREAD, aio.IOCB_CMD_PREADV
_WRITES = aio.IOCB_CMD_PWRITE, aio.IOCB_CMD_PWRITEV
_SYNCS = aio.IOCB_CMD_FSYNC, aio.IOCB_CMD_FDSYNC


class Iocb(NamedTuple):
    """struct iocb, copied once."""

    data: int
    key: int
    rw_flags: int
    opcode: int
    reqprio: int
    fd: int
    buf: int
    nbytes: int
    offset: int
    reserved: int
    flags: int
    resfd: int


@syscall("io_setup")
def sys_io_setup(task: Task, nr_events: UInt, ctxp: UserPtr) -> int:
    """io_setup(2): make a context for asynchronous I/O."""
    if task.mm.read_u64(ctxp) or not nr_events or 2 * nr_events > aio.MAX_EVENTS:
        raise EINVAL
    space = task.kernel.ipc
    if space.aio_events + nr_events > space.aio_max:
        raise EAGAIN("aio-max-nr")
    ring = AioRing(task.kernel, task.mm, nr_events)
    where = ring.map()
    try:
        task.mm.write_u64(ctxp, where)
    except EFAULT:
        task.mm.munmap(where, ring.cache.size)
        raise
    return 0


@syscall("io_destroy")
def sys_io_destroy(task: Task, ctx: UserPtr) -> int:
    """io_destroy(2): end a context; what is in flight is cancelled."""
    ring = find_ring(task, ctx)
    ring.kill()
    task.mm.munmap(ctx, ring.cache.size)
    return 0


# ---- submitting


@syscall("io_submit")
def sys_io_submit(task: Task, ctx: UserPtr, nr: Long, iocbpp: UserPtr) -> Result:
    """io_submit(2): do, or start, a list of operations; how many were taken."""
    if nr < 0:
        raise EINVAL
    ring = find_ring(task, ctx)
    return _submit_all(task, ring, min(nr, ring.slots), iocbpp)


async def _submit_all(task: Task, ring: AioRing, count: int, pointers: int) -> int:
    done = 0
    try:
        while done < count:
            await _submit(task, ring, task.mm.read_u64(pointers + 8 * done))
            done += 1
    except Errno:
        if not done:
            raise
    return done


async def _submit(task: Task, ring: AioRing, address: int) -> None:
    """Take one operation; raises what io_submit(2) fails with, its own result goes to the ring."""
    iocb = Iocb(*aio.IOCB.unpack(task.mm.read(address, aio.IOCB.size)))
    if iocb.reserved or iocb.nbytes >> 63:
        raise EINVAL
    ring.check_room()
    file = task.files.get(iocb.fd)
    eventfd = _eventfd(task, iocb)
    file.get()
    ring.under_way += 1
    try:
        task.mm.write_u32(address + aio.IOCB_KEY_OFFSET, 0)
        if iocb.opcode == aio.IOCB_CMD_POLL:
            _poll(ring, task, file, address, iocb, eventfd)
        else:
            result = await _perform(task, file, iocb)
            ring.complete(address, iocb.data, result, eventfd)
    except BaseException:
        if eventfd is not None:
            eventfd.put()
        raise
    finally:
        ring.under_way -= 1
        file.put()


def _eventfd(task: Task, iocb: Iocb) -> EventFd | None:
    """The eventfd(2) that hears of the completion, with a reference of our own."""
    if not iocb.flags & aio.IOCB_FLAG_RESFD:
        return None
    file = task.files.get((iocb.resfd ^ 0x8000_0000) - 0x8000_0000)
    if not isinstance(file, EventFd):
        raise EINVAL("not an eventfd")
    file.get()
    return file


def _poll(ring: AioRing, task: Task, file: File, address: int, iocb: Iocb, eventfd: EventFd | None) -> None:
    if iocb.buf >> 16 or iocb.offset or iocb.nbytes or iocb.rw_flags or address in ring.active:
        raise EINVAL
    request = PollRequest(ring, task, file, address, iocb.data, iocb.buf, eventfd)
    found = request.ready()
    if found:
        request.finish(found)


async def _perform(task: Task, file: File, iocb: Iocb) -> int:
    """The result of an operation: bytes, or a negative errno. Raises what its submission fails with."""
    if iocb.opcode in _SYNCS:
        if iocb.buf or iocb.offset or iocb.nbytes or iocb.rw_flags:
            raise EINVAL
        return _sync(file, iocb.opcode == aio.IOCB_CMD_FDSYNC)
    if iocb.opcode not in _READS + _WRITES:
        raise EINVAL("no such command")
    if iocb.rw_flags & ~RWF_SUPPORTED:
        raise EOPNOTSUPP
    if not (file.readable if iocb.opcode in _READS else file.writable):
        raise EBADF
    if iocb.opcode in (aio.IOCB_CMD_PREADV, aio.IOCB_CMD_PWRITEV):
        user = many(task.mm, iocb.buf, iocb.nbytes)
    else:
        user = one(task.mm, iocb.buf, iocb.nbytes)
    if iocb.offset < 0:
        raise EINVAL
    try:
        transfer = _start(task, file, iocb, user)
        result = transfer if isinstance(transfer, int) else await transfer
        if iocb.opcode in _WRITES and iocb.rw_flags & (RWF_DSYNC | RWF_SYNC):
            file.fsync(not iocb.rw_flags & RWF_SYNC)
    except Errno as error:
        return -error.number
    except Interrupted:
        return -EINTR.number
    return result


def _start(task: Task, file: File, iocb: Iocb, user: UserBuffer) -> Transfer:
    where: int | None = iocb.offset
    try:
        file.try_pread(0, 0)
    except ESPIPE:
        where = None  # a stream: the offset means nothing
    nowait = bool(iocb.rw_flags & RWF_NOWAIT)
    if iocb.opcode in _READS:
        return read_user(task, file, user, where, nonblock=nowait)
    if iocb.rw_flags & RWF_APPEND and file.page_cache is not None:
        where = file.page_cache.size
    return write_user(task, file, user, where, nonblock=nowait)


def _sync(file: File, datasync: bool) -> int:
    try:
        file.fsync(datasync)
    except EINVAL:
        raise  # a file that cannot be synced is refused
    except Errno as error:
        return -error.number
    return 0


@syscall("io_cancel")
def sys_io_cancel(task: Task, ctx: UserPtr, iocb: UserPtr, result: UserPtr) -> int:
    """io_cancel(2): cancel an operation in flight; its event says so (EINPROGRESS, as Linux since 4.19 answers)."""
    if task.mm.read_u32(iocb + aio.IOCB_KEY_OFFSET):
        raise EINVAL("not submitted")
    request = find_ring(task, ctx).active.get(iocb)
    if request is None:
        raise EINVAL("not in flight")
    request.finish(0)
    raise EINPROGRESS


# ---- taking events


@syscall("io_getevents")
def sys_io_getevents(
    task: Task, ctx: UserPtr, min_nr: Long, nr: Long, events: UserPtr, timeout: Timeout
) -> Result:
    """io_getevents(2): take completed events, waiting for at least so many."""
    return _get_events(task, ctx, (min_nr, nr), events, timeout)


@syscall("io_pgetevents")
def sys_io_pgetevents(
    task: Task, ctx: UserPtr, min_nr: Long, nr: Long, events: UserPtr, timeout: Timeout, usig: UserPtr
) -> Result:
    """io_pgetevents(2): io_getevents(2) with a temporary signal mask."""
    if usig:
        address, size = aio.AIO_SIGSET.unpack(task.mm.read(usig, aio.AIO_SIGSET.size))
        if address:
            if size != SIGSET_SIZE:
                raise EINVAL
            set_temporary(task, task.mm.read_u64(address))
    return _get_events(task, ctx, (min_nr, nr), events, timeout)


def _get_events(task: Task, ctx: int, bounds: tuple[int, int], events: int, timeout: int) -> Result:
    deadline = None
    if timeout:
        deadline = after(task.kernel.clock.monotonic_ns(), read_timespec(task, timeout))
    ring = find_ring(task, ctx)
    least, most = bounds
    if not 0 <= least <= most:
        raise EINVAL
    done = _take(task, ring, most, events)
    if done >= least:
        return done
    return _take_waiting(task, ring, bounds, events, done, deadline)


def _take(task: Task, ring: AioRing, most: int, address: int) -> int:
    """Copy events that are there; how many. Raises EFAULT if none could be copied."""
    done = 0
    while done < most:
        raw = ring.peek(most - done)
        if not raw:
            break
        count = len(raw) // aio.IO_EVENT.size
        try:
            task.mm.write(address + done * aio.IO_EVENT.size, raw)
        except EFAULT:
            if not done:
                raise
            break
        ring.taken(count)
        done += count
    return done


async def _take_waiting(
    task: Task, ring: AioRing, bounds: tuple[int, int], address: int, done: int, deadline: int | None
) -> int:
    least, most = bounds
    try:
        while done < least:
            in_time = await ring.queue.wait(deadline, restart=RESTART_NOHAND)
            if ring.dead:  # after sleep: somebody may have ended it
                raise EINVAL("the context is gone")
            done += _take(task, ring, most - done, address + done * aio.IO_EVENT.size)
            if not in_time:
                break
    except (Errno, Interrupted) as stop:
        if done:
            return done
        if isinstance(stop, Interrupted):
            raise EINTR from None
        raise
    return done
