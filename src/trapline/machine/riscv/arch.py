"""riscv64 as the kernel sees it on the RISC-V machine.

`Context.regs` holds x0 to x31 (x0 reads as zero whatever is written there) and then the pc. The FP image is the
kernel ABI's `struct __riscv_d_ext_state`: f0 to f31 as 64-bit words, fcsr in 32 bits, four bytes of padding.
"""

from __future__ import annotations

from trapline.machine.contract import Arch
from trapline.machine.paging.entry import SV39

RA, SP, GP, TP = 1, 2, 3, 4
A0, A1, A2, A3, A4, A5, A6, A7 = range(10, 18)
PC = 32
NREGS = 33
FP_SIZE = 32 * 8 + 8
#: what user code may rely on, in the order the manual asks for (volume I, "ISA Extension Naming Conventions")
ISA = "rv64imafdc_zicbom_zicboz_zicntr_zicond_zicsr_zifencei_zihpm_zawrs_zfa_zba_zbb_zbs"

RISCV64 = Arch(
    name="riscv64", paging=SV39, nregs=NREGS, nr=A7, args=(A0, A1, A2, A3, A4, A5), ret=A0, pc=PC, sp=SP, tls=TP,
    syscall_len=4, task_size=1 << 38, fp_size=FP_SIZE, isa=ISA,
)  # fmt: skip
