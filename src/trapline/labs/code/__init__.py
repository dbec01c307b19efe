"""Machine code for experiments, put together from Python: no compiler is needed. x86-64, riscv64, and ELF files of both."""
