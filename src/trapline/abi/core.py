"""Core dumps: the notes of an ELF core file (core(5), elf(5), linux/elfcore.h, sys/procfs.h) and what is in it by default."""

from __future__ import annotations

from struct import Struct

ET_CORE, PT_NOTE = 4, 4
NT_PRSTATUS, NT_FPREGSET, NT_PRPSINFO, NT_AUXV = 1, 2, 3, 6
NT_X86_XSTATE = 0x202
NT_SIGINFO, NT_FILE = 0x53494749, 0x46494C45
NHDR = Struct("<III")  #: length of the name (its NUL included), length of the contents, type
MAX_NAME = 128  #: CORENAME_MAX_SIZE: of core_pattern

#: struct elf_prstatus up to the registers: signal, code, errno; cursig; pending and blocked signals; pid, ppid, pgrp, sid;
#: user, system, children's user and system time, each in seconds and microseconds
PRSTATUS_HEAD = Struct("<iiihxxQQiiiiqqqqqqqq")
PRSTATUS_TAIL = Struct("<ixxxx")  #: pr_fpvalid
#: struct elf_prpsinfo: state, its letter, zombie, nice; flags; uid, gid; pid, ppid, pgrp, sid; name; arguments
PRPSINFO = Struct("<BcBbxxxxQIIiiii16s80s")
PSARGS = 79

# /proc/PID/coredump_filter: which areas are dumped (core(5), "Controlling which mappings are written to the core dump").
ANON_PRIVATE, ANON_SHARED, FILE_PRIVATE, FILE_SHARED, ELF_HEADERS = 1, 2, 4, 8, 16
DEFAULT_FILTER = 0x33
FILTER_MASK = 0x1FF

# The software-reserved bytes of an FXSAVE image in a signal frame (asm/sigcontext.h, struct _fpx_sw_bytes).
FXSAVE_SIZE = 512
SW_BYTES = Struct("<IIQI")  #: magic, extended size, features, size of the XSAVE image
SW_OFFSET = 464  #: in a core file's note, the features stand here
FP_XSTATE_MAGIC1 = 0x46505853
