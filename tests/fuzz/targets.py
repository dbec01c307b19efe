"""The targets. Each is a function that makes a Target; `TARGETS` has them by name.

What counts as broken: any exception that is not the errno, or the advice, that the code promises; and what `check` of a target
asserts afterwards. Bytes become calls in the simplest way, so that mutations of them stay meaningful.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trapline.abi import ioctl as ioctls
from trapline.abi import x86_64 as x
from trapline.abi.errno import Errno
from trapline.abi.syscalls import X86_64
from trapline.cli import values
from trapline.cli.options import UsageError, parse
from trapline.cli.run import OPTIONS
from trapline.kernel.syscalls.declare import SYSCALLS
from trapline.kernel.syscalls.find import declare_all
from trapline.kernel.task.task import DEAD

from .engine import Target
from .world import AREA, PAGE, World, cut

declare_all()

AT_FDCWD = 0xFFFF_FF9C
NAME, DATA, MORE = AREA, AREA + 2 * PAGE, AREA + 8 * PAGE  #: where targets put paths, structures, what these point to


# ---- programs


def elf_file(*headers: tuple[int, int, int, int, int, int], entry: int = 0x40_0000, kind: int = 2, tail: bytes = b"") -> bytes:
    """An x86-64 ELF file; a header is (type, flags, offset, vaddr, filesz, memsz)."""
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1".ljust(16, b"\0"), kind, 62, 1, entry, 64, 0, 0, 64, 56, len(headers), 64, 0, 0
    )
    table = (struct.pack("<IIQQQQQQ", t, f, o, v, v, fs, ms, 0x1000) for t, f, o, v, fs, ms in headers)
    return head + b"".join(table) + tail


def _execute(world: World, data: bytes) -> None:
    world.fresh()
    world.kernel.system.vfs.add_file(b"/tmp/program", data, 0o755)
    world.put(NAME, b"/tmp/program\0")
    world.put(DATA, struct.pack("<QQ", NAME, 0))
    result = world.call("execve", NAME, DATA, 0)
    if result is None or result >= 0:  # it is another program now, or dead
        world.respawn()


def elf() -> Target:
    world = World()
    load, interp, stack = (1, 5, 0, 0x40_0000, 0x200, 0x3000), (3, 4, 0xE8, 0x40_00E8, 28, 28), (0x6474_E551, 6, 0, 0, 0, 0)
    loader = b"/lib64/ld-linux-x86-64.so.2\0"
    return Target(
        "elf", "execve(2) of an ELF file", lambda data: _execute(world, data),
        [
            elf_file(load, stack, tail=b"\x0f\x05" * 200),
            elf_file(load, interp, stack, tail=loader.ljust(300, b"\0")),
            elf_file((1, 4, 0, 0, 0x400, 0x400), (1, 6, 0x400, 0x1400, 0x10, 0x5000), kind=3, entry=0x100, tail=bytes(0x400)),
        ],
        [loader, *(struct.pack("<I", each) for each in (1, 2, 3, 6, 7, 0x6474_E550, 0x6474_E551, 0x6474_E553))],
        world.close,
    )  # fmt: skip


def script() -> Target:
    world = World()
    seeds = [b"#!/bin/true\n", b"#! /bin/sh -x y z\necho\n", b"#!" + b"a" * 300, b"#!/tmp/program\n", b"#!\t \n", b"#!sh\0x"]
    return Target(
        "script", "execve(2) of a #! script", lambda data: _execute(world, b"#!" + data[2:]), seeds,
        [b"#!", b"/bin/true", b"/tmp/program", b" ", b"\t", b"\n", b"\0", b"/proc/self/exe", b"/dev/null", b"/"], world.close,
    )  # fmt: skip


# ---- paths

_PATH_CALLS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("openat", (AT_FDCWD, 1, 0o102, 0o600)), ("openat", (AT_FDCWD, 1, 0o200000, 0)), ("openat", (AT_FDCWD, 1, 0o10000000, 0)),
    ("mkdir", (1, 0o777)), ("rmdir", (1,)), ("unlink", (1,)), ("symlink", (1, 2)), ("link", (1, 2)), ("rename", (1, 2)),
    ("renameat2", (AT_FDCWD, 1, AT_FDCWD, 2, 2)), ("stat", (1, DATA)), ("lstat", (1, DATA)), ("readlink", (1, DATA, 64)),
    ("chdir", (1,)), ("access", (1, 4)), ("truncate", (1, 100)), ("chmod", (1, 0o700)), ("mknod", (1, 0o10600, 0)),
    ("getcwd", (DATA, 4096)), ("statfs", (1, DATA)), ("openat2", (AT_FDCWD, 1, MORE, 24)), ("chroot", (1,)),
    ("listxattr", (1, DATA, 64)), ("inotify_add_watch", (3, 1, 0xFFF)), ("utimensat", (AT_FDCWD, 1, 0, 0)),
    ("unlinkat", (AT_FDCWD, 1, 0x200)), ("linkat", (AT_FDCWD, 1, AT_FDCWD, 2, 0x400)), ("linkat", (3, 1, AT_FDCWD, 2, 0x1000)),
)  # fmt: skip


def walk() -> Target:
    """The input: a byte that chooses a call, then its paths, each ended by NUL; and so on."""
    world = World()

    def run(data: bytes) -> None:
        world.fresh()
        rest = data
        for _ in range(12):
            if not rest:
                break
            name, arguments = _PATH_CALLS[rest[0] % len(_PATH_CALLS)]
            first, _, rest = rest[1:].partition(b"\0")
            world.put(NAME, first[:5000] + b"\0")
            if 2 in arguments:
                second, _, rest = rest.partition(b"\0")
                world.put(MORE, second[:5000] + b"\0")
            world.call(name, *({1: NAME, 2: MORE}.get(each, each) if isinstance(each, int) else 0 for each in arguments))

    tokens = [b"/", b"..", b".", b"\0", b"/tmp/", b"/proc/self/fd/3", b"/proc/self/cwd", b"/proc/self/", b"/dev/", b"a", b"a/b", b"/sys"]
    return Target(
        "walk", "paths: links, dots, names, through twenty calls", run,
        [
            b"\x03a\0\x03a/b\0\x06..\0a/up\0\x00a/up/file\0\x0aa/up/./a/b/../file\0",
            b"\x06loop\0loop\0\x00loop\0\x06./x/\0x\0\x00x/y\0",
            b"\x00f\0\x07f\0g\0\x08g\0h\0\x09f\0h\0\x05f\0\x12\0",
            b"\x03d\0\x0dd\0\x15.\0\x12\0\x0a../../..\0\x00/proc/self/fd/3\0",
        ],
        tokens, world.close,
    )  # fmt: skip


# ---- signal frames


def frame() -> Target:
    """The input: the frame that rt_sigreturn(2) finds, then the FP image. FPSTATE of the frame is set to where that is."""
    world = World()
    size = 440
    where = DATA + 8

    def run(data: bytes) -> None:
        world.fresh()
        body, image = cut(data, [size])
        if body[224:232] != bytes(8):
            body = body[:224] + struct.pack("<Q", MORE + (body[224] & 7)) + body[232:]
        world.put(where, body)
        world.put(MORE, image)
        regs = world.task.ctx.regs
        regs[x.RSP] = where
        world.call("rt_sigreturn")
        if world.task.state == DEAD:
            return  # of SIGSEGV: what its registers say is not run
        if regs[x.CSGSFS] & 0xFFFF not in (x.USER_CS, x.USER32_CS) or regs[x.EFLAGS] & 0x3000 or not regs[x.EFLAGS] & x.IF:
            raise AssertionError(f"selectors {regs[x.CSGSFS]:#x} or flags {regs[x.EFLAGS]:#x} that user code must not have")
        if regs[x.RIP] >= world.kernel.system.machine.arch.task_size and regs[x.RIP] >> 12 != x.VSYSCALL >> 12:
            raise AssertionError(f"user code at {regs[x.RIP]:#x}")

    words = [0] * 55
    words[5 + x.RIP], words[5 + x.RSP], words[5 + x.EFLAGS], words[5 + x.CSGSFS] = 0x40_0000, AREA + PAGE, 0x246, 0x33 | 0x2B << 48
    words[28] = 1
    fresh = world.task.ctx.get_fp()
    plain = struct.pack("<55Q", *words)
    tokens = [struct.pack("<H", each) for each in (0x33, 0x2B, 0x23, 0x10, 0)] + [b"XPF\xa8", b"EPF\xa8"]
    return Target(
        "frame", "rt_sigreturn(2) of a forged frame", run, [plain[:224] + bytes(8) + plain[232:], plain + fresh], tokens, world.close
    )


# ---- ioctl


def ioctl() -> Target:
    """The input: records of (what file, which request or 0xFF and four bytes, argument's length, argument)."""
    world = World()
    requests = sorted({value for name, value in vars(ioctls).items() if name.isupper() and isinstance(value, int)})

    def descriptors() -> list[int]:
        world.put(NAME, b"/dev/ptmx\0f\0")
        master = world.call("openat", AT_FDCWD, NAME, 2, 0) or 0
        world.put(DATA, bytes(4))
        world.call("ioctl", master, ioctls.TIOCSPTLCK, DATA)
        slave = world.call("ioctl", master, ioctls.TIOCGPTPEER, 0o2) or 0
        world.call("pipe2", DATA, 0o4000)
        file = world.call("openat", AT_FDCWD, NAME + 10, 0o102, 0o600) or 0
        others = [world.call("socket", 1, 1, 0), world.call("epoll_create1", 0), world.call("inotify_init1", 0o4000),
                  world.call("timerfd_create", 1, 0o4000), world.call("eventfd2", 1, 0o4000)]  # fmt: skip
        return [master, slave, slave + 1, file, 0, *(each or 0 for each in others)]

    def run(data: bytes) -> None:
        world.fresh()
        world.call("setsid")
        files, rest = descriptors(), data
        for _ in range(16):
            if len(rest) < 3:
                break
            fd, which, length = files[rest[0] % len(files)], rest[1], rest[2]
            rest = rest[3:]
            request = requests[which % len(requests)]
            if which == 0xFF:
                request, rest = int.from_bytes(rest[:4], "little"), rest[4:]
            argument, rest = rest[:length], rest[length:]
            world.put(DATA, argument.ljust(64, b"\0"))
            if which == 0xFE:
                world.call("write", fd, DATA, length)
            elif which == 0xFD:
                world.call("read", fd, MORE, length)
            else:
                world.call("ioctl", fd, request, DATA if length else int.from_bytes(rest[:1], "little"))

    def record(fd: int, request: int, argument: bytes = b"") -> bytes:
        return bytes((fd, requests.index(request) if request < 1 << 40 else request - (1 << 40), len(argument))) + argument

    write, read = 0xFE + (1 << 40), 0xFD + (1 << 40)
    raw = struct.pack("<IIIIB19s", 0, 0, 0xBF, 0, 0, bytes(19))
    canonical = struct.pack("<IIIIB19s", 0x500, 5, 0xBF, 0x8A3B, 0, b"\3\34\177\25\4\0\1\0\21\23\32\0\22\17\27\26\0\0\0")
    return Target(
        "ioctl", "ioctl(2), with reads and writes, on terminals and all else", run,
        [
            record(0, ioctls.TCGETS, raw) + record(1, ioctls.TCSETS, raw) + record(0, write, b"a\3\4b\n") + record(1, read, bytes(60)),
            record(1, ioctls.TCSETS, canonical) + record(0, write, b"ab\x7f\x17c\x16\x03\n\x04") + record(1, read, bytes(9))
            + record(1, ioctls.FIONREAD, bytes(4)) + record(1, ioctls.TIOCSTI, b"x"),
            record(1, ioctls.TIOCSCTTY) + record(1, ioctls.TIOCSPGRP, bytes(4)) + record(0, ioctls.TIOCPKT, b"\1\0\0\0")
            + record(0, ioctls.TIOCSWINSZ, b"\x18\0\x50\0\0\0\0\0") + record(1, ioctls.TIOCGSID, bytes(4)),
            b"".join(record(fd, each, bytes(8)) for fd in (3, 5) for each in (ioctls.FIONBIO, ioctls.FIOQSIZE, ioctls.FIOASYNC)),
        ],
        [raw, canonical, b"\xff", b"\xfe", b"\xfd"], world.close,
    )  # fmt: skip


# ---- sockets


def sockets() -> Target:
    """The input: records of (call, socket, lengths), an address, control bytes, and payload."""
    world = World()
    calls: list[Callable[[int, int, int, int], object]] = [
        lambda fd, a, c, n: world.call("bind", fd, DATA, a),
        lambda fd, a, c, n: world.call("connect", fd, DATA, a),
        lambda fd, a, c, n: world.call("sendto", fd, MORE, n, 0x4040, DATA, a),
        lambda fd, a, c, n: world.call("sendmsg", fd, NAME, 0x4040),
        lambda fd, a, c, n: world.call("recvmsg", fd, NAME, 0x40),
        lambda fd, a, c, n: world.call("recvfrom", fd, MORE, n, 0x40, DATA, NAME + 120),
        lambda fd, a, c, n: world.call("listen", fd, n),
        lambda fd, a, c, n: world.call("accept4", fd, DATA, NAME + 120, 0o4000),
        lambda fd, a, c, n: world.call("getsockname", fd, DATA, NAME + 120),
        lambda fd, a, c, n: world.call("getpeername", fd, DATA, NAME + 120),
        lambda fd, a, c, n: world.call("setsockopt", fd, 1, a, MORE, n),
        lambda fd, a, c, n: world.call("getsockopt", fd, 1, a, MORE, NAME + 120),
        lambda fd, a, c, n: world.call("sendmmsg", fd, NAME, 2, 0x4040),
        lambda fd, a, c, n: world.call("recvmmsg", fd, NAME, 2, 0x40, 0),
        lambda fd, a, c, n: world.call("shutdown", fd, n & 3),
        lambda fd, a, c, n: world.call("close", fd),
    ]

    def run(data: bytes) -> None:
        world.fresh()
        for kind in (1, 2, 5):
            world.call("socketpair", 1, kind | 0o4000, 0, DATA)  # 3 to 8
            world.call("socket", 1, kind | 0o4000, 0)
        rest = data
        for _ in range(8):
            if len(rest) < 5:
                break
            which, fd, a, c, n = rest[0] % len(calls), 3 + rest[1] % 9, rest[2], rest[3], rest[4]
            address, control, rest = rest[5 : 5 + a], rest[5 + a : 5 + a + c], rest[5 + a + c :]
            world.put(DATA, address)
            world.put(MORE, control + bytes(8))
            world.put(MORE + PAGE, struct.pack("<4Q", MORE, n, MORE + 2 * PAGE, n & 7))
            message = struct.pack("<QIIQQQQIi", DATA, a, 0, MORE + PAGE, n & 3, MORE, c, 0, n)
            world.put(NAME, message * 2 + struct.pack("<II", a, n))
            calls[which](fd, a, c, n)

    def record(which: int, fd: int, address: bytes = b"", control: bytes = b"", n: int = 4) -> bytes:
        return bytes((which, fd, len(address), len(control), n)) + address + control

    rights = struct.pack("<QIIii", 24, 1, 1, 3, 4)
    creds = struct.pack("<QIIIII4x", 28, 1, 2, 2, 1000, 1000)
    name = b"\1\0sock\0"
    return Target(
        "sockets", "addresses, messages and control messages of UNIX sockets", run,
        [
            record(0, 2, name) + record(6, 2) + record(1, 5, name) + record(3, 0, b"", rights) + record(4, 1, bytes(16), bytes(64)),
            record(0, 8, b"\1\0\0abstract") + record(2, 5, b"\1\0\0abstract") + record(5, 8, bytes(20)) + record(7, 2),
            record(10, 0, bytes(16), b"\1\0\0\0") + record(3, 0, b"", rights + creds) + record(4, 1, b"", bytes(99)) + record(8, 0),
            record(0, 5, b"\1\0") + record(12, 3, b"", rights) + record(13, 4, b"", bytes(60)) + record(14, 3, n=2) + record(15, 3),
        ],
        [rights, creds, name, b"\1\0", b"\1\0\0x", struct.pack("<QII", 16, 1, 1), struct.pack("<QII", 20, 1, 2)], world.close,
    )  # fmt: skip


# ---- filters


def _reference(program: list[tuple[int, int, int, int]], data: list[int], length: int) -> int:
    """What a checked classic BPF program returns, from the fields of its instructions (linux/bpf_common.h) and no tables."""
    a = x = at = 0
    memory = [0] * 16
    for _ in program:
        code, true, false, k = program[at]
        at += 1
        kind, mode, operand = code & 7, code & 0xE0, x if code & 8 else k
        if kind in (0, 1):
            value = {0x00: k, 0x20: data[k >> 2 if mode == 0x20 else 0], 0x60: memory[k & 15], 0x80: length}[mode]
            a, x = (value, x) if kind == 0 else (a, value)
        elif kind in (2, 3):
            memory[k] = a if kind == 2 else x
        elif kind == 4:
            op = code & 0xF0
            if op == 0x30 and not operand:
                return 0
            a = {
                0x00: a + operand, 0x10: a - operand, 0x20: a * operand, 0x30: a // (operand or 1), 0x40: a | operand,
                0x50: a & operand, 0x60: a << (operand & 31), 0x70: a >> (operand & 31), 0x80: -a, 0xA0: a ^ operand,
            }[op] % (1 << 32)  # fmt: skip
        elif kind == 5:
            op = code & 0xF0
            taken = {0x10: a == operand, 0x20: a > operand, 0x30: a >= operand, 0x40: a & operand}.get(op)
            at += k if op == 0 else true if taken else false
        elif kind == 6:
            return a if code & 0x10 else k
        else:
            a, x = (x, x) if code & 0x80 else (a, a)
    raise AssertionError("a program that was checked does not end")


def bpf() -> Target:
    """The input: instructions of a seccomp(2) filter. What the checker takes ends as another interpreter says, and is installed."""
    from trapline.abi.seccomp import SOCK_FILTER
    from trapline.kernel.bpf import classic

    world = World()
    data = [39, 0xC000_003E, 0x1234, 0, *range(1, 13)]

    def run(code: bytes) -> None:
        program = list(SOCK_FILTER.iter_unpack(code[: len(code) // 8 * 8][:4096]))
        with suppress(Errno):
            classic.check(program, len(data))
            got, wanted = classic.run(program, data, 64), _reference(program, data, 64)
            if got != wanted:
                raise AssertionError(f"{program}: {got:#x} instead of {wanted:#x}")
        world.fresh()
        world.put(MORE, code[:4096])
        world.put(DATA, struct.pack("<H6xQ", len(program), MORE))
        world.call("prctl", 38, 1, 0, 0, 0)
        if world.call("seccomp", 1, 0, DATA) == 0:
            for name in ("getpid", "mmap", "seccomp", "write"):
                world.call(name, 0, 1, 2, 3, 4, 5)
            world.respawn()

    def program(*instructions: tuple[int, int, int, int]) -> bytes:
        return b"".join(SOCK_FILTER.pack(*each) for each in instructions)

    load, allow, kill, error = (0x20, 0, 0, 0), (6, 0, 0, 0x7FFF_0000), (6, 0, 0, 0), (6, 0, 0, 0x5_0001)
    seeds = [
        program(load, (0x15, 0, 1, 39), allow, error),
        program((0x20, 0, 0, 4), (0x15, 1, 0, 0xC000_003E), kill, (0x20, 0, 0, 16), (2, 0, 0, 3), (0x60, 0, 0, 3), (0x16, 0, 0, 0)),
        program((1, 0, 0, 7), (0x80, 0, 0, 0), (0x0C, 0, 0, 0), (0x3C, 0, 0, 0), (0x84, 0, 0, 0), (7, 0, 0, 0), (0x1D, 0, 1, 0), allow, kill),
        program((0x81, 0, 0, 0), (0x87, 0, 0, 0), (0x64, 0, 0, 4), (0xA4, 0, 0, 99), (0x25, 0, 1, 5), (5, 0, 0, 1), (6, 0, 0, 3 << 16), allow),
    ]
    codes = [*range(0, 0x100, 4), 1, 0x61, 0x81, 2, 3, 6, 0x16, 7, 0x87, 5, 0x15, 0x1D, 0x25, 0x2D, 0x35, 0x3D, 0x45, 0x4D]
    return Target("bpf", "programs of seccomp(2)", run, seeds, [SOCK_FILTER.pack(each, 0, 1, each & 15) for each in codes], world.close)


# ---- archives


def tar() -> Target:
    from trapline.kernel.drivers.hostfs_tar import BadArchiveError, unpack
    from trapline.kernel.fs.tmpfs import TmpFs

    world = World()
    scratch = tempfile.NamedTemporaryFile(prefix="trapline-fuzz-", suffix=".tar")  # noqa: SIM115 - lives as long as the target

    def run(data: bytes) -> None:
        world.fresh()
        Path(scratch.name).write_bytes(data)
        vfs = world.kernel.system.vfs
        with suppress(BadArchiveError, Errno):
            unpack(vfs, TmpFs(vfs, mode=0o755, max_pages=256, max_inodes=100), scratch.name, lambda line: None)

    def close() -> None:
        world.close()
        scratch.close()

    return Target("tar", "a tar archive for --root", run, [_archive(kind) for kind in (0, 1, 2)], [b"ustar\x0000", b"../", b"/"], close)


def _archive(kind: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=(tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)[kind]) as file:
        for name, what, link in (("d", b"5", ""), ("d/f", b"0", ""), ("l", b"2", "d/f"), ("h", b"1", "d/f"), ("p", b"6", ""), ("c", b"3", "")):
            info = tarfile.TarInfo(name * (60 if kind and what == b"0" else 1))
            info.type, info.linkname, info.mode, info.size = what, link, 0o644, 5 if what == b"0" else 0
            if kind == 2:
                info.mtime, info.pax_headers = 1.5, {"SCHILY.xattr.user.a": "b", "mtime": "1e3"}
            file.addfile(info, io.BytesIO(b"hello"))
    return out.getvalue()


# ---- the command line


def cli() -> Target:
    """The input: words, each ended by NUL."""
    parsers: dict[str, Callable[[str], object]] = {
        "--memory": lambda text: values.size("--memory", text),
        "--timeout": lambda text: values.duration_ns("--timeout", text),
        "--pids": lambda text: values.number("--pids", text, 1, 1 << 22),
        "--seed": lambda text: values.number("--seed", text, 0, (1 << 64) - 1),
        "--hostname": values.hostname, "--bind": values.bind, "--user": values.identity,
        "--rw": lambda text: values.existing("--rw", text),
    }  # fmt: skip

    def run(data: bytes) -> None:
        words = [os.fsdecode(each) for each in data.split(b"\0")]
        with suppress(UsageError):
            parsed = parse(words, OPTIONS)
            for name, parser in parsers.items():
                for text in parsed.all(name):
                    with suppress(UsageError):
                        parser(text)

    seeds = [
        b"--memory\x001.5GiB\0--timeout=2m\0--pids\x000x10\0--user\x001000:100\0true\0--help",
        b"--bind\0/tmp:/x:rw\0--bind=/:/\0--hostname\0h\0--seed=1\0--\0-x", b"--user=nobody\0--rw\0/\0--trace\0--log=\0-h",
    ]  # fmt: skip
    tokens = [option.name.encode() for option in OPTIONS] + [b"=", b"\0", b":", b"inf", b"nan", b"1e999", b"-1", b"_", b"0x", b"\xff", b"K"]
    return Target("cli", "options of trapline run and their values", run, seeds, tokens)


# ---- all calls


def calls() -> Target:
    """The input: for each call a byte for which, six bytes for its arguments, and bytes that fill the memory they point to."""
    world = World()
    left_out = ("exit", "exit_group", "execve", "execveat", "vfork")
    names = sorted(name for name in SYSCALLS if name in X86_64 and name not in left_out)
    words = [0, 1, 2, 3, 4, 5, 7, 8, 16, 64, PAGE, 1 << 12, 1 << 16, 1 << 20, 0x7FFF_FFFF, 1 << 31, (1 << 32) - 1, AT_FDCWD, 1 << 63,
             (1 << 64) - 1, (1 << 64) - 8, (1 << 47) - PAGE, 1 << 47, AREA - 8, AREA + 16 * PAGE - 8]  # fmt: skip
    words += [DATA, DATA, DATA + 1, MORE, MORE + 8, NAME, NAME] * 2

    def run(data: bytes) -> None:
        world.fresh()
        world.put(NAME, b"f\0")
        world.call("openat", AT_FDCWD, NAME, 0o102, 0o600)
        world.call("socketpair", 1, 0o4001, 0, DATA)
        world.call("pipe2", DATA, 0o4000)
        world.call("epoll_create1", 0)
        rest = data
        for _ in range(16):
            if len(rest) < 9:
                break
            name = names[(rest[0] | rest[1] << 8) % len(names)]
            arguments = [words[each % len(words)] if each < 192 else each - 192 for each in rest[2:8]]
            length = rest[8]
            world.put(DATA, rest[9 : 9 + length])
            rest = rest[9 + length :]
            world.call(name, *arguments)

    def record(name: str, *arguments: int, memory: bytes = b"") -> bytes:
        index = names.index(name)
        picks = bytes(192 + each if each < 64 else words.index(each) for each in (*arguments, 0, 0, 0, 0, 0, 0)[:6])
        return bytes((index & 255, index >> 8)) + picks + bytes((len(memory),)) + memory

    iovec = struct.pack("<4Q", MORE, 8, AREA, 16)
    seeds = [record(name, 3, DATA, 1, 0, 0, 0, memory=iovec) + record(name, DATA, 4, DATA, 1, memory=b"x\0") for name in names]
    seeds.append(record("writev", 3, DATA, 2, memory=iovec) + record("lseek", 3, 0, 0) + record("readv", 3, DATA, 2, memory=iovec))
    return Target("calls", "sequences of every declared call", run, seeds, [iovec, *(each.to_bytes(8, "little") for each in words)], world.close)


TARGETS: dict[str, Callable[[], Target]] = {
    make.__name__: make for make in (elf, script, walk, frame, ioctl, sockets, bpf, tar, cli, calls)
}
