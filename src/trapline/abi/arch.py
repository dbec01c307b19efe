"""Abi: all that differs between the system-call interfaces of two architectures, in one place.

Handlers are shared; where a number, a structure or the order of arguments is the architecture's own, they ask
`kernel.abi`. Signal frames and what hardware raises are the other half: `kernel.task.signals.arch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from trapline.typed import NamedTuple

from trapline.abi import elf, signal
from trapline.abi.ipc import SEMID_DS, SEMID_DS_GENERIC
from trapline.abi.poll import EPOLL_EVENT, EPOLL_EVENT_ALIGNED
from trapline.abi.stat import STAT, pack_stat_generic
from trapline.abi.syscalls import RISCV64, X86_64


class Abi(NamedTuple):
    """One architecture's system-call interface."""

    name: str  #: as uname(2) reports it, and as `Arch.name`
    elf_machine: int
    audit: int  #: AUDIT_ARCH_*: siginfo and seccomp name the architecture by it
    numbers: dict[str, int]
    #: of a call whose arguments come in another order than the handler declares: where each parameter is found
    order: Mapping[str, tuple[int, ...]] = {}
    #: struct stat of (dev, ino, nlink, mode, uid, gid, rdev, size, blksize, blocks, atime s, ns, mtime, ctime)
    pack_stat: Callable[..., bytes] = STAT.pack
    epoll_event: Struct = EPOLL_EVENT
    semid_ds: Struct = SEMID_DS
    restorer: bool = True  #: struct sigaction has sa_restorer; without, handlers return through the vDSO
    platform: bytes = b""  #: AT_PLATFORM; b"": there is none

    @property
    def sigaction_size(self) -> int:
        return signal.SIGACTION.size if self.restorer else signal.SIGACTION_GENERIC.size

    def unpack_sigaction(self, data: bytes) -> tuple[int, int, int, int]:
        """(handler, flags, restorer, mask), of the flags only those the architecture has."""
        if self.restorer:
            handler, flags, restorer, mask = signal.SIGACTION.unpack(data)
            return handler, flags & signal.UAPI_SA_FLAGS, restorer, mask
        handler, flags, mask = signal.SIGACTION_GENERIC.unpack(data)
        return handler, flags & signal.UAPI_SA_FLAGS & ~signal.SA_RESTORER, 0, mask

    def pack_sigaction(self, handler: int, flags: int, restorer: int, mask: int) -> bytes:
        if self.restorer:
            return signal.SIGACTION.pack(handler, flags, restorer, mask)
        return signal.SIGACTION_GENERIC.pack(handler, flags, mask)


#: By `Arch.name`.
ABIS = {
    "x86_64": Abi("x86_64", elf.EM_X86_64, 0xC000003E, X86_64, platform=b"x86_64"),
    "riscv64": Abi(
        "riscv64", elf.EM_RISCV, 0xC00000F3, RISCV64,
        order={"clone": (0, 1, 2, 4, 3)},  # clone(2), "C library/kernel differences": tls comes before child_tid
        pack_stat=pack_stat_generic, epoll_event=EPOLL_EVENT_ALIGNED, semid_ds=SEMID_DS_GENERIC, restorer=False,
    ),
}  # fmt: skip
