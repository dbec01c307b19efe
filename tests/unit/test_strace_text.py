"""How traces write bytes, numbers, flags, structures and signals: as strace 6.1 does."""

from __future__ import annotations

import importlib
import pkgutil
import struct
from types import ModuleType

import pytest

from trapline import abi
from trapline.abi import signal as abi_signal
from trapline.kernel.task.signals.siginfo import SigInfo
from trapline.scope.strace import names, structs, text
from trapline.scope.strace.siginfo import render


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", '""'),
        (b"abc", '"abc"'),
        (b"a\0\n\200a\0\n\200", r'"a\0\n\200a\0\n\200"'),
        (b"\x7fELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0>\0\1\0\0\0\0\0\0\0\0\0\0\0", r'"\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0>\0\1\0\0\0\0\0\0\0\0\0\0\0"'),
        (b"\0001", r'"\0001"'),
        (b"\1x\0019", r'"\1x\0019"'),
        (b'"\\\t\r\v\f', r'"\"\\\t\r\v\f"'),
        (b"x" * 40, '"' + "x" * 32 + '"...'),
    ],
)
def test_strings_are_escaped_as_in_c(data: bytes, shown: str) -> None:
    assert text.quote(data) == shown


def test_random_bytes_are_hexadecimal() -> None:
    assert text.quote_hex(b"\xa6\xd6\x12") == r'"\xa6\xd6\x12"'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0o100644, "S_IFREG|0644"), (0o041777, "S_IFDIR|S_ISVTX|0777"), (0o104755, "S_IFREG|S_ISUID|0755"),
        (0o020620, "S_IFCHR|0620"), (0o120777, "S_IFLNK|0777"),
    ],
)  # fmt: skip
def test_file_modes(value: int, shown: str) -> None:
    assert text.mode(value) == shown


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (0, "{WIFEXITED(s) && WEXITSTATUS(s) == 0}"), (3 << 8, "{WIFEXITED(s) && WEXITSTATUS(s) == 3}"),
        (9, "{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}"), (0x8B, "{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}"),
        (0x137F, "{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}"), (0xFFFF, "{WIFCONTINUED(s)}"),
    ],
)  # fmt: skip
def test_wait_statuses(status: int, shown: str) -> None:
    assert text.wait_status(status) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "O_RDONLY"), (0o2000000, "O_RDONLY|O_CLOEXEC"), (0o2000302, "O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC"),
        (0o2204000, "O_RDONLY|O_NONBLOCK|O_CLOEXEC|O_DIRECTORY"), (0o20200002, "O_RDWR|O_TMPFILE"),
    ],
)  # fmt: skip
def test_open_flags(value: int, shown: str) -> None:
    assert structs.open_flags(value) == shown


def test_flags_without_a_name_stay_visible() -> None:
    assert names.flags("prot", 3) == "PROT_READ|PROT_WRITE"
    assert names.flags("prot", 0x40000001) == "PROT_READ|0x40000000"
    assert names.flags("prot", 0x40000000) == "0x40000000 /* ??? */"
    assert names.flags("prot", 0) == "0"
    assert names.enum("whence", 2) == "SEEK_END"
    assert "0x63" in names.enum("whence", 99)


@pytest.mark.parametrize(
    ("mask", "shown"),
    [
        (0, "[]"), (1 << 16, "[CHLD]"), (1 << 31 | 1 << 32, "[RTMIN RT_1]"),
        (~(1 << 8 | 1 << 18 | 1 << 31 | 1 << 32), "~[KILL STOP RTMIN RT_1]"), (-1, "~[]"),
    ],
)  # fmt: skip
def test_signal_sets(mask: int, shown: str) -> None:
    assert names.signal_set(mask) == shown


def test_structures() -> None:
    shapes = structs.SHAPES
    stat = struct.pack("<QQQIII4xQqqq", 1, 2, 1, 0o100644, 0, 0, 0, 1271, 4096, 8).ljust(144, b"\0")
    assert shapes["stat"].show(stat) == "{st_mode=S_IFREG|0644, st_size=1271, ...}"
    device = struct.pack("<QQQIII4xQqqq", 1, 2, 1, 0o020620, 0, 5, 0x8801, 0, 1024, 0).ljust(144, b"\0")
    assert shapes["stat"].show(device) == "{st_mode=S_IFCHR|0620, st_rdev=makedev(0x88, 0x1), ...}"
    limit = struct.pack("<QQ", 8 << 20, (1 << 64) - 1)
    assert shapes["rlimit"].show(limit) == "{rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}"
    action = struct.pack("<QQQQ", 1, 0x04000000, 0x7F0000001000, 0)
    assert shapes["sigaction"].show(action) == (
        "{sa_handler=SIG_IGN, sa_mask=[], sa_flags=SA_RESTORER, sa_restorer=0x7f0000001000}"
    )
    assert shapes["itimerval"].show(struct.pack("<qqqq", 0, 0, 1, 500000)) == (
        "{it_interval={tv_sec=0, tv_usec=0}, it_value={tv_sec=1, tv_usec=500000}}"
    )
    assert shapes["epoll_event"].show(struct.pack("<IQ", 1, 3)) == "{events=EPOLLIN, data={u32=3, u64=3}}"
    assert structs.sockaddr(b"\1\0/tmp/x\0") == '{sa_family=AF_UNIX, sun_path="/tmp/x"}'
    assert structs.sockaddr(b"\1\0\0abc") == '{sa_family=AF_UNIX, sun_path=@"abc"}'
    assert structs.sockaddr(b"\1\0") == "{sa_family=AF_UNIX}"
    assert structs.cpu_set(b"\3" + bytes(7)) == "[0 1]"


@pytest.mark.parametrize("name", sorted(structs.SHAPES))
def test_every_shape_shows_any_bytes(name: str) -> None:
    shape = structs.SHAPES[name]
    for filler in (b"\0", b"\xff", b"\1", b"\x80"):
        assert shape.show(filler * shape.size)


@pytest.mark.parametrize(
    ("info", "shown"),
    [
        (SigInfo(17, 1, pid=11861, uid=0, status=0), "{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=11861, si_uid=0, si_status=0, si_utime=0, si_stime=0}"),
        (SigInfo(17, 2, pid=5, uid=0, status=9), "{si_signo=SIGCHLD, si_code=CLD_KILLED, si_pid=5, si_uid=0, si_status=SIGKILL, si_utime=0, si_stime=0}"),
        (SigInfo(11, 1, addr=0), "{si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL}"),
        (SigInfo(10, 0, pid=7, uid=1000), "{si_signo=SIGUSR1, si_code=SI_USER, si_pid=7, si_uid=1000}"),
        (SigInfo(6, -6, pid=7, uid=0), "{si_signo=SIGABRT, si_code=SI_TKILL, si_pid=7, si_uid=0}"),
        (SigInfo(14, 0x80), "{si_signo=SIGALRM, si_code=SI_KERNEL}"),
    ],
)
def test_signals(info: SigInfo, shown: str) -> None:
    assert render(info) == shown


def abi_modules() -> list[ModuleType]:
    return [importlib.import_module(f"trapline.abi.{each.name}") for each in pkgutil.iter_modules(abi.__path__)]


def test_names_agree_with_the_kernels_own_numbers() -> None:
    """Every name that `abi` defines too has the same number there."""
    checked = 0
    for table in (*names.FLAGS.values(), *names.ENUMS.values()):
        for value, name in table.items():
            for module in abi_modules():
                other = getattr(module, name, None)
                if isinstance(other, int) and name not in ("O_SYNC", "F_OK", "STATX_ALL"):
                    assert other & 0xFFFFFFFFFFFFFFFF == value & 0xFFFFFFFFFFFFFFFF, (module.__name__, name)
                    checked += 1
    assert checked > 100
    assert all(names.SIGNALS[n] == abi_signal.NAMES[n][3:] for n in range(1, 33))
