"""Bits of the status, environment and security registers, and the privilege modes (volume II)."""

from __future__ import annotations

MASK = (1 << 64) - 1
U, S, M = 0, 1, 3  #: privilege modes

# mstatus; sstatus is a view of it.
SIE, MIE, SPIE, UBE, MPIE, SPP = 1 << 1, 1 << 3, 1 << 5, 1 << 6, 1 << 7, 1 << 8
VS, MPP, FS, XS = 3 << 9, 3 << 11, 3 << 13, 3 << 15
MPRV, SUM, MXR, TVM, TW, TSR, SPELP = 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23
UXL, SXL = 3 << 32, 3 << 34
SD = 1 << 63
MPP_SHIFT, FS_SHIFT = 11, 13
XLEN_64 = 2 << 32 | 2 << 34  #: UXL and SXL, which are fixed
GVA, MPV, MPELP = 1 << 38, 1 << 39, 1 << 41
UXL_64 = 2 << 32
SSTATUS = SIE | SPIE | SPP | FS | SUM | MXR | SPELP | UXL | SD
SSTATUS_WRITABLE = SIE | SPIE | SPP | FS | SUM | MXR | SPELP  #: also what vsstatus has of its own
MSTATUS_WRITABLE = SSTATUS_WRITABLE | MIE | MPIE | MPP | MPRV | TVM | TW | TSR | GVA | MPV | MPELP

# hstatus.
H_GVA, SPV, SPVP, HU, VTVM, VTW, VTSR = 1 << 6, 1 << 7, 1 << 8, 1 << 9, 1 << 20, 1 << 21, 1 << 22
VSXL_64 = 2 << 32
HSTATUS_WRITABLE = H_GVA | SPV | SPVP | HU | VTVM | VTW | VTSR

SSIP, STIP, SEIP = 1 << 1, 1 << 5, 1 << 9  #: mip
VSSIP, VSTIP, VSEIP, SGEIP = 1 << 2, 1 << 6, 1 << 10, 1 << 12
VS_INTERRUPTS = VSSIP | VSTIP | VSEIP
H_INTERRUPTS = VS_INTERRUPTS | SGEIP

# menvcfg and senvcfg.
FIOM, LPE, SSE, CBIE, CBCFE, CBZE = 1, 1 << 2, 1 << 3, 3 << 4, 1 << 6, 1 << 7
ADUE, PBMTE, STCE = 1 << 61, 1 << 62, 1 << 63
CBIE_ILLEGAL, CBIE_FLUSH, CBIE_INVAL = 0, 1 << 4, 3 << 4

# mseccfg (Smepmp, Zicfilp).
MML, MMWP, RLB, MLPE = 1, 2, 4, 1 << 10

# tcontrol.
MTE, MPTE = 1 << 3, 1 << 7

# satp.
MODE_SHIFT, ASID_SHIFT = 60, 44
BARE, SV39_MODE, SV48_MODE, SV57_MODE = 0, 8, 9, 10
ASID_MASK, PPN_MASK = 0xFFFF, (1 << 44) - 1
VMID_MASK, VMID_SHIFT = 0x3FFF, 44  #: hgatp

#: misa: RV64, and the letters of what is implemented.
MISA = 2 << 62 | sum(1 << (ord(letter) - ord("A")) for letter in "ABCDFHIMSU")
