"""The kernel log as user space reads it: syslog(2), what dmesg(1) and klogd(8) call.

Two readers share it: one takes lines as they come (SYSLOG_ACTION_READ), the other looks at all since the last clearing.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_SYS_ADMIN, CAP_SYSLOG
from trapline.abi.errno import EINVAL, EPERM
from trapline.kernel.syscalls.declare import Arg, Int, Result, UserPtr, syscall

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.task.task import Task

(
    CLOSE, OPEN, READ, READ_ALL, READ_CLEAR, CLEAR, CONSOLE_OFF, CONSOLE_ON, CONSOLE_LEVEL, SIZE_UNREAD, SIZE_BUFFER,
) = range(11)  # fmt: skip
BUFFER_SIZE = 1 << 18


@syscall("syslog")
def sys_syslog(
    task: Task, type: Annotated[int, Arg(-32, "enum:syslog")], bufp: UserPtr, length: Int
) -> Result:
    """syslog(2): read and clear the kernel log.

    The console level has nothing to act on: the log goes to whoever started the kernel, not to a console.
    """
    may = task.creds.has_cap(CAP_SYSLOG) or task.creds.has_cap(CAP_SYS_ADMIN)
    if type not in (READ_ALL, SIZE_BUFFER) and not may:
        raise EPERM
    kernel = task.kernel
    if type in (READ, READ_ALL, READ_CLEAR):
        if not bufp or length < 0:
            raise EINVAL
        if not length:
            return 0
        return _read(task, bufp, length) if type == READ else _read_all(task, bufp, length, type == READ_CLEAR)
    if type == CLEAR:
        kernel.log_cleared = _end(kernel)
    elif type == CONSOLE_LEVEL and not 1 <= length <= 8:
        raise EINVAL
    elif type == SIZE_UNREAD:
        return len(text(kernel, kernel.log_read)) - kernel.log_partial
    elif type == SIZE_BUFFER:
        return BUFFER_SIZE
    elif not CLOSE <= type <= CONSOLE_LEVEL:
        raise EINVAL
    return 0


def _end(kernel: Kernel) -> int:
    """The number of the next line; the first one of all is 0."""
    return kernel.log_dropped + len(kernel.log_lines)


def text(kernel: Kernel, first: int) -> bytes:
    """The lines from number `first` on that are still there."""
    lines = kernel.log_lines[max(0, first - kernel.log_dropped) :]
    return "".join(f"<{priority}>[{ns / 1e9:12.6f}] {line}\n" for ns, line, priority in lines).encode(errors="replace")


def _read_all(task: Task, bufp: int, length: int, clear: bool) -> int:
    """The last whole lines that fit, of those since the last clearing."""
    kernel = task.kernel
    found = text(kernel, kernel.log_cleared)
    if len(found) > length:
        found = found[-length - 1 :].partition(b"\n")[2]
    task.mm.write(bufp, found)
    if clear:
        kernel.log_cleared = _end(kernel)
    return len(found)


def _read(task: Task, bufp: int, length: int) -> Result:
    """What was not read yet; a line may be read in parts."""
    if task.kernel.log_read < _end(task.kernel):
        return _take(task, bufp, length)
    return _wait(task, bufp, length)


async def _wait(task: Task, bufp: int, length: int) -> int:
    kernel = task.kernel
    while kernel.log_read >= _end(kernel):
        await kernel.log_wait.wait()
    return _take(task, bufp, length)


def _take(task: Task, bufp: int, length: int) -> int:
    kernel = task.kernel
    if kernel.log_read < kernel.log_dropped:  # the line that was begun is gone
        kernel.log_read, kernel.log_partial = kernel.log_dropped, 0
    unread = text(kernel, kernel.log_read)[kernel.log_partial :]
    found = unread[:length]
    task.mm.write(bufp, found)
    rest = found.rpartition(b"\n")[2]
    kernel.log_read += found.count(b"\n")
    kernel.log_partial = len(rest) if b"\n" in found else kernel.log_partial + len(found)
    return len(found)
