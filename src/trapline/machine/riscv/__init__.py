"""The emulated RISC-V 64 computer: `isa/` says what each instruction means, `hart` runs it, `machine` serves the kernel."""
