"""execve(2): a new program in an old task.

In a nutshell: find the file, follow `#!`, check the ELF headers, and build a whole new address space beside the old one. Up to
there anything may fail and the old program goes on. Then, at the point of no return, the other threads end, and the new
space, a new context and clean signal handlers take the old ones' place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from trapline.typed import TYPE_CHECKING, NamedTuple

from trapline.abi import elf, riscv64
from trapline.abi.errno import EACCES, EAGAIN, ELIBBAD, ELOOP, ENOENT, ENOEXEC, ETXTBSY, Errno
from trapline.abi.fcntl import AT_FDCWD, AT_SYMLINK_NOFOLLOW, O_RDONLY
from trapline.abi.mman import RLIM_INFINITY
from trapline.abi.mount import MS_NOEXEC
from trapline.abi.personality import ADDR_COMPAT_LAYOUT, ADDR_NO_RANDOMIZE
from trapline.abi.signal import SIGCHLD
from trapline.abi.stat import S_IFLNK, S_IFMT, S_IFREG
from trapline.abi.x86_64 import CSGSFS, EFLAGS, IF, USER_CS, USER_DS
from trapline.kernel.exec import elf as images
from trapline.kernel.exec import imprint, privilege, script, stack
from trapline.kernel.exec.elf import Image
from trapline.kernel.exec.text_busy import allow_write, deny_write
from trapline.kernel.fs.permission import MAY_EXEC, may
from trapline.kernel.mm.address_space import AddressSpace
from trapline.kernel.mm.errors import OutOfFrames, OutOfMemory
from trapline.kernel.mm.populate import prefault, preload
from trapline.kernel.task import exit as exits
from trapline.kernel.task.rlimit import mm_limits
from trapline.machine.contract import NoRoom
from trapline.machine.paging.entry import PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.fs.mount import Path
    from trapline.kernel.task.creds import Credentials
    from trapline.kernel.task.task import Task
    from trapline.machine.contract import Context

MAX_SCRIPTS = 5
CLOCK_TICKS = 100
PIE_RND_BITS = 28
BRK_RND_BITS = 13
STACK_BYTES = 64 << 10  #: of its stack that a program has from the beginning
MASK64 = (1 << 64) - 1


class NoInterpreter(Errno):
    """ENOENT: the program is there, but `interpreter`, which its headers ask for, is not."""

    number, name, text = ENOENT.number, ENOENT.name, ENOENT.text

    def __init__(self, interpreter: bytes) -> None:
        self.why = f"its interpreter {interpreter.decode(errors='replace')} is missing"
        super().__init__(self.why)
        self.interpreter = interpreter


class Leased(Errno):
    """EAGAIN: somebody has a write lease of `inode`, which is to be run, and has been told; wait for it (fs/leases.py)."""

    number, name, text = EAGAIN.number, EAGAIN.name, EAGAIN.text

    def __init__(self, inode: Inode) -> None:
        super().__init__("a lease is in the way")
        self.inode = inode


class Program(NamedTuple):
    """What is to be run, before it is loaded."""

    file: File
    argv: list[bytes]
    name: bytes  #: AT_EXECFN
    comm: bytes
    head: bytes  #: the beginning of the file


class Loaded(NamedTuple):
    """A new address space, ready to run."""

    mm: AddressSpace
    entry: int
    sp: int
    creds: Credentials
    secure: bool  #: AT_SECURE


# ---- finding


def find(task: Task, dirfd: int, name: bytes, argv: list[bytes], at_flags: int = 0) -> Program:
    """Open the program `name`, following scripts to their interpreters."""
    vfs = task.kernel.vfs
    path = vfs.path_at(task, dirfd, name, at_flags)
    if at_flags & AT_SYMLINK_NOFOLLOW and path.inode.mode & S_IFMT == S_IFLNK:
        raise ELOOP
    shown = name if name[:1] == b"/" or dirfd == AT_FDCWD else b"/dev/fd/%d" % dirfd + (b"/" + name if name else b"")
    comm = shown.rpartition(b"/")[2][:15]
    vanishes = shown is not name and task.files.get_cloexec(dirfd)  # before an interpreter could open it by that name
    program = shown
    for _ in range(MAX_SCRIPTS + 1):
        file = open_executable(task, path)
        preload(file)
        head = file.try_pread(images.HEAD, 0) or b""
        if head[:2] != b"#!":
            return Program(file, argv, shown, comm, head)
        file.put()
        if vanishes:
            raise ENOENT("a script in a close-on-exec descriptor")
        interpreter, argument = script.parse(head[: script.LINE])
        argv = [interpreter, *argument, program, *argv[1:]]
        program = interpreter
        path = vfs.walk(task, AT_FDCWD, interpreter)
    raise ELOOP("scripts nested too deeply")


def open_executable(task: Task, path: Path) -> File:
    """A regular file that the task may execute, and that nobody writes; raises EACCES, ETXTBSY, Leased."""
    inode = path.inode
    if inode.mode & S_IFMT != S_IFREG:
        raise EACCES("not a regular file")
    if path.mount.flags & MS_NOEXEC:
        raise EACCES("the file system is mounted noexec")
    may(inode, task.creds, MAY_EXEC)
    if not inode.mode & 0o111:
        raise EACCES("not executable")
    if inode.locks is not None and inode.locks.leases:
        from trapline.kernel.fs import leases

        if leases.must_wait(task, inode, O_RDONLY):
            raise Leased(inode)
    file: File = task.kernel.vfs.open_path(path, O_RDONLY)
    try:
        deny_write(file)
    except ETXTBSY:
        file.put()
        raise
    return file


# ---- loading


def load(task: Task, program: Program, envp: list[bytes]) -> Loaded:
    """Build the address space of `program`; the task is not changed."""
    kernel = task.kernel
    arch = kernel.machine.arch
    limits = mm_limits(task.group)
    stack.check_size(program.argv, envp, program.name, limits.stack)
    image = images.parse(program.file, arch.name, arch.task_size, program.head)
    interpreter = _open_interpreter(task, image)
    aslr = kernel.aslr and not task.personality & ADDR_NO_RANDOMIZE
    policy = task.mm.policy if task.mm is not None else None
    old = bool(task.personality & ADDR_COMPAT_LAYOUT)
    mm = AddressSpace(kernel.machine, limits, aslr=aslr, bottom_up=old, rng=_bits(kernel.random), policy=policy)
    try:
        return _fill(task, mm, program, image, interpreter, envp)
    except OutOfFrames:
        mm.put()
        raise OutOfMemory from None
    except BaseException:
        mm.put()
        raise
    finally:
        if interpreter is not None:
            allow_write(interpreter[0])
            interpreter[0].put()


def _bits(random: Callable[[int], bytes]) -> Callable[[int], int]:
    def bits(count: int) -> int:
        return int.from_bytes(random((count + 7) // 8), "little") & ((1 << count) - 1)

    return bits


def _open_interpreter(task: Task, image: Image) -> tuple[File, Image] | None:
    if not image.interpreter:
        return None
    arch = task.kernel.machine.arch
    try:
        path = task.kernel.vfs.walk(task, AT_FDCWD, image.interpreter)
    except ENOENT:
        raise NoInterpreter(image.interpreter) from None
    file = open_executable(task, path)
    try:
        inner = images.parse(file, arch.name, arch.task_size)
    except Errno as error:
        file.put()
        if error.number == ENOEXEC.number:
            raise ELIBBAD from None
        raise
    return file, inner


def _fill(
    task: Task, mm: AddressSpace, program: Program, image: Image, interpreter: tuple[File, Image] | None, envp: list[bytes]
) -> Loaded:
    kernel = task.kernel
    arch = kernel.machine.arch
    top = mm.set_stack(executable=image.executable_stack and arch.name == "x86_64" and False)
    bias = 0
    if image.movable:
        base = mm.mmap_base if mm.bottom_up else mm.mmap_base - (image.high - image.low)
        base = arch.task_size // 3 * 2 if interpreter is not None else base
        shift = mm.random_bits(min(PIE_RND_BITS, mm.mmap_random_bits)) << 12 if interpreter is not None else 0
        bias = (base & -image.align) + shift - image.low & -image.align
    _map(mm, program.file, image, bias)
    mm.exe_file = program.file.get()
    _set_layout(mm, image, bias)
    entry, base = image.entry + bias & MASK64, 0  # wherever the file says: nothing may be there
    if interpreter is not None:
        file, inner = interpreter
        if inner.movable:
            base = mm.mmap(0, inner.high - inner.low, 0, 0x22) - inner.low
            mm.munmap(base + inner.low, inner.high - inner.low)
        _map(mm, file, inner, base)
        entry = inner.entry + base & MASK64
    creds, secure = privilege.credentials(task, program.file)
    hwcap, hwcap2 = getattr(kernel.machine, "hwcaps", None) or (riscv64.hwcap(arch.isa), 0)
    aux = [
        (elf.AT_MINSIGSTKSZ, arch.fp_size + 1024),
        (elf.AT_HWCAP, hwcap), (elf.AT_PAGESZ, 4096), (elf.AT_CLKTCK, CLOCK_TICKS),
        (elf.AT_PHDR, image.headers + bias if image.headers else 0), (elf.AT_PHENT, elf.PHDR.size),
        (elf.AT_PHNUM, image.header_count), (elf.AT_BASE, base), (elf.AT_FLAGS, 0), (elf.AT_ENTRY, image.entry + bias),
        (elf.AT_UID, creds.uid), (elf.AT_EUID, creds.euid), (elf.AT_GID, creds.gid), (elf.AT_EGID, creds.egid),
        (elf.AT_SECURE, int(secure)), (elf.AT_HWCAP2, hwcap2),
    ]  # fmt: skip
    if kernel.vdso is not None:
        mm.vdso = kernel.vdso.map(mm)
        prefault(mm, mm.vdso - PAGE_SIZE, mm.vdso + PAGE_SIZE)
        aux.insert(0, (elf.AT_SYSINFO_EHDR, mm.vdso))
    slack = mm.random_bits(9) << 4
    prefault(mm, top - STACK_BYTES, top)
    sp = stack.build(mm, top - slack, program.argv, envp, program.name, kernel.abi.platform, kernel.random(16), aux)
    if sp - PAGE_SIZE < top - STACK_BYTES:
        mm.space.hint((sp & -4096) - STACK_BYTES, top)
    return Loaded(mm, entry, sp, creds, secure)


def _map(mm: AddressSpace, file: File, image: Image, bias: int) -> None:
    if imprint.press(mm, file, image, bias):
        return
    before = imprint.counts(mm)
    for each in image.segments:
        start = mm.map_image(each.vaddr + bias, each.length, each.prot, file, each.offset, each.file_bytes)
        prefault(mm, start & -4096, start + each.length)
    imprint.take(mm, file, image, bias, before)


def _set_layout(mm: AddressSpace, image: Image, bias: int) -> None:
    code = [each for each in image.segments if each.prot & 4] or list(image.segments)
    data = max(image.segments, key=lambda each: each.vaddr)
    mm.start_code = min(each.vaddr for each in code) + bias
    mm.end_code = max(each.vaddr + each.file_bytes for each in code) + bias
    mm.start_data, mm.end_data = data.vaddr + bias, data.vaddr + data.file_bytes + bias
    end = image.high + bias
    mm.start_brk = mm.brk = end + (mm.random_bits(BRK_RND_BITS) << 12)


# ---- the point of no return


def commit(task: Task, program: Program, loaded: Loaded) -> None:
    """Make `task` (by now the only thread of its process) run what was loaded. Cannot fail."""
    kernel = task.kernel
    group = task.group
    arch = kernel.machine.arch
    old_mm = task.mm
    ctx: Context = kernel.machine.new_context(loaded.mm.space)
    ctx.owner = task
    ctx.reset_fp()
    ctx.regs[arch.pc] = loaded.entry
    ctx.regs[arch.sp] = loaded.sp
    if old_mm is not None:
        exits.leave_memory(task)
    with suppress(NoRoom):  # now that the old space has made room; if there is none, the machine says so when the task runs
        loaded.mm.space.secure()
    if task.ctx is not None:
        task.ctx.close()
    task.mm, task.ctx = loaded.mm, ctx
    start_registers(ctx, arch.name)
    _lead(task)
    privilege.adopt(task, loaded.creds, loaded.secure)
    if group.posix_timers is not None:
        from trapline.kernel.task import posix_timers

        posix_timers.release(group)
    group.actions = group.actions.for_exec()
    if task.files.users > 1:
        shared, task.files = task.files, task.files.fork()
        shared.put()
    task.files.close_on_exec()
    task.altstack = (0, 0, 2)
    task.robust_list = (0, 0)
    task.rseq = (0, 0, 0)
    task.user_dispatch = None
    task.clear_child_tid = 0
    task.comm = program.comm
    task.syscall_nr = -1
    task.exit_signal = SIGCHLD
    group.did_exec = True
    group.exe = loaded.mm.exe_file
    program.file.put()


def _lead(task: Task) -> None:
    """The thread that runs the program is the process's first and only one from now on, and has its number."""
    kernel, group = task.kernel, task.group
    if group.leader is task:
        return
    task.start_time_ns = group.leader.start_time_ns
    del kernel.tasks[task.tid]
    task.tid = group.pid
    kernel.tasks[task.tid] = task
    group.leader = task


def start_registers(ctx: Context, name: str) -> None:
    """What else a new program starts with."""
    if name == "x86_64":
        ctx.regs[EFLAGS] = IF | 2
        ctx.regs[CSGSFS] = USER_CS | USER_DS << 48


def unlimited(value: int) -> bool:
    return value == RLIM_INFINITY
