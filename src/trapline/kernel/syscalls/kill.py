"""Sending signals: kill(2), tkill(2), tgkill(2), rt_sigqueueinfo(2), rt_tgsigqueueinfo(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EINVAL, EPERM, ESRCH
from trapline.abi.signal import NSIG, SI_TKILL, SI_USER, SIGINFO_SIZE
from trapline.kernel.syscalls.declare import Arg, Pid, Signal, syscall
from trapline.kernel.task.signals.send import may_signal, send_to_group, send_to_task
from trapline.kernel.task.signals.siginfo import SigInfo, from_user

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task, ThreadGroup

SiginfoIn = Annotated[int, Arg(64, "struct:siginfo")]
INIT_PID = 1
_INT_MIN = -1 << 31


def find_group(task: Task, pid: int) -> ThreadGroup:
    """The process `pid`, which may also be the number of one of its threads. Raises ESRCH."""
    group = task.kernel.groups.get(pid)
    if group is None:
        thread = task.kernel.tasks.get(pid)
        if thread is None:
            raise ESRCH("no such process")
        group = thread.group
    return group


def check_permission(task: Task, target: ThreadGroup, signo: int) -> None:
    """Raises EINVAL (no such signal) or EPERM."""
    if not 0 <= signo <= NSIG:
        raise EINVAL("signal number")
    if not may_signal(task, target, signo):
        raise EPERM("not the target's user")


def signal_group(task: Task, group: ThreadGroup, info: SigInfo) -> None:
    """Send after checking permission; signal 0 only checks."""
    check_permission(task, group, info.signo)
    if info.signo:
        send_to_group(group, info)


@syscall("kill")
def sys_kill(task: Task, pid: Pid, sig: Signal) -> int:
    """kill(2): send a signal to a process, a process group (0 or below -1), or everybody (-1)."""
    info = SigInfo(sig, SI_USER, pid=task.group.pid, uid=task.creds.uid)
    if pid > 0:
        signal_group(task, find_group(task, pid), info)
        return 0
    if pid == _INT_MIN:
        raise ESRCH("no such process group")
    if pid == -1:
        _kill_all(task, info)
        return 0
    pgid = -pid if pid else task.group.pgid
    _kill_many(task, info, task.kernel.each_group(lambda each: each.pgid == pgid))
    return 0


def _kill_many(task: Task, info: SigInfo, groups: list[ThreadGroup]) -> None:
    """One success is enough; without any, the last error counts."""
    error: BaseException = ESRCH("no such process group")
    success = False
    for group in groups:
        try:
            signal_group(task, group, info)
            success = True
        except (EINVAL, EPERM) as failure:
            error = failure
    if not success:
        raise error


def _kill_all(task: Task, info: SigInfo) -> None:
    """Everybody but init and the caller's own process; who may not be signalled is passed over."""
    groups = task.kernel.each_group(lambda each: each.pid != INIT_PID and each is not task.group)
    if not groups:
        raise ESRCH("nobody else is there")
    for group in groups:
        try:
            signal_group(task, group, info)
        except EPERM:
            continue


@syscall("tkill")
def sys_tkill(task: Task, tid: Pid, sig: Signal) -> int:
    """tkill(2): send a signal to a thread."""
    if tid <= 0:
        raise EINVAL("tid")
    _signal_thread(task, -1, tid, _tkill_info(task, sig))
    return 0


@syscall("tgkill")
def sys_tgkill(task: Task, tgid: Pid, tid: Pid, sig: Signal) -> int:
    """tgkill(2): send a signal to a thread of a given process."""
    if tid <= 0 or tgid <= 0:
        raise EINVAL("tid")
    _signal_thread(task, tgid, tid, _tkill_info(task, sig))
    return 0


def _tkill_info(task: Task, sig: int) -> SigInfo:
    return SigInfo(sig, SI_TKILL, pid=task.group.pid, uid=task.creds.uid)


def _signal_thread(task: Task, tgid: int, tid: int, info: SigInfo) -> None:
    target = task.kernel.tasks.get(tid)
    if target is None and tid == INIT_PID and tgid in (-1, INIT_PID):
        signal_group(task, task.kernel.init, info)
        return
    if target is None or (tgid > 0 and target.group.pid != tgid):
        raise ESRCH("no such thread")
    check_permission(task, target.group, info.signo)
    if info.signo:
        send_to_task(target, info)


@syscall("rt_sigqueueinfo")
def sys_rt_sigqueueinfo(task: Task, tgid: Pid, sig: Signal, uinfo: SiginfoIn) -> int:
    """rt_sigqueueinfo(2): send a signal with data to a process."""
    info = read_info(task, uinfo, sig)
    check_forgery(task, info, tgid)
    signal_group(task, find_group(task, tgid), info)
    return 0


@syscall("rt_tgsigqueueinfo")
def sys_rt_tgsigqueueinfo(task: Task, tgid: Pid, tid: Pid, sig: Signal, uinfo: SiginfoIn) -> int:
    """rt_tgsigqueueinfo(2): send a signal with data to a thread of a given process."""
    info = read_info(task, uinfo, sig)
    if tid <= 0 or tgid <= 0:
        raise EINVAL("tid")
    check_forgery(task, info, tid)
    _signal_thread(task, tgid, tid, info)
    return 0


def read_info(task: Task, address: int, signo: int) -> SigInfo:
    """The siginfo_t at `address`, as signal `signo`."""
    return from_user(task.mm.read(address, SIGINFO_SIZE), signo)


def check_forgery(task: Task, info: SigInfo, pid: int) -> None:
    """Codes that say the kernel, kill(2) or tgkill(2) sent the signal may only be sent to oneself. Raises EPERM."""
    if (info.code >= 0 or info.code == SI_TKILL) and pid != task.tid:
        raise EPERM("si_code is the kernel's")
