"""LLVM, through llvmlite: what runs in the compiler's process, which worker.py starts.

It takes requests from descriptor 0 and answers on descriptor 1 until there are no more, for good or for a while: kind and
length, then text; success and length, then an object file, assembly text, or what went wrong.
"""

from __future__ import annotations

import os
import struct
from typing import Any

REQUEST = struct.Struct("<BI")  #: kind, length
REPLY = struct.Struct("<?I")  #: whether it went well, length
ASSEMBLY, ASSEMBLE, OBJECT, REGION = range(4)
IDLE_S = 1.0  #: without a request for so long, the process goes


class Llvm:
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

    def answer(self, kind: int, text: str) -> bytes:
        """What is asked for. Raises RuntimeError, as LLVM does."""
        if kind == ASSEMBLY:
            return str(self._machine(2, "static").emit_assembly(self._llvm.parse_assembly(text))).encode()
        if kind == ASSEMBLE:
            return self._assembled(text)
        return self._compiled(text, 1, passes=True) if kind == REGION else self._compiled(text, 2, passes=False)

    def _machine(self, level: int, reloc: str) -> Any:
        target = self._llvm.Target.from_default_triple()
        return target.create_target_machine(
            cpu=self._cpu, features=self._features, opt=level, codemodel="small", reloc=reloc, jit=True
        )

    def _assembled(self, assembly: str) -> bytes:
        """The object file of assembly text."""
        self._llvm.initialize_native_asmparser()
        lines = "".join(f'module asm "{_escaped(line)}"\n' for line in assembly.splitlines())
        found: bytes = self._machine(2, "static").emit_object(self._llvm.parse_assembly(lines))
        return found

    def _compiled(self, text: str, level: int, *, passes: bool) -> bytes:
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


def serve() -> None:
    """Answer until nobody asks any more."""
    import select

    replies = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no reply
    library: Llvm | None = None
    while select.select([0], [], [], IDLE_S)[0] and len(head := read(0, REQUEST.size)) == REQUEST.size:
        kind, length = REQUEST.unpack(head)
        text = read(0, length).decode()
        try:
            library = library or Llvm()
            fine, data = True, library.answer(kind, text)
        except Exception as error:
            fine, data = False, f"{error.__class__.__name__}: {error}".encode()
        write(replies, REPLY.pack(fine, len(data)) + data)


def read(fd: int, size: int) -> bytes:
    """So many bytes, or fewer at the end of a file."""
    found = bytearray()
    while len(found) < size and (chunk := os.read(fd, size - len(found))):
        found += chunk
    return bytes(found)


def write(fd: int, data: bytes) -> None:
    """All of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
