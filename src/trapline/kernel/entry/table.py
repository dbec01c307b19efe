"""The system-call table of an architecture, generated from the declared signatures.

An entry is a *thunk*: a function of (task, registers) that reads only the registers its call needs, converts them to
the declared C width and sign, and calls the handler. Thunks are made when a number is first used, so that
starting a kernel does not pay for calls nobody makes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from trapline.typed import Any

from trapline.abi import syscalls as numbers
from trapline.abi.arch import ABIS
from trapline.abi.errno import ENOSYS, Errno
from trapline.kernel.syscalls.declare import Parameter, Refusal, Result, SystemCall, parameters
from trapline.kernel.syscalls.find import declaration
from trapline.machine.contract import Arch

Thunk = Callable[[Any, "array[int]"], Result]
Guard = Callable[[Any, int, Thunk], Thunk]
#: The stages of a call: the guard and all behind it; what the guard has let pass; the handler.
GUARD, PASSED, BODY = range(3)
Around = Callable[[int, int, Callable[..., Result]], Callable[..., Result]]

#: Calls whose arguments and structures are the same for 32-bit code, so that `int $0x80` may use the 64-bit handlers.
#: The rest of the 32-bit table answers ENOSYS: what takes 64-bit numbers in two registers, or structures with pointers,
#: longs or old-style times in them.
I386_SHARED = frozenset(
    # processes and who they are
    "exit exit_group vfork getpid getppid gettid getpgrp getpgid setpgid getsid setsid kill tkill tgkill pause alarm "
    "getpriority setpriority sched_yield sched_setparam sched_getparam sched_setscheduler sched_getscheduler "
    "sched_get_priority_max sched_get_priority_min sched_setattr sched_getattr ioprio_set ioprio_get set_tid_address "
    "personality prlimit64 capget capset unshare setns pidfd_open pidfd_getfd kcmp acct reboot sethostname setdomainname "
    "uname syslog getcpu getrandom rt_sigprocmask rt_sigpending rt_sigsuspend "
    # memory
    "brk munmap mprotect mremap msync mincore madvise mlock mlock2 munlock mlockall munlockall remap_file_pages pkey_mprotect "
    "pkey_alloc pkey_free memfd_create membarrier futex_waitv shmget shmat shmdt semget msgget process_mrelease "
    # descriptors
    "read write open close creat openat openat2 dup dup2 dup3 close_range pipe pipe2 lseek flock ioctl fsync fdatasync syncfs "
    "poll eventfd eventfd2 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 inotify_init "
    "inotify_init1 inotify_add_watch inotify_rm_watch signalfd signalfd4 timerfd_create splice tee copy_file_range "
    "getdents64 ftruncate fchmod fchdir "
    # names
    "link unlink symlink readlink rename mkdir rmdir mknod chmod chdir chroot getcwd access truncate umask sync mkdirat "
    "mknodat unlinkat renameat renameat2 linkat symlinkat readlinkat fchmodat fchownat faccessat faccessat2 statx "
    "umount2 mount pivot_root open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr swapon swapoff vhangup sysfs "
    "setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr "
    "fremovexattr name_to_handle_at open_by_handle_at "
    # sockets and message queues
    "socket socketpair bind connect listen accept4 getsockname getpeername sendto recvfrom shutdown mq_unlink".split()
)
#: 32-bit names of calls that 64-bit code knows by another: ids of 32 bits, times of 64.
_I386_RENAMED = {
    "getuid32": "getuid", "getgid32": "getgid", "geteuid32": "geteuid", "getegid32": "getegid",
    "setuid32": "setuid", "setgid32": "setgid", "setreuid32": "setreuid", "setregid32": "setregid",
    "getgroups32": "getgroups", "setgroups32": "setgroups", "setresuid32": "setresuid", "setresgid32": "setresgid",
    "getresuid32": "getresuid", "getresgid32": "getresgid", "setfsuid32": "setfsuid", "setfsgid32": "setfsgid",
    "chown32": "chown", "fchown32": "fchown", "lchown32": "lchown", "sendfile64": "sendfile",
    "clock_gettime64": "clock_gettime", "clock_settime64": "clock_settime", "clock_adjtime64": "clock_adjtime",
    "clock_getres_time64": "clock_getres", "clock_nanosleep_time64": "clock_nanosleep",
    "timer_gettime64": "timer_gettime", "timer_settime64": "timer_settime", "timerfd_gettime64": "timerfd_gettime",
    "timerfd_settime64": "timerfd_settime", "utimensat_time64": "utimensat", "ppoll_time64": "ppoll",
    "mq_timedsend_time64": "mq_timedsend", "mq_timedreceive_time64": "mq_timedreceive",
    "semtimedop_time64": "semtimedop", "futex_time64": "futex", "sched_rr_get_interval_time64": "sched_rr_get_interval",
}  # fmt: skip
AUDIT_ARCH_I386 = 0x40000003
_I386 = "i386 "  #: names of 32-bit calls that are not the 64-bit ones start so
_I386_ARGS = (11, 14, 12, 9, 8, 10)  # ebx ecx edx esi edi ebp, as indices of abi.x86_64


class Table:
    """Thunks by number for one entry convention; `names[nr]` is the name of a known number."""

    def __init__(
        self,
        kernel: Any,
        byname: dict[str, int],
        args: tuple[int, ...],
        nr: int,
        width: int = 64,
        order: Mapping[str, tuple[int, ...]] | None = None,
        audit: int = 0,
    ) -> None:
        self._kernel = kernel
        self.audit = audit  #: AUDIT_ARCH_* of the convention
        self._mask = (1 << width) - 1
        self._guard: Guard | None = None
        self._around: Around | None = None
        self._order = order or {}  #: calls whose arguments come in another order than declared, `Abi.order`
        self._args = args
        self._nr = nr
        self._width = width
        size = max(byname.values()) + 1
        self.names: list[str | None] = [None] * size
        for name, number in byname.items():
            self.names[number] = name
        self.thunks: list[Thunk] = [self._first_use] * size
        self.replaced: dict[str, Callable[..., Result]] = {}

    def _first_use(self, task: Any, regs: array[int]) -> Result:
        number = regs[self._nr] & self._mask
        thunk = self.make(number)
        if self._guard is not None:
            around = self._around
            thunk = self._guard(self, number, thunk if around is None else around(PASSED, number, thunk))
            thunk = thunk if around is None else around(GUARD, number, thunk)
        self.thunks[number] = thunk
        return thunk(task, regs)

    def set_around(self, around: Around | None) -> None:
        """From now on what is called in a system call is `around(stage, number, it)`: somebody observes; None: it is itself."""
        self._around = around
        self.thunks = [self._first_use] * len(self.thunks)

    def set_guard(self, guard: Guard) -> None:
        """From now on `guard(table, number, thunk)` stands in front of every thunk: some task restricts its calls."""
        if self._guard is None:
            self._guard = guard
            self.thunks = [self._first_use] * len(self.thunks)

    def beyond(self, task: Any, regs: array[int], number: int) -> int:
        """The result of a number the table does not have."""
        thunk: Thunk = self._no_such_number
        if self._guard is not None:
            thunk = self._guard(self, number, thunk)
        try:
            result = thunk(task, regs)
        except Errno as error:
            return -error.number
        assert isinstance(result, int)
        return result

    def _no_such_number(self, task: Any, regs: array[int]) -> Result:
        number = regs[self._nr] & self._mask
        self._kernel.log_once(("syscall", number), f"system call {number:#x}: no such number: ENOSYS")
        raise ENOSYS

    def arguments(self, regs: array[int]) -> tuple[int, ...]:
        """All six argument registers, as they are."""
        return tuple(regs[each] & self._mask for each in self._args)

    def registers(self, regs: array[int], name: str, args: tuple[int, ...]) -> tuple[int, array[int]]:
        """The number of call `name`, and registers like `regs` that make it with `args`. Raises ValueError: no such name."""
        number = self.names.index(name)
        copy = regs[:]
        copy[self._nr] = number
        for register, value in zip(self._order.get(name, range(len(args))), args, strict=False):
            copy[self._args[register]] = value & self._mask
        return number, copy

    def make(self, number: int) -> Thunk:
        """The thunk of one number: the handler's, a refusal, or ENOSYS with a note on the kernel log."""
        name = self.names[number]
        found = declaration(name) if name else None
        if found is None and name and name.startswith(_I386):
            found = declaration(name[len(_I386) :])
            found = found if isinstance(found, Refusal) else None  # what is refused is refused to 32-bit code alike
        if isinstance(found, SystemCall):
            handler = self.replaced.get(found.name, found.handler)
            if self._around is not None:
                handler = self._around(BODY, number, handler)
            return self.reader(handler, found.name, parameters(found))
        kernel = self._kernel
        if isinstance(found, Refusal):
            error, why = found.error, f"{found.name}: refused with {found.error.name}: {found.why}"
        else:
            error, why = ENOSYS, f"system call {number} ({name or 'no such number'}) is not implemented: ENOSYS"

        def answer(task: Any, regs: array[int]) -> Result:
            kernel.log_once(("syscall", number), f"{task.comm.decode(errors='replace')}[{task.tid}]: {why}")
            raise error

        return answer

    def reader(self, handler: Callable[..., Any], name: str, params: tuple[Parameter, ...]) -> Callable[..., Any]:
        """A function of (task, registers) that calls `handler` with the arguments of call `name`, converted."""
        order = self._order.get(name)
        args = self._args if order is None else tuple(self._args[each] for each in order)
        return compile_thunk(handler, params, args, self._width)

    def replace(self, name: str, handler: Callable[..., Result]) -> None:
        """Answer call `name` with `handler`, which takes what the declared handler takes."""
        if not isinstance(declaration(name), SystemCall):
            raise KeyError(f"no system call named {name!r} is implemented")
        self.replaced[name] = handler
        self.thunks = [self._first_use] * len(self.thunks)

    def call(self, number: int) -> SystemCall | None:
        name = self.names[number] if 0 <= number < len(self.names) else None
        found = declaration(name) if name else None
        return found if isinstance(found, SystemCall) else None


def compile_thunk(
    handler: Callable[..., Result], params: tuple[Parameter, ...], args: tuple[int, ...], width: int
) -> Thunk:
    """A function of (task, registers) that calls `handler` with its converted arguments."""
    values = "".join(f", {_convert(f'r[{args[i]}]', p.width, width)}" for i, p in enumerate(params))
    thunk: Thunk = eval(f"lambda task, r: handler(task{values})", {"handler": handler})
    return thunk


def _convert(register: str, want: int, have: int) -> str:
    bits = min(abs(want), have)
    if want < 0:
        sign = 1 << (bits - 1)
        whole = register if bits == 64 else f"({register} & {(1 << bits) - 1:#x})"
        return f"({whole} ^ {sign:#x}) - {sign:#x}"
    return register if bits == 64 else f"{register} & {(1 << bits) - 1:#x}"


def native_table(kernel: Any, arch: Arch) -> Table:
    """The architecture's own table."""
    abi = ABIS[arch.name]
    return Table(kernel, abi.numbers, arch.args, arch.nr, order=abi.order, audit=abi.audit)


def i386_table(kernel: Any, arch: Arch) -> Table:
    """What `int $0x80` reaches: the 32-bit numbers, for the calls that are the same in both. Only x86-64 code gets there."""
    table = Table(kernel, numbers.I386, _I386_ARGS, arch.nr, width=32, audit=AUDIT_ARCH_I386)
    for name, number in numbers.I386.items():
        known = _I386_RENAMED.get(name) or (name if name in I386_SHARED else None)
        table.names[number] = known or _I386 + name
    return table
