"""What the calls on names share: the argument types of paths and flags, and reading a name from user memory."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.errno import EINVAL
from trapline.kernel.syscalls.declare import Arg

if TYPE_CHECKING:
    from trapline.kernel.fs.path import Place
    from trapline.kernel.task.task import Task

OpenFlags = Annotated[int, Arg(-32, "flags:open")]
AtFlags = Annotated[int, Arg(-32, "flags:at")]
Off = Annotated[int, Arg(-64, "dec")]
Dev = Annotated[int, Arg(32, "hex")]
Uid = Annotated[int, Arg(-32, "dec")]


def check_flags(flags: int, allowed: int) -> None:
    """EINVAL for a flag that the call does not have."""
    if flags & ~allowed:
        raise EINVAL("unknown flags")


def place(task: Task, dirfd: int, name: int) -> Place:
    """The directory and last component of the name at address `name`."""
    return task.kernel.vfs.walk_parent(task, dirfd, task.mm.read_path(name))
