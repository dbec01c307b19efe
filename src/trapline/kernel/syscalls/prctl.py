"""Attributes of a task: prctl, personality."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi import prctl as p
from trapline.abi.capability import CAP_SETPCAP
from trapline.abi.errno import EINVAL, EPERM
from trapline.abi.seccomp import SECCOMP_MODE_FILTER, SECCOMP_MODE_STRICT
from trapline.abi.signal import NSIG
from trapline.kernel.security import seccomp
from trapline.kernel.syscalls.declare import Arg, ULong, syscall
from trapline.kernel.syscalls.seccomp import set_filter
from trapline.kernel.task.access import set_dumpable
from trapline.kernel.task.creds import CAP_LAST

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.task.task import Task

SECBIT_KEEP_CAPS = 1 << 4
SECBIT_KEEP_CAPS_LOCKED = 1 << 5
SECBITS_ALL = 0xFF


@syscall("personality", returns="hex")
def sys_personality(task: Task, persona: Annotated[int, Arg(32, "hex")]) -> int:
    """personality(2): the execution domain of the process.

    ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT, READ_IMPLIES_EXEC, STICKY_TIMEOUTS, UNAME26 and PER_LINUX32 have their effects;
    MMAP_PAGE_ZERO has none, as where the page is below mmap_min_addr. Linux gives the others none for 64-bit programs, either.
    """
    old = task.personality
    if persona != 0xFFFFFFFF:
        task.personality = persona
    return old


@syscall("prctl")
def sys_prctl(
    task: Task, option: Annotated[int, Arg(-32, "enum:PRCTL")], arg2: ULong, arg3: ULong, arg4: ULong, arg5: ULong
) -> int:
    """prctl(2): operations on a process or thread.

    Partial: PR_SET_TSC knows PR_TSC_ENABLE only; PR_SCHED_CORE answers EINVAL.
    """
    handler = _OPTIONS.get(option) or _rare(option)
    if handler is None:
        task.kernel.log_once(("prctl", option), f"prctl: option {option} is not implemented: EINVAL")
        raise EINVAL
    return handler(task, (arg2, arg3, arg4, arg5))


_Args = tuple[int, int, int, int]


def _zero(args: _Args, start: int) -> None:
    if any(args[start:]):
        raise EINVAL("unused arguments must be 0")


def _set_pdeathsig(task: Task, args: _Args) -> int:
    if args[0] > NSIG:
        raise EINVAL
    task.death_signal = args[0]
    return 0


def _get_pdeathsig(task: Task, args: _Args) -> int:
    task.mm.write_u32(args[0], task.death_signal)
    return 0


def _set_dumpable(task: Task, args: _Args) -> int:
    if args[0] > 1:
        raise EINVAL
    set_dumpable(task, args[0])
    return 0


def _set_name(task: Task, args: _Args) -> int:
    task.comm = task.mm.read_partial(args[0], 16)[:15].partition(b"\0")[0]
    return 0


def _get_name(task: Task, args: _Args) -> int:
    task.mm.write(args[0], task.comm.ljust(16, b"\0"))
    return 0


def _set_keepcaps(task: Task, args: _Args) -> int:
    if args[0] > 1:
        raise EINVAL
    creds = task.creds
    if creds.securebits & SECBIT_KEEP_CAPS_LOCKED:
        raise EPERM
    bits = creds.securebits & ~SECBIT_KEEP_CAPS | (SECBIT_KEEP_CAPS if args[0] else 0)
    task.creds = creds._replace(securebits=bits)
    return 0


def _set_securebits(task: Task, args: _Args) -> int:
    old = task.creds.securebits
    locked = old >> 1 & 0x55
    if not task.creds.has_cap(CAP_SETPCAP) or args[0] & ~SECBITS_ALL or (old ^ args[0]) & (locked | locked << 1):
        raise EPERM
    task.creds = task.creds._replace(securebits=args[0])
    return 0


def _capbset(task: Task, args: _Args) -> int:
    if args[0] > CAP_LAST:
        raise EINVAL
    return task.creds.bounding >> args[0] & 1


def _capbset_drop(task: Task, args: _Args) -> int:
    if not task.creds.has_cap(CAP_SETPCAP):
        raise EPERM
    if args[0] > CAP_LAST:
        raise EINVAL
    task.creds = task.creds._replace(bounding=task.creds.bounding & ~(1 << args[0]))
    return 0


def _ambient(task: Task, args: _Args) -> int:
    what, cap = args[0], args[1]
    creds = task.creds
    if what == p.PR_CAP_AMBIENT_CLEAR_ALL:
        _zero(args, 1)
        task.creds = creds._replace(ambient=0)
        return 0
    if cap > CAP_LAST or args[2] or args[3]:
        raise EINVAL
    bit = 1 << cap
    if what == p.PR_CAP_AMBIENT_IS_SET:
        return int(bool(creds.ambient & bit))
    if what == p.PR_CAP_AMBIENT_RAISE:
        if not creds.permitted & creds.inheritable & bit or creds.securebits & 1 << 6:
            raise EPERM
        task.creds = creds._replace(ambient=creds.ambient | bit)
    elif what == p.PR_CAP_AMBIENT_LOWER:
        task.creds = creds._replace(ambient=creds.ambient & ~bit)
    else:
        raise EINVAL
    return 0


def _set_no_new_privs(task: Task, args: _Args) -> int:
    if args[0] != 1:
        raise EINVAL
    _zero(args, 1)
    task.no_new_privs = True
    return 0


def _get_no_new_privs(task: Task, args: _Args) -> int:
    _zero(args, 0)
    return int(task.no_new_privs)


def _set_subreaper(task: Task, args: _Args) -> int:
    task.group.child_subreaper = bool(args[0])
    return 0


def _get_subreaper(task: Task, args: _Args) -> int:
    task.mm.write_u32(args[0], int(task.group.child_subreaper))
    return 0


def _set_timerslack(task: Task, args: _Args) -> int:
    task.timer_slack_ns = args[0] or task.timer_slack_default_ns
    return 0


def _tid_address(task: Task, args: _Args) -> int:
    task.mm.write_u64(args[0], task.clear_child_tid)
    return 0


def _only_x86(task: Task) -> None:
    if task.kernel.machine.arch.name != "x86_64":
        raise EINVAL("the time-stamp counter is x86's")


def _get_tsc(task: Task, args: _Args) -> int:
    _only_x86(task)
    task.mm.write_u32(args[0], 1)
    return 0


def _set_tsc(task: Task, args: _Args) -> int:
    _only_x86(task)
    if args[0] != 1:
        raise EINVAL
    return 0


def _set_seccomp(task: Task, args: _Args) -> int:
    if args[0] == SECCOMP_MODE_STRICT:
        seccomp.set_strict(task)
        return 0
    if args[0] != SECCOMP_MODE_FILTER:
        raise EINVAL
    return set_filter(task, 0, args[1])


def _rare(option: int) -> Callable[[Task, _Args], int] | None:
    """What few programs ask for is imported when one does."""
    if option == p.PR_SET_SYSCALL_USER_DISPATCH:
        from trapline.kernel.security.user_dispatch import set_dispatch

        return set_dispatch
    from trapline.kernel.syscalls import prctl_cpu, prctl_memory

    return prctl_cpu.OPTIONS.get(option) or prctl_memory.OPTIONS.get(option)


_OPTIONS: dict[int, Callable[[Task, _Args], int]] = {
    p.PR_SET_PDEATHSIG: _set_pdeathsig,
    p.PR_GET_PDEATHSIG: _get_pdeathsig,
    p.PR_GET_DUMPABLE: lambda task, args: task.dumpable,
    p.PR_SET_DUMPABLE: _set_dumpable,
    p.PR_SET_NAME: _set_name,
    p.PR_GET_NAME: _get_name,
    p.PR_SET_KEEPCAPS: _set_keepcaps,
    p.PR_GET_KEEPCAPS: lambda task, args: int(bool(task.creds.securebits & SECBIT_KEEP_CAPS)),
    p.PR_SET_SECUREBITS: _set_securebits,
    p.PR_GET_SECUREBITS: lambda task, args: task.creds.securebits,
    p.PR_CAPBSET_READ: _capbset,
    p.PR_CAPBSET_DROP: _capbset_drop,
    p.PR_CAP_AMBIENT: _ambient,
    p.PR_SET_NO_NEW_PRIVS: _set_no_new_privs,
    p.PR_GET_NO_NEW_PRIVS: _get_no_new_privs,
    p.PR_SET_CHILD_SUBREAPER: _set_subreaper,
    p.PR_GET_CHILD_SUBREAPER: _get_subreaper,
    p.PR_SET_TIMERSLACK: _set_timerslack,
    p.PR_GET_TIMERSLACK: lambda task, args: task.timer_slack_ns,
    p.PR_GET_TID_ADDRESS: _tid_address,
    p.PR_GET_TSC: _get_tsc,
    p.PR_SET_TSC: _set_tsc,
    p.PR_GET_SECCOMP: lambda task, args: task.seccomp.mode if task.seccomp is not None else 0,
    p.PR_SET_SECCOMP: _set_seccomp,
}
