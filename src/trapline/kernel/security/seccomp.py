"""seccomp(2): a task's own rules for its system calls, kept by its children and programs.

A task without rules has None, and a kernel in which no task ever had any runs the plain tables. The first rules put a guard
in front of every entry of the tables (`entry.table.Table.set_guard`), which asks here.

A filter decides by the call's number alone for most calls. What all filters of a chain say about such a number is remembered,
found by running them over data whose arguments may not be looked at.

Invariant: a chain of filters only grows; each link is immutable and shared by those who inherited it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from trapline.typed import TYPE_CHECKING, Any

from trapline.abi import seccomp as s
from trapline.abi.errno import EACCES, EBUSY, EINVAL, ENOMEM, ENOSYS, ESRCH
from trapline.abi.signal import SIGKILL, SIGSYS, SYS_SECCOMP
from trapline.kernel.bpf import classic
from trapline.kernel.task.signals.deliver import die
from trapline.kernel.task.signals.send import SigInfo, force
from trapline.kernel.task.task import WORK_EXIT

if TYPE_CHECKING:
    from trapline.kernel.entry.table import Table
    from trapline.kernel.security.notify import NotifyFile
    from trapline.kernel.task.task import Task

DATA_WORDS = s.SECCOMP_DATA.size // 4
MAX_INSNS_PER_PATH = 32768
PER_FILTER = 4  #: instructions that each filter of a chain counts for, beside its own
MAX_ERRNO = 4095
#: of all rules in use: what bounds the memory that hostile programs fill with them
LIVE_MAX, VERDICTS_MAX = 1 << 20, 1 << 17
REMEMBERED = 1024  #: numbers whose verdict is remembered, per chain
STRICT_CALLS = frozenset(("read", "write", "exit", "rt_sigreturn", "sigreturn"))

_KNOWN = frozenset(
    (
        s.SECCOMP_RET_KILL_PROCESS, s.SECCOMP_RET_KILL_THREAD, s.SECCOMP_RET_TRAP, s.SECCOMP_RET_ERRNO,
        s.SECCOMP_RET_TRACE, s.SECCOMP_RET_LOG, s.SECCOMP_RET_ALLOW, s.SECCOMP_RET_USER_NOTIF,
    )
)  # fmt: skip


class NeedsArgumentsError(Exception):
    """A filter looked at more than the number and the architecture."""


class _NumberOnly(Sequence[int]):
    """seccomp_data whose arguments are not known."""

    def __init__(self, number: int, arch: int) -> None:
        self._words = number & classic.MASK, arch

    def __getitem__(self, index: Any) -> Any:
        if index > 1:
            raise NeedsArgumentsError
        return self._words[index]

    def __len__(self) -> int:
        return DATA_WORDS


class _Live:
    """What all rules in use take: instructions (each filter counts for some more), and verdicts remembered."""

    instructions = verdicts = 0


_live = _Live()


class Rules:
    """What a task may call: mode, and for SECCOMP_MODE_FILTER the newest filter and the rules it was added to."""

    __slots__ = ("_verdicts", "cost", "count", "listener", "log", "mode", "older", "program")

    def __init__(
        self,
        program: list[classic.Instruction] | None,
        older: Rules | None,
        log: bool = False,
        listener: NotifyFile | None = None,
    ) -> None:
        self.mode = s.SECCOMP_MODE_STRICT if program is None else s.SECCOMP_MODE_FILTER
        self.program = program or []
        self.older = older
        self.log = log
        self.listener = listener  #: of this filter, or of the one older filter that has one
        if listener is not None:
            listener.filters += 1
        self.count: int = 1 + (older.count if older is not None else 0)
        self.cost: int = len(self.program) + PER_FILTER + (older.cost if older is not None else 0)
        self._verdicts: dict[tuple[int, int], int | None] = {}
        _live.instructions += len(self.program) + PER_FILTER

    def __del__(self) -> None:
        _live.instructions -= len(self.program) + PER_FILTER
        _live.verdicts -= len(self._verdicts)
        if self.listener is not None:
            self.listener.filter_gone()

    def extends(self, other: Rules | None) -> bool:
        """These are `other`, or have been made from them."""
        if other is None:
            return True
        rules: Rules | None = self
        while rules is not None and rules is not other:
            rules = rules.older
        return rules is other

    def verdict(self, number: int, arch: int, task: Task, args: Callable[[], tuple[int, ...]]) -> int:
        """The strongest result of all filters; of equals, the newest's."""
        key = number, arch
        known = self._verdicts.get(key)
        if known is not None:
            return known
        if key not in self._verdicts and len(self._verdicts) < REMEMBERED and _live.verdicts < VERDICTS_MAX:
            try:
                known = self._run(_NumberOnly(number, arch))
            except NeedsArgumentsError:
                known = None
            self._verdicts[key] = known
            _live.verdicts += 1
            if known is not None:
                return known
        return self._run(memoryview(pack_data(task, number, arch, args())).cast("I"))

    def _run(self, data: Sequence[int]) -> int:
        result = s.SECCOMP_RET_ALLOW
        rules: Rules | None = self
        while rules is not None:
            found = classic.run(rules.program, data, s.SECCOMP_DATA.size)
            if _strength(found) < _strength(result):
                result = found
            rules = rules.older
        return result


def pack_data(task: Task, number: int, arch: int, args: tuple[int, ...]) -> bytes:
    """struct seccomp_data of a call."""
    return s.SECCOMP_DATA.pack(signed(number), arch, task.ctx.regs[task.kernel.machine.arch.pc], *args)


def signed(number: int) -> int:
    """The low 32 bits of a number, as C's int."""
    return (number & classic.MASK ^ 0x8000_0000) - 0x8000_0000


def _strength(result: int) -> int:
    """Actions in order, the strongest first: they compare as signed numbers."""
    return ((result & s.SECCOMP_RET_ACTION_FULL) ^ 0x8000_0000) - 0x8000_0000


# ---- at a system call


def guard(table: Table, number: int, thunk: Callable[[Any, array[int]], Any]) -> Callable[[Any, array[int]], Any]:
    """The thunk of a number, for a kernel in which some task has rules, or has calls sent back (`user_dispatch`)."""
    name = table.names[number] if number < len(table.names) else None

    def guarded(task: Task, regs: array[int]) -> Any:
        if task.user_dispatch is not None and task.user_dispatch.sends_back(task, table, number, regs):
            return regs[task.kernel.machine.arch.ret]
        rules: Rules | None = task.seccomp
        if rules is None:
            return thunk(task, regs)
        if rules.mode == s.SECCOMP_MODE_STRICT:
            if name not in STRICT_CALLS:
                return _end(task, regs, SigInfo(SIGKILL), whole=False)
            return thunk(task, regs)
        result = rules.verdict(number, table.audit, task, lambda: table.arguments(regs))
        if result & s.SECCOMP_RET_ACTION_FULL == s.SECCOMP_RET_ALLOW:
            return thunk(task, regs)
        return _act(task, regs, table, number, result, thunk)

    return guarded


def _act(task: Task, regs: array[int], table: Table, number: int, result: int, thunk: Callable[..., Any]) -> Any:
    """Anything but SECCOMP_RET_ALLOW."""
    action, data = result & s.SECCOMP_RET_ACTION_FULL, result & s.SECCOMP_RET_DATA
    if action == s.SECCOMP_RET_ERRNO:
        return -min(data, MAX_ERRNO)
    if action == s.SECCOMP_RET_TRAP:
        force(task, _refusal(task, table, number, data))
        return regs[task.kernel.machine.arch.ret]
    if action == s.SECCOMP_RET_TRACE:
        raise ENOSYS("nobody traces")
    if action == s.SECCOMP_RET_USER_NOTIF:
        listener: NotifyFile | None = task.seccomp.listener
        if listener is None:
            raise ENOSYS("nobody listens")
        return _decided(task, regs, listener, pack_data(task, number, table.audit, table.arguments(regs)), thunk)
    name = table.names[number] if number < len(table.names) else None
    words = f"{task.comm.decode(errors='replace')}[{task.tid}]: seccomp: {name or number}"
    if action == s.SECCOMP_RET_LOG:
        task.kernel.log_once(("seccomp", task.group.pid, number), f"{words}: allowed")
        return thunk(task, regs)
    task.kernel.log_once(("seccomp", task.tid), f"{words}: killed")
    return _end(task, regs, _refusal(task, table, number, data), whole=action != s.SECCOMP_RET_KILL_THREAD)


async def _decided(
    task: Task, regs: array[int], listener: NotifyFile, data: bytes, thunk: Callable[..., Any]
) -> int:
    """The call's result as whoever listens decides it."""
    answer = await listener.ask(task, data)
    if not answer.goes_on:
        return answer.value
    result: Any = thunk(task, regs)
    return result if isinstance(result, int) else await result


def _refusal(task: Task, table: Table, number: int, data: int) -> SigInfo:
    """The SIGSYS of a call that is refused."""
    pc = task.ctx.regs[task.kernel.machine.arch.pc]
    return SigInfo(SIGSYS, SYS_SECCOMP, addr=pc, syscall=signed(number), arch=table.audit, errno=data)


def _end(task: Task, regs: array[int], info: SigInfo, *, whole: bool) -> int:
    """The thread, or the whole process, ends as if by a signal."""
    if whole or len(task.group.tasks) == 1:
        die(task, info)
    else:
        task.exit_status = info.signo
        task.work |= WORK_EXIT
    return regs[task.kernel.machine.arch.ret]


# ---- making rules


def set_strict(task: Task) -> None:
    """SECCOMP_SET_MODE_STRICT. Raises EINVAL."""
    if task.seccomp is not None and task.seccomp.mode != s.SECCOMP_MODE_STRICT:
        raise EINVAL("there are filters")
    _install(task, Rules(None, None))


def set_filter(
    task: Task, program: list[classic.Instruction], flags: int, listener: NotifyFile | None = None
) -> int:
    """SECCOMP_SET_MODE_FILTER, once the program is checked; 0, or the thread that TSYNC failed for. `listener`: a new one."""
    older: Rules | None = task.seccomp
    if older is not None and older.mode != s.SECCOMP_MODE_FILTER:
        raise EINVAL("strict mode has no filters")
    if len(program) + PER_FILTER + (older.cost if older is not None else 0) > MAX_INSNS_PER_PATH:
        raise ENOMEM
    inherited = older.listener if older is not None else None
    if listener is not None and inherited is not None:
        raise EBUSY("one listener for all filters of a task")
    if _live.instructions + len(program) > LIVE_MAX:
        raise ENOMEM("too many filters in all")
    together = [task]
    if flags & s.SECCOMP_FILTER_FLAG_TSYNC:
        for each in task.group.tasks:
            if each.seccomp is not None and (each.seccomp.mode != s.SECCOMP_MODE_FILTER or not _under(older, each.seccomp)):
                if flags & s.SECCOMP_FILTER_FLAG_TSYNC_ESRCH:
                    raise ESRCH
                return each.tid
        together = list(task.group.tasks)
    rules = Rules(program, older, bool(flags & s.SECCOMP_FILTER_FLAG_LOG), listener or inherited)
    for each in together:
        each.no_new_privs |= task.no_new_privs
        _install(each, rules)
    return 0


def _under(mine: Rules | None, other: Rules) -> bool:
    return mine is not None and mine.extends(other)


def _install(task: Task, rules: Rules) -> None:
    task.seccomp = rules
    watch_calls(task)


def watch_calls(task: Task) -> None:
    """From now on `guard` looks at every call of every task."""
    for table in task.kernel.loop.dispatcher.tables():  # type: ignore[attr-defined]  # a kernel that runs programs
        table.set_guard(guard)


def may_filter(task: Task, has_cap: bool) -> None:
    """Raise EACCES unless a filter could give no set-user-id program a surprise (seccomp(2))."""
    if not task.no_new_privs and not has_cap:
        raise EACCES("no_new_privs is not set")


def available(action: int) -> bool:
    """SECCOMP_GET_ACTION_AVAIL."""
    return action in _KNOWN
