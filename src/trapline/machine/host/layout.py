"""Where things are in a stub process and in a slot: `layout.h` and `struct slot` of `stub.c`, for Python."""

from __future__ import annotations

from trapline.typed import Final

VERSION: Final = 4
STUB: Final = 0x7FFF_FF00_0000  #: first address that is not the guest's
TEXT_SIZE: Final = 0x2000
NURSERY: Final = STUB + TEXT_SIZE  #: text that only processes have in which no user code has run yet
NURSERY_SIZE: Final = 0x1000
SLOTS: Final = STUB + 0x10000  #: a process's own slots
TOP: Final = 0x7FFF_FFFF_F000
SLOT_SIZE: Final = 0x4000
SLOT_HEAD: Final = 0x1000
MAX_SLOTS: Final = (TOP - SLOTS) // SLOT_SIZE - 1

# Offsets in a slot.
CMD, NOPS, KERNEL_SLEEPS, SPIN, PPID, STAMPS = 0, 4, 8, 12, 16, 20
STATE, STUB_SLEEPS, CAUSE, FRAME_PTR, LEFT = 128, 132, 144, 160, 168
REGS: Final = 192
OPS: Final = 512
OP_WORDS: Final = 7
OPS_MAX: Final = 48
OP_CHILD: Final = OPS_MAX
RESULTS: Final = OPS + (OPS_MAX + 1) * OP_WORDS * 8

# Offsets in a signal frame, from its return address on (asm/sigframe.h, asm/sigcontext.h).
FRAME_UC_FLAGS, FRAME_UC_LINK, FRAME_UC_STACK, FRAME_GREGS, FRAME_FPSTATE = 8, 16, 24, 48, 232
FRAME_MASK, FRAME_SIZE = 304, 440

# Descriptors in a stub process.
FD_DOORBELL, FD_RAM, FD_CONTEXTS, FD_GREETING, FD_IMAGE = range(5)

# Host system calls a stub performs by order, and their flags.
NR_MMAP, NR_MPROTECT, NR_MUNMAP, NR_CLONE = 9, 10, 11, 56
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_SHARED, MAP_FIXED, MAP_POPULATE = 1, 0x10, 0x8000
CLONE_THREAD: Final = 0x50F00  #: VM FS FILES SIGHAND THREAD SYSVSEM

SIG_KICK: Final = 10

#: One operation: the system call's number and its six arguments.
Op = tuple[int, int, int, int, int, int, int]
#: Unmaps a page that is never mapped. That it arrives proves that what the thread did before is done.
FENCE: Final[Op] = (NR_MUNMAP, TOP - 0x1000, 0x1000, 0, 0, 0, 0)
