"""Processes by descriptor: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EBADF, EINVAL, EPERM, ESRCH
from trapline.abi.fcntl import O_NONBLOCK, O_RDWR
from trapline.abi.signal import SI_TKILL, SI_USER, SIGINFO_SIZE
from trapline.kernel.fs.proc.taskdir import TaskDir
from trapline.kernel.ipc.pidfd import PidFile, group_of_pidfd
from trapline.kernel.syscalls.declare import Arg, Fd, Pid, Signal, UInt, syscall
from trapline.kernel.syscalls.eventfd import install_new
from trapline.kernel.syscalls.kill import SiginfoIn, signal_group
from trapline.kernel.task.access import may_access
from trapline.kernel.task.signals.siginfo import SigInfo, from_user
from trapline.kernel.task.task import DEAD

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup


@syscall("pidfd_open", returns="fd")
def sys_pidfd_open(task: Task, pid: Pid, flags: Annotated[int, Arg(32, "flags:pidfd")]) -> int:
    """pidfd_open(2): a descriptor that stands for a process."""
    if flags & ~O_NONBLOCK or pid <= 0:
        raise EINVAL
    group = task.kernel.groups.get(pid)
    if group is None:
        if pid in task.kernel.tasks:
            raise EINVAL("a thread that leads no process")
        raise ESRCH
    return install_new(task, PidFile(task.kernel, group, O_RDWR | flags), True)


@syscall("pidfd_send_signal")
def sys_pidfd_send_signal(task: Task, pidfd: Fd, sig: Signal, info: SiginfoIn, flags: UInt) -> int:
    """pidfd_send_signal(2): send a signal to the process of a pidfd, or of an open directory /proc/PID."""
    if flags:
        raise EINVAL
    group = _signalled(task, pidfd)
    what = _given(task, info, sig, group) if info else SigInfo(sig, SI_USER, pid=task.group.pid, uid=task.creds.uid)
    if task.kernel.groups.get(group.pid) is not group:
        raise ESRCH("reaped")
    signal_group(task, group, what)
    return 0


def _given(task: Task, address: int, signo: int, target: ThreadGroup) -> SigInfo:
    """The siginfo_t at `address`; only to itself may a process send codes that say the kernel or kill(2) sent it."""
    raw = task.mm.read(address, SIGINFO_SIZE)
    if int.from_bytes(raw[:4], "little", signed=True) != signo:
        raise EINVAL("si_signo is another signal")
    info = from_user(raw, signo)
    if (info.code >= 0 or info.code == SI_TKILL) and target is not task.group:
        raise EPERM("si_code is the kernel's")
    return info


def _signalled(task: Task, pidfd: int) -> ThreadGroup:
    file = task.files.get(pidfd)
    inode = file.inode
    if isinstance(inode, TaskDir) and inode.whole:
        group: ThreadGroup = inode.task.group
        return group
    found: ThreadGroup = group_of_pidfd(file)
    return found


@syscall("pidfd_getfd", returns="fd")
def sys_pidfd_getfd(task: Task, pidfd: Fd, targetfd: Fd, flags: UInt) -> int:
    """pidfd_getfd(2): a copy of a descriptor of another process."""
    if flags:
        raise EINVAL
    group = group_of_pidfd(task.files.get(pidfd))
    target = group.leader
    if target.state == DEAD or target.mm is None:
        raise ESRCH
    if not may_access(task, target):
        raise EPERM
    if targetfd < 0:
        raise EBADF
    return install_new(task, target.files.get_any(targetfd).get(), True)
