"""The machine and the system as a program sees them: uname, sysinfo, host name, random numbers."""

from __future__ import annotations

import struct
from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_SYS_ADMIN, CAP_SYS_PACCT
from trapline.abi.errno import EACCES, EINVAL, EISDIR, EPERM, ETXTBSY
from trapline.abi.fcntl import AT_FDCWD, O_APPEND, O_WRONLY
from trapline.abi.personality import PER_LINUX32, PER_MASK, UNAME26
from trapline.abi.stat import S_IFDIR, S_IFMT, S_IFREG
from trapline.kernel.fs.permission import MAY_WRITE, may_access
from trapline.kernel.syscalls.declare import Arg, Int, Path, Size, UserPtr, syscall
from trapline.kernel.uts import NAME_MAX, RELEASE, SYSNAME, VERSION

if TYPE_CHECKING:
    from trapline.kernel.task.accounting import Accounting
    from trapline.kernel.task.task import Task

UTS_FIELD = 65
SYSINFO = struct.Struct("<q3Q6QHH4xQQI4x")
GRND_NONBLOCK, GRND_RANDOM, GRND_INSECURE = 1, 2, 4
MAX_RANDOM = 33554431
CHUNK = 1 << 16


@syscall("uname")
def sys_uname(task: Task, buf: Annotated[int, Arg(64, "struct_out:utsname")]) -> int:
    """uname(2): names of the system."""
    kernel = task.kernel
    release, machine = _disguise(task.personality, RELEASE, kernel.machine.arch.name.encode())
    fields = (SYSNAME, kernel.hostname, release, VERSION, machine, kernel.domainname)
    task.mm.write(buf, b"".join(each[: UTS_FIELD - 1].ljust(UTS_FIELD, b"\0") for each in fields))
    return 0


def _disguise(personality: int, release: bytes, machine: bytes) -> tuple[bytes, bytes]:
    """What old programs want to hear: personality(2), UNAME26 and PER_LINUX32."""
    if personality & UNAME26:
        number, dash, rest = release.partition(b"-")
        release = b"2.6.%d" % (60 + int(number.split(b".")[1])) + dash + rest
    if personality & PER_MASK == PER_LINUX32 and machine == b"x86_64":
        machine = b"i686"
    return release, machine


def _set_name(task: Task, name: int, length: int) -> bytes:
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    if not 0 <= length <= NAME_MAX:
        raise EINVAL
    return task.mm.read(name, length).partition(b"\0")[0]


@syscall("sethostname")
def sys_sethostname(task: Task, name: UserPtr, length: Int) -> int:
    """sethostname(2): set the host name."""
    task.kernel.hostname = _set_name(task, name, length)
    return 0


@syscall("setdomainname")
def sys_setdomainname(task: Task, name: UserPtr, length: Int) -> int:
    """setdomainname(2): set the NIS domain name."""
    task.kernel.domainname = _set_name(task, name, length)
    return 0


@syscall("sysinfo")
def sys_sysinfo(task: Task, info: Annotated[int, Arg(64, "struct_out:sysinfo")]) -> int:
    """sysinfo(2): uptime, memory and load."""
    from trapline.kernel.fs.proc.system import load_averages, swap_pages

    kernel = task.kernel
    frames = kernel.ram.frames
    uptime = (kernel.clock.monotonic_ns() - kernel.boot_monotonic_ns) // 10**9
    loads = [int(each * 65536) for each in load_averages(kernel)]
    total = frames.limit_pages << 12
    free = total - (frames.used_pages << 12)
    swap, unused = (pages << 12 for pages in swap_pages(kernel))
    task.mm.write(info, SYSINFO.pack(uptime, *loads, total, free, 0, 0, swap, unused, len(kernel.tasks), 0, 0, 0, 1))
    return 0


@syscall("getrandom")
def sys_getrandom(task: Task, buf: UserPtr, buflen: Size, flags: Annotated[int, Arg(32, "flags:GRND")]) -> int:
    """getrandom(2): random bytes."""
    if flags & ~(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) or flags & 6 == 6:
        raise EINVAL
    wanted = min(buflen, MAX_RANDOM)
    done = 0
    while done < wanted:
        chunk = task.kernel.random(min(CHUNK, wanted - done))
        written = task.mm.write_partial(buf + done, chunk) if done == 0 else _more(task, buf + done, chunk)
        done += written
        if written < len(chunk):
            break
    return done


def _more(task: Task, address: int, data: bytes) -> int:
    from trapline.abi.errno import EFAULT

    try:
        return task.mm.write_partial(address, data)
    except EFAULT:
        return 0


@syscall("getcpu")
def sys_getcpu(task: Task, cpu: UserPtr, node: UserPtr, tcache: UserPtr) -> int:
    """getcpu(2): which CPU the thread runs on; there is one node, 0."""
    if cpu:
        task.mm.write_u32(cpu, task.cpu)
    if node:
        task.mm.write_u32(node, 0)
    return 0


@syscall("acct")
def sys_acct(task: Task, filename: Path) -> int:
    """acct(2): log ended processes to a file.

    Partial: nobody notes who used privileges, so ASU is never set; the file keeps its file system from being unmounted (EBUSY).
    """
    if not task.creds.has_cap(CAP_SYS_PACCT):
        raise EPERM
    new = _records(task, task.mm.read_path(filename)) if filename else None
    old, task.kernel.accounting = task.kernel.accounting, new
    if old is not None:
        old.close()
    return 0


def _records(task: Task, name: bytes) -> Accounting:
    from trapline.kernel.task.accounting import Accounting

    path = task.kernel.vfs.walk(task, AT_FDCWD, name)
    inode = path.inode
    kind = inode.mode & S_IFMT
    if kind == S_IFDIR:
        raise EISDIR
    may_access(path, task.creds, MAY_WRITE)
    if kind != S_IFREG:
        raise EACCES("not a regular file")
    if inode.writers < 0:
        raise ETXTBSY
    return Accounting(task.kernel.vfs.open_path(path, O_WRONLY | O_APPEND))
