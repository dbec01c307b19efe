"""When a core dump is made, and its file: core(5), "Core dumps".

A signal whose default action is to dump core begins it in the thread that takes the signal. All threads are told to end; each
waits, in `gather`, with its registers as they were, until the last one has come. That one writes the file, and all go on to
their ends.

Invariant: `group.core` is set from `begin` until the file is written; the threads in `held` are on no queue meanwhile.
"""

from __future__ import annotations

from contextlib import suppress
from trapline.typed import TYPE_CHECKING

from trapline.abi import core as c
from trapline.abi import elf
from trapline.abi.errno import EFBIG, Errno
from trapline.abi.fcntl import O_CREAT, O_EXCL, O_LARGEFILE, O_NOFOLLOW, O_WRONLY
from trapline.abi.resource import RLIMIT_CORE, RLIMIT_FSIZE
from trapline.abi.stat import S_IFMT, S_IFREG
from trapline.kernel.fs import namei
from trapline.kernel.fs.opening import open_in
from trapline.kernel.fs.path import walk_parent
from trapline.kernel.mm.errors import OutOfMemory
from trapline.kernel.task.coredump.memory import contents, dumped_bytes
from trapline.kernel.task.coredump.naming import file_name
from trapline.kernel.task.coredump.notes import notes
from trapline.kernel.task.exit import CORE, exit_group
from trapline.kernel.task.task import RUNNABLE, SLEEPING
from trapline.machine.paging.entry import PAGE_SIZE

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.mm.area import Area
    from trapline.kernel.task.signals.siginfo import SigInfo
    from trapline.kernel.task.task import Task


class Dump:
    """One core dump that is due: of the process of `task`, which took `info`."""

    __slots__ = ("held", "info", "task")

    def __init__(self, task: Task, info: SigInfo) -> None:
        self.task = task
        self.info = info
        self.held: list[Task] = []


def begin(task: Task, info: SigInfo) -> None:
    """`task` takes a signal that ends its process: with a core dump, if its limits and rights are so."""
    group = task.group
    if not group.exiting and task.dumpable and group.rlimits[RLIMIT_CORE][0] >= PAGE_SIZE:
        group.core = Dump(task, info)
    exit_group(task, info.signo)


def gather(task: Task) -> bool:
    """`task` is to end, and its process dumps core. True: it waits for the others; False: it was the last, and goes on."""
    group = task.group
    dump: Dump = group.core
    if len(dump.held) + 1 < len(group.tasks):
        dump.held.append(task)
        task.state = SLEEPING
        return True
    others = [each for each in (*dump.held, task) if each is not dump.task]
    if _write_file(dump, [dump.task, *others]):
        group.exit_status |= CORE
    group.core = None
    for each in dump.held:
        each.state = RUNNABLE
        each.kernel.enqueue(each)
    return False


# ---- the file


def _write_file(dump: Dump, threads: list[Task]) -> bool:
    """Make the file and fill it; False if none could be made. One that becomes too large ends early."""
    task = dump.task
    limits = task.group.rlimits
    file = _open(task, file_name(task, dump.info.signo))
    if file is None:
        return False
    with suppress(Errno, OutOfMemory):  # whatever is written by then stays
        _fill(Writer(file, min(limits[RLIMIT_CORE][0], limits[RLIMIT_FSIZE][0])), threads, dump.info)
    file.put()
    return True


def _open(task: Task, name: bytes) -> File | None:
    """A new file of that name, made with the rights of `task`; None if there can be none."""
    vfs, fs, creds = task.kernel.vfs, task.fs, task.creds
    with suppress(Errno):  # an old dump goes, so that nothing is written through another name of it
        namei.unlink(vfs, walk_parent(vfs, fs.cwd, fs.root, name, creds), creds)
    try:
        flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_LARGEFILE
        file = open_in(vfs, fs.cwd, fs.root, name, flags, 0o600 & ~fs.umask, creds)
    except Errno:
        return None
    inode = file.inode
    good = inode.mode & S_IFMT == S_IFREG and inode.nlink == 1 and inode.uid == creds.fsuid and inode.mode & 0o677 == 0o600
    if not good:  # not a file of its own, in which others cannot read its memory
        file.put()
        return None
    return file


class Writer:
    """Bytes go to their places, as long as no more than `limit` are written; raises EFBIG then."""

    __slots__ = ("file", "left")

    def __init__(self, file: File, limit: int) -> None:
        self.file = file
        self.left = limit

    def put(self, offset: int, data: bytes | memoryview, unit: int = 1) -> None:
        """Write `data`; if it is too much, as many whole `unit`s of it as may be."""
        room = len(data) if len(data) <= self.left else self.left // unit * unit
        done = 0
        while done < room:
            count = self.file.try_pwrite(memoryview(data)[done:room], offset + done)
            if not count:
                raise EFBIG("the file takes no more")
            done += count
        self.left -= room
        if room < len(data):
            raise EFBIG("RLIMIT_CORE or RLIMIT_FSIZE")


def _fill(out: Writer, threads: list[Task], info: SigInfo) -> None:
    task, mm = threads[0], threads[0].mm
    body = notes(threads, info)
    areas = [(each, dumped_bytes(mm, each, task.group.core_filter)) for each in mm.areas()]
    heads_end = elf.EHDR.size + elf.PHDR.size * (len(areas) + 1)
    data_at = heads_end + len(body) + PAGE_SIZE - 1 & -PAGE_SIZE
    out.put(0, _headers(task, areas, heads_end, len(body), data_at))
    out.put(heads_end, body)
    at = data_at
    for area, length in areas:
        for offset, data in contents(mm, area, length) if length else ():
            out.put(at + offset, data, PAGE_SIZE)
        at += length
    if out.file.inode.size < at:
        out.file.inode.setattr(size=at)  # a hole at the end


def _headers(task: Task, areas: list[tuple[Area, int]], notes_at: int, notes_length: int, data_at: int) -> bytes:
    """The ELF header and the program headers."""
    ident = elf.MAGIC + bytes((elf.ELFCLASS64, elf.ELFDATA2LSB, 1)) + bytes(9)
    sizes = elf.EHDR.size, elf.PHDR.size
    parts = [
        elf.EHDR.pack(ident, c.ET_CORE, task.kernel.abi.elf_machine, 1, 0, sizes[0], 0, 0, *sizes, len(areas) + 1, 0, 0, 0),
        elf.PHDR.pack(c.PT_NOTE, 0, notes_at, 0, 0, notes_length, 0, 4),
    ]
    for area, length in areas:
        rights = sum(flag for bit, flag in ((1, elf.PF_R), (2, elf.PF_W), (4, elf.PF_X)) if area.prot & bit)
        parts.append(elf.PHDR.pack(elf.PT_LOAD, rights, data_at, area.start, 0, length, area.end - area.start, PAGE_SIZE))
        data_at += length
    return b"".join(parts)
