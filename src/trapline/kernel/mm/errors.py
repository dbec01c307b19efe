"""What can go wrong in memory besides the errnos that manual pages name."""

from __future__ import annotations

from trapline.abi.errno import Errno
from trapline.machine.ram import OutOfFrames

__all__ = ["OutOfFrames", "OutOfMemory"]


class OutOfMemory(Errno):
    """No frame is left for a page or a page table. A system call fails with ENOMEM; a fault calls the OOM killer."""

    number = 12
    name = "ENOMEM"
    text = "Cannot allocate memory"
