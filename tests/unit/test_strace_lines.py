"""Whole trace lines: what strace 6.1 prints for the same crossing."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from coverage_page import load
from trapline.abi.errno import EFAULT
from trapline.kernel.syscalls.declare import SYSCALLS, SystemCall, parameters
from trapline.kernel.task.signals.siginfo import SigInfo
from trapline.machine.host.arch import X86_64 as ARCH
from trapline.scope.strace import arguments, names, structs
from trapline.scope.strace.plan import UNDECLARED
from trapline.scope.strace.special import OVERRIDES
from trapline.scope.strace.strace import MOST_IGNORED, Strace

load()


class Memory:
    """User memory with a few strings in it."""

    def __init__(self) -> None:
        self.bytes = bytearray(0x4000)
        self.base = 0x10000
        self.top = self.base

    def put(self, data: bytes) -> int:
        address = self.top
        self.bytes[address - self.base : address - self.base + len(data)] = data
        self.top = (address + len(data) + 15) & ~7
        return address

    def read(self, address: int, count: int) -> bytes:
        if not self.base <= address <= address + count <= self.base + len(self.bytes):
            raise EFAULT
        return bytes(self.bytes[address - self.base : address - self.base + count])

    def read_partial(self, address: int, count: int) -> bytes:
        if not self.base <= address < self.base + len(self.bytes):
            raise EFAULT
        return bytes(self.bytes[address - self.base : address - self.base + count])


class Task:
    def __init__(self, tid: int = 100) -> None:
        self.tid = tid
        self.mm = Memory()
        self.restart = 0
        self.group = SimpleNamespace(exiting=False)
        self.kernel = SimpleNamespace(machine=SimpleNamespace(arch=ARCH))
        self.ctx = SimpleNamespace(regs=[self.mm.base + 0x100] * ARCH.nregs)
        self.group = SimpleNamespace(exiting=False)
        self.ctx = SimpleNamespace(regs=[self.mm.base] * 32)
        self.kernel = SimpleNamespace(machine=SimpleNamespace(arch=SimpleNamespace(sp=7, name="x86_64")))


class Trace:
    """A tracer and one task; `line` is one whole call."""

    def __init__(self, **options: Any) -> None:
        self.out: list[str] = []
        self.strace = Strace(self.out.append, **options)
        self.task = Task()
        self.mm = self.task.mm

    def text(self) -> str:
        text = "".join(self.out)
        self.out.clear()
        return text

    def line(self, name: str, *args: int, result: int = 0, change: Any = None) -> str:
        call = SYSCALLS[name]
        self.strace.enter(self.task, call, args)
        if change is not None:
            change()
        self.strace.exit(self.task, call, args, result)
        return self.text().removesuffix("\n")


@pytest.fixture
def trace() -> Trace:
    return Trace()


def padded(call: str, result: str) -> str:
    return f"{call + ' ':<40}= {result}"


def test_signals_that_are_dropped_are_shown_behind_the_call_and_are_not_kept_without_end() -> None:
    trace = Trace()
    call = SYSCALLS["getpid"]
    trace.strace.enter(trace.task, call, ())
    for _ in range(2 * MOST_IGNORED):
        trace.strace.ignored(trace.task, SigInfo(40))
        trace.strace.ignored(trace.task, SigInfo(17))
    trace.strace.exit(trace.task, call, (), 7)
    first, *rest = trace.text().splitlines()
    assert first.startswith("getpid()") and len(rest) == MOST_IGNORED
    assert sum("SIGCHLD" in line for line in rest) == 1, "one of a kind, as it would be pending"


def test_results_start_in_column_40(trace: Trace) -> None:
    assert trace.line("close", 3) == padded("close(3)", "0")
    assert trace.line("getpid", result=11787) == padded("getpid()", "11787")


def test_errors_have_name_and_text(trace: Trace) -> None:
    path = trace.mm.put(b"/etc/ld.so.preload\0")
    assert trace.line("access", path, 4, result=-2) == padded(
        'access("/etc/ld.so.preload", R_OK)', "-1 ENOENT (No such file or directory)"
    )


def test_openat_shows_a_mode_only_when_it_creates(trace: Trace) -> None:
    path = trace.mm.put(b"/nonexist\0")
    assert trace.line("openat", -100, path, 0o2000000, 0o777, result=3) == 'openat(AT_FDCWD, "/nonexist", O_RDONLY|O_CLOEXEC) = 3'
    assert trace.line("openat", -100, path, 0o2000302, 0o600, result=8) == (
        'openat(AT_FDCWD, "/nonexist", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 8'
    )


def test_read_shows_what_was_read(trace: Trace) -> None:
    buffer = trace.mm.put(bytes(64))

    def fill() -> None:
        trace.mm.bytes[buffer - trace.mm.base : buffer - trace.mm.base + 6] = b"hello\n"

    assert trace.line("read", 0, buffer, 4096, result=6, change=fill) == padded(r'read(0, "hello\n", 4096)', "6")
    assert trace.line("read", 0, buffer, 4096, result=0) == padded('read(0, "", 4096)', "0")
    assert trace.line("read", 9, buffer, 4096, result=-9) == padded(f"read(9, {buffer:#x}, 4096)", "-1 EBADF (Bad file descriptor)")


def test_write_shows_32_bytes(trace: Trace) -> None:
    buffer = trace.mm.put(b"x" * 80)
    assert trace.line("write", 4, buffer, 80, result=80) == f'write(4, "{"x" * 32}"..., 80) = 80'


def test_mmap(trace: Trace) -> None:
    assert trace.line("mmap", 0, 8192, 3, 0x22, -1, 0, result=0x7F558EEDB000) == (
        "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f558eedb000"
    )
    assert trace.line("mmap", 0x7F558EEAE000, 69632, 5, 0x812, 3, 0xF000, result=0x7F558EEAE000) == (
        "mmap(0x7f558eeae000, 69632, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, 0xf000) = 0x7f558eeae000"
    )
    assert trace.line("brk", 0, result=0x5564FDB52000) == padded("brk(NULL)", "0x5564fdb52000")


def test_newfstatat(trace: Trace) -> None:
    path = trace.mm.put(b"\0")
    stat = trace.mm.put(struct.pack("<QQQIII4xQqqq", 1, 2, 1, 0o100644, 0, 0, 0, 34779, 4096, 8).ljust(144, b"\0"))
    assert trace.line("newfstatat", 3, path, stat, 0x1000) == (
        'newfstatat(3, "", {st_mode=S_IFREG|0644, st_size=34779, ...}, AT_EMPTY_PATH) = 0'
    )
    assert trace.line("newfstatat", -100, path, stat, 0, result=-2) == padded(
        f'newfstatat(AT_FDCWD, "", {stat:#x}, 0)', "-1 ENOENT (No such file or directory)"
    )


def test_rt_sigaction_shows_old_and_new(trace: Trace) -> None:
    new = trace.mm.put(struct.pack("<QQQQ", 0, 0x14000000, 0x7F558ECF9050, 0))
    old = trace.mm.put(bytes(32))
    assert trace.line("rt_sigaction", 17, new, old, 8) == (
        "rt_sigaction(SIGCHLD, {sa_handler=SIG_DFL, sa_mask=[], sa_flags=SA_RESTORER|SA_RESTART, "
        "sa_restorer=0x7f558ecf9050}, {sa_handler=SIG_DFL, sa_mask=[], sa_flags=0}, 8) = 0"
    )
    assert trace.line("rt_sigprocmask", 0, 0, old, 8) == padded("rt_sigprocmask(SIG_BLOCK, NULL, [], 8)", "0")


def test_poll_says_what_is_ready(trace: Trace) -> None:
    fds = trace.mm.put(struct.pack("<ihh", 3, 1, 0))
    assert trace.line("poll", fds, 1, 0) == padded("poll([{fd=3, events=POLLIN}], 1, 0)", "0 (Timeout)")

    def ready() -> None:
        trace.mm.bytes[fds - trace.mm.base + 6] = 1

    assert trace.line("poll", fds, 1, 0, result=1, change=ready) == padded(
        "poll([{fd=3, events=POLLIN}], 1, 0)", "1 ([{fd=3, revents=POLLIN}])"
    )


def test_fcntl_by_command(trace: Trace) -> None:
    assert trace.line("fcntl", 3, 1, 0, result=1) == padded("fcntl(3, F_GETFD)", "0x1 (flags FD_CLOEXEC)")
    assert trace.line("fcntl", 3, 2, 1) == padded("fcntl(3, F_SETFD, FD_CLOEXEC)", "0")
    assert trace.line("fcntl", 3, 3, 0, result=0o100002) == padded("fcntl(3, F_GETFL)", "0x8002 (flags O_RDWR|O_LARGEFILE)")
    assert trace.line("fcntl", 0, 1030, 10, result=10) == padded("fcntl(0, F_DUPFD_CLOEXEC, 10)", "10")


def test_futex_by_operation(trace: Trace) -> None:
    assert trace.line("futex", 0x10000, 129, 1, 0, 0, 0) == padded("futex(0x10000, FUTEX_WAKE_PRIVATE, 1)", "0")
    assert trace.line("futex", 0x10000, 393, 0, 0, 0, 0xFFFFFFFF, result=-11) == (
        "futex(0x10000, FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME, 0, NULL, FUTEX_BITSET_MATCH_ANY) "
        "= -1 EAGAIN (Resource temporarily unavailable)"
    )


def test_execve_shows_arguments_and_counts_variables(trace: Trace) -> None:
    words = [trace.mm.put(each + b"\0") for each in (b"/bin/ls", b"ls", b"-l", b"A=1", b"B=2")]
    argv = trace.mm.put(struct.pack("<QQQ", words[1], words[2], 0))
    envp = trace.mm.put(struct.pack("<QQQ", words[3], words[4], 0))
    assert trace.line("execve", words[0], argv, envp) == (
        f'execve("/bin/ls", ["ls", "-l"], {envp:#x} /* 2 vars */) = 0'
    )


def test_exit_group_has_no_result(trace: Trace) -> None:
    trace.strace.enter(trace.task, SYSCALLS["exit_group"], (0,))
    trace.strace.exited(trace.task, 0)
    assert trace.text() == padded("exit_group(0)", "?") + "\n+++ exited with 0 +++\n"


def test_death_by_signal(trace: Trace) -> None:
    trace.strace.signal(trace.task, SigInfo(11, 1, addr=0))
    trace.strace.exited(trace.task, 0x8B)
    assert trace.text() == (
        "--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL} ---\n"
        "+++ killed by SIGSEGV (core dumped) +++\n"
    )


def test_interrupted_call_shows_its_restart(trace: Trace) -> None:
    trace.task.restart = 514
    assert trace.line("pause", result=-4) == padded("pause()", "? ERESTARTNOHAND (To be restarted if no handler)")


def test_call_that_the_end_of_the_process_interrupts_has_no_result(trace: Trace) -> None:
    trace.task.restart = 512
    trace.task.group.exiting = True
    assert trace.line("pause", result=-4) == padded("pause()", "?")


def test_signal_return_shows_the_mask_and_the_result_of_the_interrupted_call(trace: Trace) -> None:
    trace.mm.bytes[296] = 0b10  # uc_sigmask, above the stack pointer
    assert trace.line("rt_sigreturn", result=30693) == padded("rt_sigreturn({mask=[INT]})", "30693")
    assert trace.line("rt_sigreturn", result=-4) == padded("rt_sigreturn({mask=[INT]})", "-1 EINTR (Interrupted system call)")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((0x500, 5, 0xBF, 0x8A3B), "{c_iflag=ICRNL|IXON, c_oflag=NL0|CR0|TAB0|BS0|VT0|FF0|OPOST|ONLCR, c_cflag=B38400|CS8|CREAD, "
         "c_lflag=ISIG|ICANON|ECHO|ECHOE|ECHOK|IEXTEN|ECHOCTL|ECHOKE, ...}"),
        ((0x8000, 0x5A00, 0xE00D000D, 0x50004), "{c_iflag=0x8000, c_oflag=NL0|CR1|XTABS|BS0|VT1|FF0|, "
         "c_cflag=B9600|B9600<<IBSHIFT|CS5|CMSPAR|CRTSCTS|0x20000000, c_lflag=XCASE|EXTPROC|0x40000, ...}"),
        ((0, 0, 0x1001, 0), "{c_iflag=, c_oflag=NL0|CR0|TAB0|BS0|VT0|FF0|, c_cflag=B57600|CS5|, c_lflag=, ...}"),
    ],
)  # fmt: skip
def test_terminal_settings_are_named(words: tuple[int, ...], shown: str, trace: Trace) -> None:
    at = trace.mm.put(struct.pack("<IIII20x", *words))
    assert trace.line("ioctl", 0, 0x5401, at) == f"ioctl(0, TCGETS, {shown}) = 0"
    assert trace.line("ioctl", 0, 0x5402, at, result=-25).startswith(f"ioctl(0, SNDCTL_TMR_START or TCSETS, {shown}) = -1 ENOTTY")
    assert trace.line("ioctl", 0, 0x5401, at, result=-25).startswith(f"ioctl(0, TCGETS, {at:#x}) ")


@pytest.mark.parametrize(
    ("number", "value", "shown"),
    [
        (0x540B, 0, "TCFLSH, TCIFLUSH"), (0x540A, 1, "TCXONC, TCOON"), (0x5409, 1, "TCSBRK, 1"), (0x5451, 77, "FIOCLEX"),
        (0x40049409, 3, "BTRFS_IOC_CLONE or FICLONE, 3"), (0x40049409, (1 << 64) - 1, "BTRFS_IOC_CLONE or FICLONE, -1"),
        (0x1234, 0, "_IOC(_IOC_NONE, 0x12, 0x34, 0), 0"),
    ],
)  # fmt: skip
def test_each_kind_of_ioctl_argument(number: int, value: int, shown: str, trace: Trace) -> None:
    assert trace.line("ioctl", 3, number, value) == padded(f"ioctl(3, {shown})", "0")


def test_call_that_another_task_interrupts_is_continued() -> None:
    trace = Trace(always_pid=True)
    other = Task(101)
    buffer = trace.mm.put(b"x")
    read = SYSCALLS["read"]
    trace.strace.enter(trace.task, read, (0, buffer, 1))
    trace.strace.enter(other, SYSCALLS["getpid"], ())
    trace.strace.exit(other, SYSCALLS["getpid"], (), 100)
    trace.strace.exit(trace.task, read, (0, buffer, 1), 1)
    assert trace.text().splitlines() == [
        "100   read(0,  <unfinished ...>",
        padded("101   getpid()", "100"),
        padded('100   <... read resumed>"x", 1)', "1"),
    ]


def test_pid_prefix_appears_with_the_second_task(trace: Trace) -> None:
    other = Task(101)
    trace.line("getpid", result=100)
    trace.strace.started(other)
    assert trace.line("close", 3) == padded("[pid   100] close(3)", "0")
    trace.strace.exited(other, 0)
    trace.text()
    assert trace.line("close", 3) == padded("close(3)", "0")


def test_undeclared_call_shows_six_numbers(trace: Trace) -> None:
    call = SystemCall("keyctl", lambda task: 0, (), UNDECLARED)
    trace.strace.enter(trace.task, call, (1, 2, 0, 0, 0, 0))
    trace.strace.exit(trace.task, call, (1, 2, 0, 0, 0, 0), -38)
    assert trace.text() == "keyctl(0x1, 0x2, 0, 0, 0, 0)            = -1 ENOSYS (Function not implemented)\n"


@pytest.mark.parametrize("name", sorted(SYSCALLS))
def test_every_call_can_be_traced_with_hostile_arguments(name: str) -> None:
    count = len(parameters(SYSCALLS[name]))
    for value in (0, 1, -1, 0x10000, 0x13FFF, (1 << 64) - 1, 1 << 62):
        for result in (0, 5, -14):
            trace = Trace()
            line = trace.line(name, *[value] * count, result=result) if name not in ("exit", "exit_group") else ""
            assert line.startswith(name) or not line


@pytest.mark.parametrize("name", sorted(SYSCALLS))
def test_every_declared_type_is_known_to_the_tracer(name: str) -> None:
    for index, each in enumerate(parameters(SYSCALLS[name])):
        if index in OVERRIDES.get(name, {}):
            continue
        kind, _, rest = each.show.partition(":")
        known = {
            "struct": structs.SHAPES, "struct_out": structs.SHAPES, "enum": names.ENUMS,
            "flags": names.FLAGS.keys() | arguments.FLAG_KINDS.keys() | {"open", "mmap"},
        }.get(kind)  # fmt: skip
        if known is not None:
            assert rest in known, f"{name}({each.name}): {each.show}"
        else:
            assert kind in arguments.SIMPLE or kind in ("buf_in", "buf_out", "iov_in", "iov_out"), each.show
        if kind in ("buf_in", "iov_in", "iov_out"):
            assert rest in [p.name for p in parameters(SYSCALLS[name])], f"{name}({each.name}): {each.show}"


def test_overrides_fit_the_declarations() -> None:
    for name, special in OVERRIDES.items():
        if name in SYSCALLS:
            assert max(special) < len(parameters(SYSCALLS[name])), name
