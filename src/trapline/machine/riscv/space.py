"""Spaces and contexts of the RISC-V machine: an address space is a root table and an ASID, a context is registers."""

from __future__ import annotations

import struct
from trapline.typed import TYPE_CHECKING

from trapline.machine.contract import Context
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.arch import FP_SIZE, NREGS

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart
    from trapline.machine.riscv.machine import RiscvMachine

_FP = struct.Struct("<32QII")  #: f0 to f31, fcsr, padding
_FP_START = bytes(FP_SIZE)  #: zeros, rounding to nearest
_FCSR = 0xFF
FEW_BYTES = 8 << 12  #: ranges up to here are forgotten page by page


class RiscvSpace:
    """One address space. `flush` is its fence.i too: whoever writes to code that has been executed calls it."""

    def __init__(self, machine: RiscvMachine, root: int, asid: int) -> None:
        self.machine = machine
        self.root = root
        self.asid = asid
        self.satp = st.SV39_MODE << st.MODE_SHIFT | asid << st.ASID_SHIFT | root

    def flush(self, start: int, end: int, *, downgrade: bool = False) -> None:
        for hart in self.machine.harts:
            hart.tlb.flush_range(start, end, self.asid)
            if end - start > FEW_BYTES:
                hart.forget_space(self.asid)
                continue
            for va in range(start, end, 4096):
                hart.forget_page(va, self.asid)

    def reload(self, start: int, end: int) -> None:
        self.flush(start, end)

    def hint(self, start: int, end: int, leaf: int = 0) -> None:
        """Nothing is loaded early: a walk costs less than a guess."""

    def hint_like(self, other: RiscvSpace, again: bool) -> None:
        """As little as by `hint`."""

    def secure(self) -> None:
        """A space is a table and a number: there is nothing more to have."""

    def close(self) -> None:
        self.machine.free_asid(self.asid)

    def settle(self) -> None:
        """No hart runs while the kernel does: `close` has left nothing behind."""


class RiscvContext(Context):
    """One thread of user code. `fp` is its FP state unless `hart` still has it in its registers."""

    __slots__ = ("_space", "fp", "hart", "view")

    def __init__(self, space: RiscvSpace) -> None:
        super().__init__(space, NREGS)
        self._space = space
        self.view = memoryview(self.regs)
        self.fp = _FP_START
        self.hart: Hart | None = None

    def get_fp(self) -> bytes:
        hart = self.hart
        if hart is None:
            return self.fp
        cpu = hart.cpu
        return _FP.pack(*hart.fs, cpu[at.FRM] << 5 | cpu[at.FFLAGS], 0)

    def set_fp(self, image: bytes) -> bool:
        """Bits of fcsr that do not exist make it malformed; any rounding mode may be set (using a reserved one traps)."""
        if len(image) != FP_SIZE or _FP.unpack(image)[32] & ~_FCSR:
            return False
        self.fp, self.hart = bytes(image), None
        return True

    def reset_fp(self) -> None:
        self.fp, self.hart = _FP_START, None

    def load_fp(self, hart: Hart) -> None:
        """Put the FP state into a hart's registers."""
        *values, fcsr, _ = _FP.unpack(self.fp)
        for n, value in enumerate(values):
            hart.fs[n] = value
        hart.cpu[at.FRM], hart.cpu[at.FFLAGS] = fcsr >> 5, fcsr & 31
        self.hart = hart

    def save_fp(self) -> None:
        """Take the FP state out of the hart that has it."""
        self.fp, self.hart = self.get_fp(), None

    def copy_from(self, other: Context) -> None:
        assert isinstance(other, RiscvContext)
        self.view[:] = other.view
        self.fp, self.hart = other.get_fp(), None

    def close(self) -> None:
        self.hart = None
