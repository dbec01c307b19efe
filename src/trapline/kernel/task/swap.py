"""A kernel's swap: made with the first area that is switched on. See `kernel.mm.swap`."""

from __future__ import annotations

from collections.abc import Iterable
from trapline.typed import TYPE_CHECKING

from trapline.abi.stat import makedev
from trapline.kernel.mm.swap.areas import Backing, Swap
from trapline.kernel.task.oom import kill_worst

if TYPE_CHECKING:
    from trapline.kernel.core import Kernel
    from trapline.kernel.mm.address_space import AddressSpace

DEVICE = makedev(253, 0)  #: the device that comes with the kernel, as a virtual disk is numbered
DEVICE_NAME = b"/dev/swap0"


def swap_of(kernel: Kernel) -> Swap:
    if kernel.swap is None:
        kernel.swap = Swap(kernel.ram, lambda: spaces(kernel), kernel.afterwards.append, kernel.log, lambda: kill_worst(kernel))
    return kernel.swap


def spaces(kernel: Kernel) -> Iterable[AddressSpace]:
    """Every address space in use, once."""
    return {id(each.mm): each.mm for each in kernel.tasks.values() if each.mm is not None}.values()


def have_device(kernel: Kernel, backing: Backing) -> None:
    """The kernel starts with a device to swap to, and does."""
    kernel.swap_devices[DEVICE] = backing
    swap_of(kernel).add(DEVICE_NAME, b"partition", backing, backing.pages, (), -1, DEVICE)
