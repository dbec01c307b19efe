"""seccomp(2) and classic BPF: operations, flags, actions, instruction codes and structures (linux/{seccomp,filter,audit}.h)."""

from __future__ import annotations

from struct import Struct

SECCOMP_MODE_DISABLED, SECCOMP_MODE_STRICT, SECCOMP_MODE_FILTER = 0, 1, 2
SECCOMP_SET_MODE_STRICT, SECCOMP_SET_MODE_FILTER, SECCOMP_GET_ACTION_AVAIL, SECCOMP_GET_NOTIF_SIZES = 0, 1, 2, 3
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_FILTER_FLAG_LOG = 2
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 16
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32

#: actions, from the strongest to the weakest; the low 16 bits of a result are data
SECCOMP_RET_KILL_PROCESS = 0x8000_0000
SECCOMP_RET_KILL_THREAD = 0x0000_0000
SECCOMP_RET_TRAP = 0x0003_0000
SECCOMP_RET_ERRNO = 0x0005_0000
SECCOMP_RET_USER_NOTIF = 0x7FC0_0000
SECCOMP_RET_TRACE = 0x7FF0_0000
SECCOMP_RET_LOG = 0x7FFC_0000
SECCOMP_RET_ALLOW = 0x7FFF_0000
SECCOMP_RET_ACTION_FULL = 0xFFFF_0000
SECCOMP_RET_DATA = 0x0000_FFFF

SECCOMP_DATA = Struct("<iIQ6Q")  #: nr, arch, instruction pointer, arguments
SOCK_FPROG = Struct("<H6xQ")  #: length, address of the instructions
SOCK_FILTER = Struct("<HBBI")  #: code, jump if true, jump if false, k

BPF_MAXINSNS = 4096
BPF_MEMWORDS = 16

# classes and what goes with them
BPF_LD, BPF_LDX, BPF_ST, BPF_STX, BPF_ALU, BPF_JMP, BPF_RET, BPF_MISC = range(8)
BPF_IMM, BPF_ABS, BPF_MEM, BPF_LEN = 0x00, 0x20, 0x60, 0x80
BPF_W, BPF_H, BPF_B = 0x00, 0x08, 0x10
BPF_IND, BPF_MSH, BPF_MOD = 0x40, 0xA0, 0x90
SKF_AD_OFF = 0xFFFFF000  #: offsets from here on are ancillary data
SKF_AD_ALU_XOR_X = 40
SKF_AD_KNOWN = frozenset(range(0, 64, 4))
SKF_AD_OF_DEVICES = frozenset((8, 12, 16, 28))  #: interface, netlink attributes, hardware type
BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR, BPF_AND, BPF_LSH, BPF_RSH, BPF_NEG, BPF_XOR = (
    0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0xA0,
)  # fmt: skip
BPF_JA, BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET = 0x00, 0x10, 0x20, 0x30, 0x40
BPF_K, BPF_X, BPF_A = 0x00, 0x08, 0x10
BPF_TAX, BPF_TXA = 0x00, 0x80

# user-space notification
SECCOMP_NOTIF = Struct("<QII64s")  #: id, pid, flags, seccomp_data
SECCOMP_NOTIF_RESP = Struct("<QqiI")  #: id, val, error, flags
SECCOMP_NOTIF_ADDFD = Struct("<QIIII")  #: id, flags, srcfd, newfd, newfd_flags
SECCOMP_NOTIF_SIZES = Struct("<HHH")
SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND = 0xC0502100, 0xC0182101
SECCOMP_IOCTL_NOTIF_ID_VALID, SECCOMP_IOCTL_NOTIF_ID_VALID_WRONG_DIR = 0x40082102, 0x80082102
SECCOMP_IOCTL_NOTIF_ADDFD = 0x40182103
IOC_SIZE_MASK = 0x3FFF_0000  #: the part of a request's number that says how long its structure is
IOC_INOUT = 0xC000_0000  #: and the part that says which way it goes
SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1
SECCOMP_ADDFD_FLAG_SETFD, SECCOMP_ADDFD_FLAG_SEND = 1, 2
