"""x86-64: the order of a context's registers and the numbers of its traps.

The first 23 registers are in the order of `struct sigcontext` (asm/sigcontext.h), which is also glibc's `gregset_t`;
FS and GS base follow.
"""

R8, R9, R10, R11, R12, R13, R14, R15 = range(8)
RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP = range(8, 16)
RIP, EFLAGS, CSGSFS, ERR, TRAPNO, OLDMASK, CR2 = range(16, 23)
FS_BASE, GS_BASE = 23, 24
NREGS = 25

VSYSCALL = 0xFFFF_FFFF_FF60_0000  #: the page of calls that every process has above user space

USER_CS, USER32_CS, USER_DS = 0x33, 0x23, 0x2B

# Exception vectors (AMD64 Architecture Programmer's Manual, volume 2, "Vectors").
DE, DB, NMI, BP, OF, BR, UD, NM, DF, CSO, TS, NP, SS, GP, PF = range(15)
MF, AC, MC, XM = 16, 17, 18, 19

# Page-fault error code bits.
PF_PRESENT, PF_WRITE, PF_USER, PF_RESERVED, PF_FETCH = 1, 2, 4, 8, 16

# EFLAGS
CF, PF_FLAG, AF, ZF, SF, TF, IF, DF_FLAG, OF_FLAG = 1, 4, 0x10, 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
NT, RF, AC_FLAG, ID = 0x4000, 0x10000, 0x40000, 0x200000
#: what sigreturn(2) lets user code set (FIX_EFLAGS in arch/x86/kernel/signal.c)
EFLAGS_USER = AC_FLAG | OF_FLAG | DF_FLAG | TF | SF | ZF | AF | PF_FLAG | CF | RF
