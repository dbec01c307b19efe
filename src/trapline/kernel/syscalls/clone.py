"""Making tasks: fork, vfork, clone, clone3."""

from __future__ import annotations

import struct
from contextlib import suppress
from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import sched as c
from trapline.abi.capability import CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN
from trapline.abi.errno import E2BIG, EINVAL, EPERM, Errno
from trapline.abi.fcntl import O_RDWR
from trapline.abi.signal import NSIG, SIGCHLD
from trapline.kernel.ipc.pidfd import PidFile
from trapline.kernel.syscalls.declare import Arg, Result, Size, ULong, UserPtr, syscall
from trapline.kernel.task.clone import CloneArgs, check, clone_task

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.task.task import Task

CLONE_ARGS = struct.Struct("<11Q")
MIN_SIZE = 64
MAX_LEVELS = 32


@syscall("fork")
def sys_fork(task: Task) -> Result:
    """fork(2): create a child process."""
    return start(task, CloneArgs(exit_signal=SIGCHLD))


@syscall("vfork")
def sys_vfork(task: Task) -> Result:
    """vfork(2): create a child process and wait until it runs a program or ends."""
    return start(task, CloneArgs(flags=c.CLONE_VM | c.CLONE_VFORK, exit_signal=SIGCHLD))


@syscall("clone")
def sys_clone(
    task: Task,
    flags: Annotated[int, Arg(64, "flags:CLONE_FLAGS")],
    stack: UserPtr,
    parent_tid: UserPtr,
    child_tid: UserPtr,
    tls: ULong,
) -> Result:
    """clone(2): create a task that shares what `flags` says.

    Partial: namespaces are refused with EPERM.
    """
    flags &= 0xFFFFFFFF
    args = CloneArgs(flags & ~c.CSIGNAL, parent_tid, child_tid, parent_tid, flags & c.CSIGNAL, stack, tls)
    if flags & c.CLONE_PIDFD and flags & c.CLONE_PARENT_SETTID:
        raise EINVAL("clone cannot return both a pidfd and a tid through one pointer")
    return start(task, args)


@syscall("clone3")
def sys_clone3(task: Task, cl_args: Annotated[int, Arg(64, "struct:clone_args")], size: Size) -> Result:
    """clone3(2): as clone(2), with room for more.

    Partial: CLONE_INTO_CGROUP is refused with EINVAL, namespaces with EPERM.
    """
    if size > 4096:
        raise E2BIG
    if size < MIN_SIZE:
        raise EINVAL
    raw = task.mm.read(cl_args, size)
    if any(raw[CLONE_ARGS.size :]):
        raise E2BIG
    flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, _ = CLONE_ARGS.unpack(
        raw[: CLONE_ARGS.size].ljust(CLONE_ARGS.size, b"\0")
    )
    if flags & (c.CSIGNAL & ~c.CLONE_NEWTIME | c.CLONE_DETACHED) or flags >> 34 or exit_signal > NSIG:
        raise EINVAL
    if bool(stack) != bool(stack_size) or stack + stack_size > task.mm.task_size:
        raise EINVAL("stack and stack_size")
    if bool(set_tid) != bool(set_tid_size) or set_tid_size > MAX_LEVELS or flags & c.CLONE_INTO_CGROUP:
        raise EINVAL
    if flags & (c.CLONE_THREAD | c.CLONE_PARENT) and exit_signal:
        raise EINVAL("exit_signal")
    wanted = _wanted_tid(task, set_tid, set_tid_size) if set_tid_size else 0
    return start(task, CloneArgs(flags, pidfd, child_tid, parent_tid, exit_signal, stack + stack_size, tls, wanted))


def _wanted_tid(task: Task, address: int, count: int) -> int:
    """The number that the child is to have; there is one PID namespace, so one number."""
    raw = task.mm.read(address, 4 * count)
    tid = int.from_bytes(raw[:4], "little", signed=True)
    if count > 1 or not 1 <= tid < c.PID_MAX:
        raise EINVAL("set_tid")
    if not (task.creds.has_cap(CAP_CHECKPOINT_RESTORE) or task.creds.has_cap(CAP_SYS_ADMIN)):
        raise EPERM
    return tid


def start(task: Task, args: CloneArgs) -> Result:
    """Clone, report, and let the child run; a coroutine for CLONE_VFORK."""
    check(task, args)
    if args.flags & c.CLONE_PIDFD:
        task.mm.write_u32(args.pidfd, task.files.reserve())
    child = clone_task(task, args)
    if args.flags & c.CLONE_PIDFD:
        task.files.install(PidFile(task.kernel, child.group, O_RDWR), True)
    if args.flags & c.CLONE_PARENT_SETTID:
        _store_tid(task.mm, args.parent_tid, child.tid)
    if args.flags & c.CLONE_CHILD_SETTID:
        _store_tid(child.mm, args.child_tid, child.tid)
    task.kernel.enqueue(child)
    if args.flags & c.CLONE_VFORK:
        return _wait_for_vfork(child)
    if not args.flags & c.CLONE_VM:
        task.kernel.newborn = child
    return child.tid


def _store_tid(mm: AddressSpace, address: int, tid: int) -> None:
    """A bad address does not keep the child from being born."""
    with suppress(Errno):
        mm.write_u32(address, tid)


async def _wait_for_vfork(child: Task) -> int:
    """The parent of vfork(2) sleeps, deaf to all but its own death, until the child has left its memory."""
    tid, done = child.tid, child.vfork_done
    while child.vfork_done is not None and done is not None:
        await done.wait(interruptible=False)
    return tid


