"""prctl(2) on the caller's memory: PR_SET_MM, PR_SET_VMA, large pages."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.abi import prctl as p
from trapline.abi.capability import CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN, CAP_SYS_RESOURCE
from trapline.abi.errno import EACCES, EBUSY, EFAULT, EINVAL, EPERM, ETXTBSY
from trapline.abi.mman import MMAP_MIN_ADDR
from trapline.abi.mount import MS_NOEXEC
from trapline.abi.stat import S_IFMT, S_IFREG
from trapline.kernel.exec.text_busy import deny_write
from trapline.kernel.fs.permission import MAY_EXEC, may
from trapline.kernel.mm import layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

_ON_STACK = frozenset(("start_stack", "arg_start", "arg_end", "env_start", "env_end"))
NO_FILE = 0xFFFFFFFF

Args = tuple[int, int, int, int]


def _set_mm(task: Task, args: Args) -> int:
    what, value, size, unused = args
    if unused or (size and what not in (p.PR_SET_MM_AUXV, p.PR_SET_MM_MAP, p.PR_SET_MM_MAP_SIZE)):
        raise EINVAL("unused arguments must be 0")
    if what == p.PR_SET_MM_MAP_SIZE:
        task.mm.write_u32(value, p.MM_MAP.size)
        return 0
    if what == p.PR_SET_MM_MAP:
        return _set_map(task, value, size)
    if not task.creds.has_cap(CAP_SYS_RESOURCE):
        raise EPERM("CAP_SYS_RESOURCE")
    if what == p.PR_SET_MM_EXE_FILE:
        _set_exe(task, value & 0xFFFFFFFF)
    elif what == p.PR_SET_MM_AUXV:
        if not value or size > layout.MAX_AUXV:
            raise EINVAL
        task.mm.saved_auxv = layout.vector(task.mm.read(value, size))
    else:
        _set_field(task, what, value)
    return 0


def _set_field(task: Task, what: int, value: int) -> None:
    mm = task.mm
    if not MMAP_MIN_ADDR <= value < mm.task_size or not 1 <= what <= len(p.PR_SET_MM_FIELDS):
        raise EINVAL
    name = p.PR_SET_MM_FIELDS[what - 1]
    fields = layout.fields_of(mm) | {name: value}
    layout.check_fields(mm, fields)
    if name in _ON_STACK and mm.map.index_from(value) == len(mm.map.areas):
        raise EFAULT("nothing is mapped there, nor above")
    layout.set_fields(mm, fields)


def _set_map(task: Task, address: int, size: int) -> int:
    """All of it at once, or nothing."""
    mm = task.mm
    if size != p.MM_MAP.size:
        raise EINVAL
    *addresses, auxv, auxv_size, exe = p.MM_MAP.unpack(mm.read(address, size))
    fields = dict(zip(p.MM_MAP_FIELDS, addresses, strict=True))
    layout.check_fields(mm, fields)
    if auxv_size and (not auxv or auxv_size > layout.MAX_AUXV):
        raise EINVAL
    vector = layout.vector(mm.read(auxv, auxv_size)) if auxv_size else None
    if exe != NO_FILE:
        if not task.creds.has_cap(CAP_CHECKPOINT_RESTORE) and not task.creds.has_cap(CAP_SYS_ADMIN):
            raise EPERM("CAP_CHECKPOINT_RESTORE")
        _set_exe(task, exe)
    layout.set_fields(mm, fields)
    if vector is not None:
        mm.saved_auxv = vector
    return 0


def _set_exe(task: Task, fd: int) -> None:
    """Another file for /proc/PID/exe. Raises EBADF, EACCES, EBUSY (the old one is mapped)."""
    mm = task.mm
    file: File = task.files.get(fd)
    path = file.path
    if file.inode.mode & S_IFMT != S_IFREG or path is None or path.mount.flags & MS_NOEXEC:
        raise EACCES("not a program")
    may(file.inode, task.creds, MAY_EXEC)
    old = mm.exe_file
    if old is not None and any(area.file is not None and area.file.inode is old.inode for area in mm.areas()):
        raise EBUSY("the old one is mapped")
    new: File = task.kernel.vfs.open_path(path, 0)
    try:
        deny_write(new)
    except ETXTBSY:
        new.put()
        raise EACCES("somebody writes it") from None
    mm.exe_file = task.group.exe = new
    if old is not None:
        old.put()


def _set_vma(task: Task, args: Args) -> int:
    what, start, length, address = args
    if what != p.PR_SET_VMA_ANON_NAME:
        raise EINVAL
    name = None
    if address:
        name = task.mm.read_cstr(address, layout.MAX_NAME)
        if name is None or len(name) >= layout.MAX_NAME:
            raise EINVAL("the name is too long")
    layout.name_areas(task.mm, start, length, name)
    return 0


def _set_thp_disable(task: Task, args: Args) -> int:
    if any(args[1:]):
        raise EINVAL("unused arguments must be 0")
    policy = task.mm.policy
    if policy.huge == bool(args[0]):
        task.mm.policy = policy.with_huge(not args[0])
    return 0


def _get_thp_disable(task: Task, args: Args) -> int:
    if any(args):
        raise EINVAL("unused arguments must be 0")
    return int(not task.mm.policy.huge)


OPTIONS: dict[int, Callable[[Task, Args], int]] = {
    p.PR_SET_MM: _set_mm,
    p.PR_SET_VMA: _set_vma,
    p.PR_SET_THP_DISABLE: _set_thp_disable,
    p.PR_GET_THP_DISABLE: _get_thp_disable,
}
