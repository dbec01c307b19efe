"""LLVM, through llvmlite: from text to code at an address.

What is compiled is an image (objects.py) and is put into the machine's memory for code (memory.py), which is never writable
and executable at one address. The interpreter's image is kept on disk (cache.py): the key is a digest of the source that
its text comes from, of the compiler and of this CPU. llvmlite is imported when something must be compiled, not before.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from trapline.typed import Any

from trapline.machine.riscv.jit import available
from trapline.machine.riscv.jit.baseline import Table
from trapline.machine.riscv.jit.cache import Cache, default_directory, digest
from trapline.machine.riscv.jit.memory import CodeMemory
from trapline.machine.riscv.jit.objects import Image, link, unpack


class OutOfCode(Exception):
    """The memory for code is full."""


class Compiler:
    """One memory for code. The code lives as long as it does."""

    def __init__(self, cache: Cache | None = None) -> None:
        self.memory = CodeMemory()
        self.cache = cache if cache is not None else Cache(default_directory())
        self._identity = f"{available.identity()} {_sources()}"
        self._llvm: _Llvm | None = None
        self._lock = threading.Lock()

    def key(self, *what: object) -> str:
        """The name in the cache of what depends on `what`, on our source, on the compiler and on the CPU."""
        return digest(repr((self._identity, *what)).encode()).hex()

    # ---- from text to an image

    def interpreter(self) -> Image:
        """The image of the interpreter."""
        key = self.key("interpreter")
        data = self.cache.get(key)
        if data is not None:
            with suppress(ValueError):
                return unpack(data)
        from trapline.machine.riscv.jit import interpreter

        image = link(self._compile(interpreter.module(), 2, passes=False))
        self.cache.keep(key, image.pack())
        return image

    def stencils(self) -> Table:
        """The table of the baseline tier."""
        key = self.key("stencils")
        data = self.cache.get(key)
        if data is not None:
            with suppress(ValueError, struct.error):
                return Table(data)
        from trapline.machine.riscv.jit.stencil_table import build

        data = build(partial(self._library().assembled, level=2))
        self.cache.keep(key, data)
        return Table(data)

    def region(self, text: str) -> Image:
        """The image of a region: SSA form, fewer blocks, code generation. (Combining instructions gains nothing.)"""
        return link(self._compile(text, 1, passes=True))

    def _compile(self, text: str, level: int, *, passes: bool) -> bytes:
        return self._library().compile(text, level, passes=passes)

    def _library(self) -> _Llvm:
        with self._lock:
            if self._llvm is None:
                self._llvm = _Llvm()
        return self._llvm

    # ---- from an image to addresses

    def load(self, image: Image, *names: str) -> list[int]:
        """Put an image into memory; the addresses of its functions. Raises OutOfCode."""
        start = self.memory.put(image.code)
        if start is None:
            raise OutOfCode
        return [start + image.symbols[name] for name in names]


class _Llvm:
    """The library, imported and initialised."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        llvm.set_option("trapline", "-disable-lsr")  # it trades one register's arithmetic for another's, and costs time
        llvm.set_option("trapline", "-jump-table-density=4")  # per cent: targets of jumps are few, and far between
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._llvm = llvm
        self._cpu = llvm.get_host_cpu_name()
        self._features = llvm.get_host_cpu_features().flatten()

    def _machine(self, level: int, reloc: str) -> Any:
        target = self._llvm.Target.from_default_triple()
        return target.create_target_machine(
            cpu=self._cpu, features=self._features, opt=level, codemodel="small", reloc=reloc, jit=True
        )

    def assembled(self, text: str, edit: Callable[[str], str], level: int) -> bytes:
        """The object file of a module whose assembly text `edit` has gone over; external symbols may be constants."""
        llvm = self._llvm
        llvm.initialize_native_asmparser()
        assembly = edit(self._machine(level, "static").emit_assembly(llvm.parse_assembly(text)))
        lines = "".join(f'module asm "{_escaped(line)}"\n' for line in assembly.splitlines())
        found: bytes = self._machine(level, "static").emit_object(llvm.parse_assembly(lines))
        return found

    def compile(self, text: str, level: int, *, passes: bool) -> bytes:
        """The object file of a module."""
        llvm = self._llvm
        machine = self._machine(level, "pic")
        module = llvm.parse_assembly(text)
        if passes:
            builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
            manager = llvm.create_new_function_pass_manager()
            manager.add_sroa_pass()
            manager.add_simplify_cfg_pass()
            for function in module.functions:
                if not function.is_declaration:
                    manager.run(function, builder)
        found: bytes = machine.emit_object(module)
        return found


def _escaped(line: str) -> str:
    return line.replace("\\", "\\5C").replace('"', "\\22").replace("\t", " ")


def _sources() -> str:
    """A digest of the instructions, of the registers and layouts, and of what lowers them."""
    here = os.path.dirname(__file__)
    above = os.path.dirname(here)
    found = bytearray()
    for directory in (here, os.path.join(above, "isa"), above):
        for name in sorted(os.listdir(directory)):
            if name.endswith(".py"):
                with open(os.path.join(directory, name), "rb") as file:
                    found += file.read()
    return digest(bytes(found)).hex()
