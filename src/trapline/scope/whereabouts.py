"""Which file a system call is about: the first path or descriptor among its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trapline.kernel.syscalls.declare import parameters
from trapline.scope.strace.files import name_of
from trapline.scope.strace.memory import PATH_LIMIT, Decoder

if TYPE_CHECKING:
    from trapline.kernel.syscalls.declare import SystemCall
    from trapline.kernel.task.task import Task
    from trapline.scope.listener import Args


def path_of(task: Task, call: SystemCall, args: Args) -> str:
    """The path as the program gave it, or the name that /proc/PID/fd has for the descriptor; "" if there is neither."""
    behind = b""
    for each, value in zip(parameters(call), args, strict=False):
        if each.show == "path" and value:
            found = Decoder(task, {}).string(value, PATH_LIMIT)
            if found is not None and found[0]:
                return found[0].decode(errors="replace")
        elif each.show in ("fd", "dirfd") and not behind:
            behind = name_of(task, value) or b""
    return behind.decode(errors="replace")
