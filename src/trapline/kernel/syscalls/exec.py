"""Running programs: execve, execveat."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import E2BIG, EAGAIN, EFAULT, EINVAL, ENOENT
from trapline.abi.fcntl import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, O_RDONLY
from trapline.kernel.exec import image
from trapline.kernel.exec.image import Leased, Loaded, Program
from trapline.kernel.exec.stack import MAX_STRING
from trapline.kernel.syscalls.declare import Arg, DirFd, Path, Result, syscall
from trapline.kernel.task.exit import kill_task
from trapline.kernel.task.rlimit import over_nproc
from trapline.kernel.task.task import WORK_EXIT

if TYPE_CHECKING:
    from trapline.kernel.fs.inode import Inode
    from trapline.kernel.task.task import Task

MAX_STRINGS = 1 << 20
Strings = Annotated[int, Arg(64, "argv")]


@syscall("execve")
def sys_execve(task: Task, pathname: Path, argv: Strings, envp: Strings) -> Result:
    """execve(2): run a program in the place of this one."""
    return execute(task, AT_FDCWD, pathname, argv, envp, 0)


@syscall("execveat")
def sys_execveat(
    task: Task,
    dirfd: DirFd,
    pathname: Path,
    argv: Strings,
    envp: Strings,
    flags: Annotated[int, Arg(-32, "flags:AT_FLAGS")],
) -> Result:
    """execveat(2): run a program found relative to a directory, or already open."""
    if flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW):
        raise EINVAL
    return execute(task, dirfd, pathname, argv, envp, flags)


def execute(task: Task, dirfd: int, pathname: int, argv: int, envp: int, flags: int) -> Result:
    """Load the program beside the old one, then let it take over; a coroutine while other threads end."""
    name = task.mm.read_path(pathname)
    if not name and not flags & AT_EMPTY_PATH:
        raise ENOENT
    arguments, environment = read_strings(task, argv), read_strings(task, envp)
    task.nproc_exceeded = task.nproc_exceeded and over_nproc(task)
    if task.nproc_exceeded:
        raise EAGAIN("RLIMIT_NPROC")
    try:
        return _replace(task, dirfd, name, arguments or [b""], environment, flags)
    except Leased as leased:
        return _when_given_up(task, leased.inode, dirfd, name, arguments or [b""], environment, flags)


async def _when_given_up(
    task: Task, inode: Inode, dirfd: int, name: bytes, arguments: list[bytes], environment: list[bytes], flags: int
) -> int:
    """Wait for leases of what is to be run, then look for it again."""
    from trapline.kernel.fs import leases

    while True:
        await leases.wait(task, inode, O_RDONLY)
        try:
            result = _replace(task, dirfd, name, arguments, environment, flags)
            return result if isinstance(result, int) else await result
        except Leased as another:  # the interpreter's, or a new one
            inode = another.inode


def _replace(
    task: Task, dirfd: int, name: bytes, arguments: list[bytes], environment: list[bytes], flags: int
) -> Result:
    program = image.find(task, dirfd, name, arguments, flags)
    try:
        loaded = image.load(task, program, environment)
    except BaseException:
        program.file.put()
        raise
    others = [each for each in task.group.tasks if each is not task]
    if not others:
        image.commit(task, program, loaded)
        return 0
    if task.work & WORK_EXIT:  # the process ends, or another thread was first
        _give_up(program, loaded)
        raise EAGAIN
    for each in others:
        kill_task(each)
    return _alone(task, program, loaded)


async def _alone(task: Task, program: Program, loaded: Loaded) -> int:
    """Wait until this is the only thread, then take over."""
    try:
        while len(task.group.tasks) > 1:
            await task.group.child_wait.wait(interruptible=False)
    except BaseException:
        _give_up(program, loaded)
        raise
    image.commit(task, program, loaded)
    return 0


def _give_up(program: Program, loaded: Loaded) -> None:
    loaded.mm.put()
    program.file.put()


def read_strings(task: Task, address: int) -> list[bytes]:
    """A NULL-terminated array of strings; NULL is the empty array. Raises EFAULT, E2BIG."""
    mm = task.mm
    strings: list[bytes] = []
    total = 0
    while address:
        pointer = mm.read_u64(address)
        if not pointer:
            break
        text = mm.read_cstr(pointer, MAX_STRING)
        if text is None:
            raise E2BIG
        total += len(text) + 9
        if total > MAX_STRINGS * 8 or len(strings) > MAX_STRINGS:
            raise E2BIG
        strings.append(text)
        address += 8
        if address >= mm.task_size:
            raise EFAULT
    return strings
