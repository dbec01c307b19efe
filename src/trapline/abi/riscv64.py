"""riscv64: the order of a context's registers, the causes of its traps, and the layout of its signal frame.

A context holds x0 to x31, then pc. Sources: The RISC-V Instruction Set Manual, volume II, "Supervisor Cause Register
(scause)"; RISC-V ABIs Specification, "Integer Register Convention"; asm/{ptrace,sigcontext,ucontext,hwcap,elf}.h.
"""

from __future__ import annotations

from struct import Struct

ZERO, RA, SP, GP, TP, T0, T1, T2, S0, S1, A0, A1, A2, A3, A4, A5, A6, A7 = range(18)
S2, S3, S4, S5, S6, S7, S8, S9, S10, S11, T3, T4, T5, T6 = range(18, 32)
PC = 32
NREGS = 33

# Exceptions that user code can raise (scause).
INSN_MISALIGNED, INSN_ACCESS, ILLEGAL, BREAKPOINT = range(4)
LOAD_MISALIGNED, LOAD_ACCESS, STORE_MISALIGNED, STORE_ACCESS = range(4, 8)
ECALL_U = 8
INSN_PAGE_FAULT, LOAD_PAGE_FAULT, STORE_PAGE_FAULT = 12, 13, 15

HWCAP_LETTERS = "IMAFDC"  #: of the ISA's letters, those AT_HWCAP has a bit for
CACHE_BLOCK = 64  #: bytes that cbo.zero clears

# ELF e_flags
EF_RVC = 1
EF_FLOAT_ABI, EF_FLOAT_ABI_DOUBLE, EF_FLOAT_ABI_QUAD = 6, 4, 6
EF_RVE = 8

#: struct ucontext up to the machine context: flags, link, stack (sp, flags, padding, size), mask; aligned to 16
UCONTEXT = Struct("<QQQIiQQ120x8x")
SC_REGS_SIZE = 32 * 8  #: struct user_regs_struct: pc, then x1 to x31
SC_FPREGS_SIZE = 528  #: of the union of all floating-point states
SC_RESERVED = SC_FPREGS_SIZE - 12  #: there: a reserved word, and the header (magic, size) of a first extension; all zero

# riscv_flush_icache(2)
FLUSH_ICACHE_LOCAL = 1

# riscv_hwprobe(2), asm/hwprobe.h
HWPROBE_PAIR = Struct("<qQ")
HWPROBE_MVENDORID, HWPROBE_MARCHID, HWPROBE_MIMPID, HWPROBE_BASE_BEHAVIOR = range(4)
HWPROBE_IMA_EXT_0, HWPROBE_CPUPERF_0, HWPROBE_ZICBOZ_BLOCK_SIZE = range(4, 7)
HWPROBE_BASE_IMA = 1
#: extension -> its bit in HWPROBE_IMA_EXT_0; "fd" and "c" are letters of the ISA
HWPROBE_EXTENSIONS = {
    "fd": 1 << 0, "c": 1 << 1, "zba": 1 << 3, "zbb": 1 << 4, "zbs": 1 << 5, "zicboz": 1 << 6, "zfa": 1 << 32,
    "zicond": 1 << 35, "zawrs": 1 << 48,
}  # fmt: skip
HWPROBE_MISALIGNED_EMULATED = 1


def extensions(isa: str) -> set[str]:
    """The extensions in "rv64imafdc_zicsr_...": single letters and longer names."""
    letters, *names = isa.removeprefix("rv64").split("_")
    return {*letters, *names}


def hwcap(isa: str) -> int:
    """AT_HWCAP: bit n is the n-th letter of the alphabet."""
    have = extensions(isa)
    return sum(1 << ord(each) - ord("A") for each in HWCAP_LETTERS if each.lower() in have)
