"""seccomp(2): give up system calls."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import seccomp as s
from trapline.abi.capability import CAP_SYS_ADMIN
from trapline.abi.errno import EINVAL, EOPNOTSUPP
from trapline.kernel.bpf import classic
from trapline.kernel.security import seccomp
from trapline.kernel.security.notify import NotifyFile
from trapline.kernel.syscalls.declare import Arg, UserPtr, syscall

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

Operation = Annotated[int, Arg(32, "enum:seccomp_op")]
Flags = Annotated[int, Arg(32, "flags:seccomp")]
_FLAGS = (
    s.SECCOMP_FILTER_FLAG_TSYNC | s.SECCOMP_FILTER_FLAG_LOG | s.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    | s.SECCOMP_FILTER_FLAG_NEW_LISTENER | s.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
    | s.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
)  # fmt: skip


@syscall("seccomp")
def sys_seccomp(task: Task, operation: Operation, flags: Flags, args: UserPtr) -> int:
    """seccomp(2): restrict the caller to four calls, or to what a filter allows.

    Partial: nobody traces, so SECCOMP_RET_TRACE makes a call fail with ENOSYS.
    """
    if operation == s.SECCOMP_SET_MODE_STRICT:
        if flags or args:
            raise EINVAL
        seccomp.set_strict(task)
        return 0
    if operation == s.SECCOMP_SET_MODE_FILTER:
        return set_filter(task, flags, args)
    if operation == s.SECCOMP_GET_ACTION_AVAIL:
        if flags:
            raise EINVAL
        if not seccomp.available(task.mm.read_u32(args)):
            raise EOPNOTSUPP
        return 0
    if operation == s.SECCOMP_GET_NOTIF_SIZES:
        if flags:
            raise EINVAL
        sizes = s.SECCOMP_NOTIF.size, s.SECCOMP_NOTIF_RESP.size, s.SECCOMP_DATA.size
        task.mm.write(args, s.SECCOMP_NOTIF_SIZES.pack(*sizes))
        return 0
    raise EINVAL("no such operation")


def set_filter(task: Task, flags: int, address: int) -> int:
    """SECCOMP_SET_MODE_FILTER with a struct sock_fprog in user memory."""
    listens = flags & s.SECCOMP_FILTER_FLAG_NEW_LISTENER
    if flags & ~_FLAGS or (listens and flags & s.SECCOMP_FILTER_FLAG_TSYNC and not flags & s.SECCOMP_FILTER_FLAG_TSYNC_ESRCH):
        raise EINVAL
    killable = flags & s.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    if killable and not listens:
        raise EINVAL("nobody would receive")
    length, start = s.SOCK_FPROG.unpack(task.mm.read(address, s.SOCK_FPROG.size))
    if not 0 < length <= s.BPF_MAXINSNS:
        raise EINVAL
    seccomp.may_filter(task, task.creds.has_cap(CAP_SYS_ADMIN))
    raw = task.mm.read(start, length * s.SOCK_FILTER.size)
    program = list(s.SOCK_FILTER.iter_unpack(raw))
    classic.check(program, seccomp.DATA_WORDS)
    if not listens:
        return seccomp.set_filter(task, program, flags)
    task.files.reserve()
    listener = NotifyFile(task.kernel, bool(killable))
    seccomp.set_filter(task, program, flags, listener)
    return task.files.install(listener, True)
