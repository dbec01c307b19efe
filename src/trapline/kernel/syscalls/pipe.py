"""pipe(2), pipe2(2)."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EINVAL, ENOPKG
from trapline.abi.fcntl import O_CLOEXEC, O_DIRECT, O_EXCL, O_NONBLOCK
from trapline.kernel.ipc.pipe import make_pipe
from trapline.kernel.syscalls.declare import Arg, syscall

if TYPE_CHECKING:
    from trapline.kernel.fs.file import File
    from trapline.kernel.task.task import Task

TwoFds = Annotated[int, Arg(64, "struct_out:fd_pair")]


@syscall("pipe")
def sys_pipe(task: Task, pipefd: TwoFds) -> int:
    """pipe(2): create a pipe."""
    return sys_pipe2(task, pipefd, 0)


@syscall("pipe2")
def sys_pipe2(task: Task, pipefd: TwoFds, flags: Annotated[int, Arg(-32, "flags:open")]) -> int:
    """pipe2(2): create a pipe.

    Partial: O_NOTIFICATION_PIPE fails with ENOPKG, as without CONFIG_WATCH_QUEUE.
    """
    if flags & O_EXCL and not flags & ~(O_CLOEXEC | O_DIRECT | O_NONBLOCK | O_EXCL):
        raise ENOPKG
    if flags & ~(O_CLOEXEC | O_DIRECT | O_NONBLOCK):
        raise EINVAL
    reader, writer = make_pipe(task, flags & ~O_CLOEXEC)
    install_pair(task, reader, writer, bool(flags & O_CLOEXEC), pipefd)
    return 0


def install_pair(task: Task, first: File, second: File, cloexec: bool, address: int) -> None:
    """Install two new files and store their descriptors; neither stays if any of that fails. EMFILE, EFAULT."""
    files = task.files
    installed: list[int] = []
    try:
        installed.append(files.install(first, cloexec))
        installed.append(files.install(second, cloexec))
        task.mm.write(address, b"".join([fd.to_bytes(4, "little") for fd in installed]))
    except BaseException:
        for fd in installed:
            files.close(fd)
        for file in (first, second)[len(installed) :]:
            file.put()
        raise
