"""The registers as GDB numbers them, and the description of the target that says so (GDB manual, "RISC-V Features").

    0-31 x   32 pc   33-64 f   65 + n  CSR n   4161 the privilege mode
"""

from __future__ import annotations

from trapline.typed import TYPE_CHECKING

from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.csr import TABLE
from trapline.machine.riscv.disasm import F_NAMES, X_NAMES

if TYPE_CHECKING:
    from trapline.machine.riscv.hart import Hart

PC, F, CSR, PRIV = 32, 33, 65, 4161
GENERAL = 33  #: those of the g packet


def read(hart: Hart, n: int) -> int | None:
    """None if there is no such register."""
    cpu = hart.cpu
    if 0 <= n < PC:
        return cpu[at.X + n]
    if n == PC:
        return cpu[at.PC]
    if F <= n < CSR:
        return cpu[at.F + n - F]
    if n == PRIV:
        return cpu[at.PRIV]
    csr = TABLE.get(n - CSR)
    return None if csr is None else int(csr.read(hart)) & st.MASK


def write(hart: Hart, n: int, value: int) -> bool:
    """Whether it could be written. A CSR takes what its fields allow."""
    cpu = hart.cpu
    if n == 0:
        return True
    if 0 < n < PC:
        cpu[at.X + n] = value
    elif n == PC:
        cpu[at.PC] = value & ~1
        hart.waiting = False
    elif F <= n < CSR:
        cpu[at.F + n - F] = value
    elif n == PRIV and value in (st.U, st.S, st.M) and not (value == st.M and cpu[at.VIRT]):
        hart.enter(value)
        hart.settle()
    else:
        csr = TABLE.get(n - CSR)
        if csr is None or csr.write is None or n - CSR >> 10 == 3:
            return False
        csr.write(hart, value)
    return True


def description(*, user: bool = False) -> str:
    """The target description. user: what user code has."""
    x = "".join(f'<reg name="{name}" bitsize="64" type="{_kind(name)}" regnum="{n}"/>' for n, name in enumerate(X_NAMES))
    f = "".join(f'<reg name="{name}" bitsize="64" type="ieee_double" regnum="{F + n}"/>' for n, name in enumerate(F_NAMES))
    flags: list[str] = []
    rest: list[str] = []
    for number, csr in sorted(TABLE.items()):
        (flags if number < 4 else rest).append(f'<reg name="{csr.name}" bitsize="64" regnum="{CSR + number}"/>')
    privileged = (
        f'<feature name="org.gnu.gdb.riscv.csr">{"".join(rest)}</feature>'
        f'<feature name="org.gnu.gdb.riscv.virtual"><reg name="priv" bitsize="64" regnum="{PRIV}"/></feature>'
    )
    return (
        '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">'
        f'<architecture>riscv:rv64</architecture><feature name="org.gnu.gdb.riscv.cpu">{x}'
        f'<reg name="pc" bitsize="64" type="code_ptr" regnum="{PC}"/></feature>'
        f'<feature name="org.gnu.gdb.riscv.fpu">{f}{"".join(flags)}</feature>{"" if user else privileged}</target>'
    )


def _kind(name: str) -> str:
    return "code_ptr" if name == "ra" else "data_ptr" if name in ("sp", "gp", "tp", "s0") else "int"
