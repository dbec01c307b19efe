"""The vDSO: code the kernel hands to every program so that it can read clocks without a system call, vdso(7)."""
