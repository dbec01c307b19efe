"""The board's devices, each a page of code: registers in, interrupt lines out. docs/extending.md shows how to write one."""
