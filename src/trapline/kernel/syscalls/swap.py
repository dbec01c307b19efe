"""swapon(2), swapoff(2): files and devices to which pages of memory are put out. The mechanism is `kernel.mm.swap`."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated, Any

from trapline.abi.capability import CAP_SYS_ADMIN
from trapline.abi.errno import EBUSY, EINVAL, EISDIR, ENXIO, EPERM, EROFS
from trapline.abi.fcntl import AT_FDCWD, O_RDONLY
from trapline.abi.mount import MS_RDONLY
from trapline.abi.stat import S_IFBLK, S_IFDIR, S_IFMT, S_IFREG, S_IFSOCK
from trapline.abi.swap import SWAP_FLAG_PREFER, SWAP_FLAG_PRIO_MASK, SWAP_FLAGS_VALID
from trapline.kernel.exec.text_busy import deny_write
from trapline.kernel.fs.permission import MAY_READ, MAY_WRITE, may_access
from trapline.kernel.syscalls.atpath import check_flags
from trapline.kernel.syscalls.declare import Arg, Path, syscall
from trapline.machine.paging.entry import PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.fs.mount import Path as Place
    from trapline.kernel.mm.swap.areas import SwapArea
    from trapline.kernel.task.task import Task


@syscall("swapon")
def sys_swapon(task: Task, path: Path, swapflags: Annotated[int, Arg(-32, "hex")]) -> int:
    """swapon(2): put pages out to a file or device when memory is short.

    Partial: a file has to be one of the host's, in a directory that is bound read-write: what is kept in memory is EINVAL, as
    on tmpfs. A file that is swapped to cannot be opened for writing (ETXTBSY), nor swapped to while it is; it may be
    renamed and removed. What files of tmpfs held before the first area was on, and nobody had mapped then, stays in memory
    until they grow. SWAP_FLAG_DISCARD* change nothing, as with a device that cannot discard.
    """
    check_flags(swapflags, SWAP_FLAGS_VALID)
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    from trapline.kernel.mm.swap.areas import MAX_AREAS
    from trapline.kernel.task.swap import swap_of

    swap = swap_of(task.kernel)
    if len(swap.areas) >= MAX_AREAS:
        raise EPERM("too many swap areas")
    place = _find(task, path)
    if _in_use(task, place) is not None:
        raise EBUSY
    priority = swapflags & SWAP_FLAG_PRIO_MASK if swapflags & SWAP_FLAG_PREFER else -1
    if place.inode.mode & S_IFMT == S_IFBLK:
        backing = task.kernel.swap_devices[place.inode.rdev]
        swap.add(place.display(), b"partition", backing, backing.pages, (), priority, place.inode.rdev)
    else:
        _add_file(task, place, priority)
    return 0


@syscall("swapoff")
def sys_swapoff(task: Task, path: Path) -> int:
    """swapoff(2): bring back all that was put out to a file or device, and put nothing there any more."""
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    place = _find(task, path)
    area = _in_use(task, place)
    if area is None:
        raise EINVAL("it is not swapped to")
    from trapline.kernel.mm.swap.off import switch_off
    from trapline.kernel.task.swap import swap_of

    switch_off(swap_of(task.kernel), area)
    if area.kind == b"file":
        area.owner.put()
    return 0


def _find(task: Task, path: int) -> Place:
    """What both calls open for reading and writing; raises what that does."""
    place: Place = task.kernel.vfs.walk(task, AT_FDCWD, task.mm.read_path(path))
    inode = place.inode
    kind = inode.mode & S_IFMT
    if kind == S_IFDIR:
        raise EISDIR
    may_access(place, task.creds, MAY_READ | MAY_WRITE)
    if kind == S_IFREG and place.mount.flags & MS_RDONLY:
        raise EROFS
    if kind == S_IFSOCK or (kind == S_IFBLK and inode.rdev not in task.kernel.swap_devices):
        raise ENXIO
    if kind not in (S_IFREG, S_IFBLK):
        raise EINVAL("neither a file nor a block device")
    return place


def _in_use(task: Task, place: Place) -> SwapArea | None:
    swap = task.kernel.swap
    for area in swap.areas.values() if swap is not None else ():
        if area.owner == place.inode.rdev if area.kind == b"partition" else area.owner.inode is place.inode:
            return area
    return None


def _add_file(task: Task, place: Place, priority: int) -> None:
    """Check a regular file, and swap to it; the open file, which keeps others from writing it, is the area's owner."""
    from trapline.kernel.mm.swap.header import parse
    from trapline.kernel.task.swap import swap_of

    backing = place.inode.swap_backing()
    file: Any = None
    try:
        if not backing.pages:
            raise EINVAL("empty")
        first = bytearray(PAGE_SIZE)
        backing.read(0, [memoryview(first)])
        pages, bad = parse(bytes(first), backing.pages, regular=True)
        file = task.kernel.vfs.open_path(place, O_RDONLY)
        deny_write(file)
        swap_of(task.kernel).add(place.display(), b"file", backing, pages, bad, priority, file)
    except BaseException:
        backing.close()
        if file is not None:
            file.put()
        raise
