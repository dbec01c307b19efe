"""x86-64 as the kernel sees it on a host machine."""

from __future__ import annotations

import struct

from trapline.abi.elf import AT_HWCAP, AT_HWCAP2
from trapline.abi.x86_64 import FS_BASE, NREGS, R8, R9, R10, RAX, RDI, RDX, RIP, RSI, RSP
from trapline.machine.contract import Arch
from trapline.machine.host.layout import STUB
from trapline.machine.paging.entry import X86_64 as PAGING

X86_64 = Arch(
    name="x86_64", paging=PAGING, nregs=NREGS, nr=RAX, args=(RDI, RSI, RDX, R10, R8, R9), ret=RAX, pc=RIP, sp=RSP, tls=FS_BASE,
    syscall_len=2, task_size=STUB, nominal_size=(1 << 47) - 4096, fp_size=0,  # fp_size: the machine fills in what its CPU has
)  # fmt: skip

HWCAP2_FSGSBASE = 2  #: user code may use rdfsbase and its kin: asm/hwcap2.h


def hwcaps() -> tuple[int, int]:
    """(AT_HWCAP, AT_HWCAP2): what this computer's kernel says of the CPU, of what is true of user code here too."""
    with open("/proc/self/auxv", "rb") as file:
        told = dict(struct.iter_unpack("2Q", file.read()))
    return told.get(AT_HWCAP, 0), told.get(AT_HWCAP2, 0) & HWCAP2_FSGSBASE
