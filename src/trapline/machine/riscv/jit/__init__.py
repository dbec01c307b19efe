"""The native tiers of the RISC-V machine: the instruction definitions lowered to LLVM, as an interpreter and as regions.

Needs llvmlite (the extra `jit`); without it the reference tier runs everything (available.py says which).
"""
