"""reboot(2): the end of the machine, or what Ctrl-Alt-Del would do."""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING, Annotated

from trapline.abi.capability import CAP_SYS_BOOT
from trapline.abi.errno import EINVAL, EPERM
from trapline.abi.signal import SIGHUP, SIGINT, SIGKILL
from trapline.kernel.syscalls.declare import Arg, UserPtr, syscall
from trapline.kernel.task.exit import exit_group

if TYPE_CHECKING:
    from trapline.kernel.task.task import Task

Magic = Annotated[int, Arg(32, "enum:reboot_magic")]
Command = Annotated[int, Arg(32, "enum:reboot")]

LINUX_REBOOT_MAGIC1 = 0xFEE1DEAD
LINUX_REBOOT_MAGIC2 = (672274793, 85072278, 369367448, 537993216)
LINUX_REBOOT_CMD_CAD_ON, LINUX_REBOOT_CMD_CAD_OFF = 0x89ABCDEF, 0
LINUX_REBOOT_CMD_RESTART, LINUX_REBOOT_CMD_RESTART2 = 0x01234567, 0xA1B2C3D4
LINUX_REBOOT_CMD_HALT, LINUX_REBOOT_CMD_POWER_OFF = 0xCDEF0123, 0x4321FEDC
ARGUMENT_MAX = 256

#: How the first program ends, as that of a PID namespace does: reboot(2), "Behavior inside PID namespaces".
_ENDS = {
    LINUX_REBOOT_CMD_RESTART: SIGHUP, LINUX_REBOOT_CMD_RESTART2: SIGHUP,
    LINUX_REBOOT_CMD_HALT: SIGINT, LINUX_REBOOT_CMD_POWER_OFF: SIGINT,
}  # fmt: skip


@syscall("reboot")
def sys_reboot(task: Task, magic: Magic, magic2: Magic, cmd: Command, arg: UserPtr) -> int:
    """reboot(2): end every process, as the machine's end would.

    The first program ends as by SIGHUP for a restart and by SIGINT for a halt, which is what whoever runs Trapline sees.

    Partial: there is nothing to suspend to, and no kernel to start instead: EINVAL.
    """
    if not task.creds.has_cap(CAP_SYS_BOOT):
        raise EPERM
    if magic != LINUX_REBOOT_MAGIC1 or magic2 not in LINUX_REBOOT_MAGIC2:
        raise EINVAL("magic")
    kernel = task.kernel
    if cmd in (LINUX_REBOOT_CMD_CAD_ON, LINUX_REBOOT_CMD_CAD_OFF):
        kernel.ctrl_alt_del = int(cmd == LINUX_REBOOT_CMD_CAD_ON)
        return 0
    if cmd not in _ENDS:
        raise EINVAL("no such command")
    words = task.mm.read_cstr(arg, ARGUMENT_MAX) if cmd == LINUX_REBOOT_CMD_RESTART2 else b""
    kernel.log(f"{task.comm.decode(errors='replace')}[{task.tid}]: reboot {(words or b'').decode(errors='replace')}".rstrip())
    _end_all(task, _ENDS[cmd])
    return 0


def _end_all(task: Task, signo: int) -> None:
    """Every process is killed; the first ends with `signo`."""
    kernel = task.kernel
    first = kernel.first
    for group in tuple(kernel.groups.values()):
        if group.tasks:
            exit_group(group.tasks[0], signo if group is first else SIGKILL)
