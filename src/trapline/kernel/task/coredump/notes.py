"""The notes of a core dump: who the process was, why it ended, and what its threads had in their registers.

Their order is Linux's: the thread that took the signal first, with what is the process's own behind its registers.
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi import core as c
from trapline.abi import riscv64
from trapline.abi import x86_64 as x
from trapline.abi.errno import Errno
from trapline.kernel.task.cputime import group_user_ns, user_ns
from trapline.machine.paging.entry import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.mm.address_space import AddressSpace
    from trapline.kernel.task.signals.siginfo import SigInfo
    from trapline.kernel.task.task import Task

_MASK64 = (1 << 64) - 1
#: x86-64: struct user_regs_struct, as places in `Context.regs`, between RDI (its number: orig_rax) and what follows it
_X86_FIRST = (x.R15, x.R14, x.R13, x.R12, x.RBP, x.RBX, x.R11, x.R10, x.R9, x.R8, x.RAX, x.RCX, x.RDX, x.RSI, x.RDI)


def notes(threads: list[Task], info: SigInfo) -> bytes:
    """The contents of PT_NOTE. `threads`: all of the process, the one that took `info` first."""
    main, mm = threads[0], threads[0].mm
    parts = [
        _note(c.NT_PRSTATUS, _prstatus(main, info.signo)),
        _note(c.NT_PRPSINFO, _prpsinfo(main)),
        _note(c.NT_SIGINFO, info.pack()[:128].ljust(128, b"\0")),
        _note(c.NT_AUXV, mm.saved_auxv),
    ]
    files = _files(mm)
    if files:
        parts.append(_note(c.NT_FILE, files))
    parts += _vectors(main)
    for each in threads[1:]:
        parts += [_note(c.NT_PRSTATUS, _prstatus(each, info.signo)), *_vectors(each)]
    return b"".join(parts)


def _note(kind: int, body: bytes, name: bytes = b"CORE\0") -> bytes:
    head = c.NHDR.pack(len(name), len(body), kind) + name
    return head.ljust(len(head) + 3 & ~3, b"\0") + body.ljust(len(body) + 3 & ~3, b"\0")


# ---- one thread


def _prstatus(task: Task, signo: int) -> bytes:
    group = task.group
    whole = task is group.leader
    user = group_user_ns(group) if whole else user_ns(task)
    system = (group.stime_ns if whole else 0) + sum(each.stime_ns for each in (group.tasks if whole else [task]))
    times = [part for ns in (user, system, group.cutime_ns, group.cstime_ns) for part in divmod(ns // 1000, 10**6)]
    parent = group.parent.pid if group.parent is not None else 0
    head = c.PRSTATUS_HEAD.pack(
        signo, 0, 0, signo, task.pending.mask, task.blocked, task.tid, parent, group.pgid, group.sid, *times
    )
    words = _registers(task)
    return head + b"".join((each & _MASK64).to_bytes(8, "little") for each in words) + c.PRSTATUS_TAIL.pack(1)


def _registers(task: Task) -> list[int]:
    """The registers in the order of ptrace(2)'s `struct user_regs_struct`."""
    regs = task.ctx.regs
    if task.kernel.machine.arch.name == "riscv64":
        return [regs[riscv64.PC], *regs[1:32]]
    segments = regs[x.CSGSFS]
    first = [regs[each] for each in _X86_FIRST]
    selectors = [0, 0, segments >> 32 & 0xFFFF, segments >> 16 & 0xFFFF]  # ds, es, fs, gs
    return [
        *first, task.syscall_nr, regs[x.RIP], segments & 0xFFFF, regs[x.EFLAGS], regs[x.RSP], segments >> 48 or x.USER_DS,
        regs[x.FS_BASE], regs[x.GS_BASE], *selectors,
    ]  # fmt: skip


def _vectors(task: Task) -> list[bytes]:
    """The floating-point and vector registers."""
    image = task.ctx.get_fp()
    if task.kernel.machine.arch.name == "riscv64":
        return [_note(c.NT_FPREGSET, image[:264])]
    found = [_note(c.NT_FPREGSET, image[: c.FXSAVE_SIZE])]
    magic, _, features, size = c.SW_BYTES.unpack_from(image, c.SW_OFFSET)
    if magic == c.FP_XSTATE_MAGIC1 and size <= len(image):
        at = c.SW_OFFSET
        whole = image[:at] + features.to_bytes(8, "little") + bytes(c.FXSAVE_SIZE - at - 8) + image[c.FXSAVE_SIZE : size]
        found.append(_note(c.NT_X86_XSTATE, whole, b"LINUX\0"))
    return found


# ---- the process


def _prpsinfo(task: Task) -> bytes:
    group, creds, mm = task.group, task.creds, task.mm
    parent = group.parent.pid if group.parent is not None else 0
    try:
        words = mm.read(mm.arg_start, min(c.PSARGS, max(0, mm.arg_end - mm.arg_start)))
    except Errno:
        words = b""
    state = (0, b"R") if task is group.leader else (2, b"D")  # it waits for the dump
    return c.PRPSINFO.pack(
        *state, 0, group.leader.entity.nice, 0, creds.uid, creds.gid, group.pid, parent, group.pgid, group.sid,
        group.leader.comm[:15], words.replace(b"\0", b" "),
    )  # fmt: skip


def _files(mm: AddressSpace) -> bytes:
    """Which files are mapped where: NT_FILE; b"" if there are none."""
    areas = [each for each in mm.areas() if each.file is not None]
    words = [len(areas), PAGE_SIZE]
    for each in areas:
        words += [each.start, each.end, each.offset >> PAGE_SHIFT]
    names = b"".join(each.file.display_path() + b"\0" for each in areas if each.file is not None)
    return b"".join(word.to_bytes(8, "little") for word in words) + names if areas else b""
