"""A server of GDB's remote serial protocol for the RISC-V computer: packets, registers, memory, and what each packet does."""
