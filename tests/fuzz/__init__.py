"""Fuzzers of everything that decodes bytes a hostile program, archive or command line controls.

    python -m tests.fuzz --list
    python -m tests.fuzz elf --seconds 60 --seed 7

engine.py   inputs, mutations and guidance by coverage      world.py     a kernel and a task of it, in hand
targets.py  what is fuzzed: bytes to calls, and what must hold      corpus/NAME/   inputs that reach far, or once broke something
"""
