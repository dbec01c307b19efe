"""An assembler for the x86-64 instructions that experiments need. Operands are 64 bits wide, displacements 32.

Source: AMD64 Architecture Programmer's Manual, volume 3, "Instruction Encoding": REX prefix, ModRM byte, SIB byte.
"""

from __future__ import annotations

import struct

from trapline.labs.code.assemble import Code, Fix

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)
CONDITIONS = {"c": 2, "nc": 3, "z": 4, "nz": 5, "a": 7, "be": 6}
_W = 0x48


def _modrm(mod: int, reg: int, rm: int) -> int:
    return mod << 6 | (reg & 7) << 3 | rm & 7


def _relative(opcode: bytes) -> Fix:
    return lambda at, to: opcode + struct.pack("<i", to - at - len(opcode) - 4)


class X86(Code):
    """Methods append one instruction each, in the manual's order of operands: destination first."""

    def mov(self, reg: int, value: int | str) -> None:
        """A constant of 64 bits, or the address of a label."""
        head = bytes((_W | reg >> 3, 0xB8 | reg & 7))
        if isinstance(value, str):
            self.at_label(value, 10, lambda at, to: head + struct.pack("<Q", to))
        else:
            self.raw(head + struct.pack("<Q", value & (1 << 64) - 1))

    def copy(self, to: int, source: int) -> None:
        self._registers(0x89, source, to)

    def _registers(self, opcode: int, reg: int, rm: int) -> None:
        self.raw(bytes((_W | reg >> 3 << 2 | rm >> 3, opcode, _modrm(3, reg, rm))))

    def _memory(self, opcode: int, reg: int, base: int, disp: int) -> None:
        sib = b"\x24" if base & 7 == RSP else b""
        head = bytes((_W | reg >> 3 << 2 | base >> 3, opcode, _modrm(2, reg, base)))
        self.raw(head + sib + struct.pack("<i", disp))

    def load(self, reg: int, base: int, disp: int = 0) -> None:
        self._memory(0x8B, reg, base, disp)

    def store(self, base: int, disp: int, reg: int) -> None:
        self._memory(0x89, reg, base, disp)

    def lea(self, reg: int, base: int, disp: int) -> None:
        self._memory(0x8D, reg, base, disp)

    def add(self, to: int, source: int) -> None:
        self._registers(0x01, source, to)

    def sub(self, to: int, source: int) -> None:
        self._registers(0x29, source, to)

    def compare(self, a: int, b: int) -> None:
        self._registers(0x39, b, a)

    def bit_or(self, to: int, source: int) -> None:
        self._registers(0x09, source, to)

    def zero(self, reg: int) -> None:
        self._registers(0x31, reg, reg)

    def add_constant(self, reg: int, value: int) -> None:
        self.raw(bytes((_W | reg >> 3, 0x81, _modrm(3, 0, reg))) + struct.pack("<i", value))

    def shift_left(self, reg: int, count: int) -> None:
        self.raw(bytes((_W | reg >> 3, 0xC1, _modrm(3, 4, reg), count)))

    def push(self, reg: int) -> None:
        self.raw((b"\x41" if reg > 7 else b"") + bytes((0x50 | reg & 7,)))

    def pop(self, reg: int) -> None:
        self.raw((b"\x41" if reg > 7 else b"") + bytes((0x58 | reg & 7,)))

    def jump(self, label: str) -> None:
        self.at_label(label, 5, _relative(b"\xe9"))

    def jump_if(self, condition: str, label: str) -> None:
        self.at_label(label, 6, _relative(bytes((0x0F, 0x80 | CONDITIONS[condition]))))

    def call(self, label: str) -> None:
        self.at_label(label, 5, _relative(b"\xe8"))

    def call_register(self, reg: int) -> None:
        self.raw((b"\x41" if reg > 7 else b"") + bytes((0xFF, _modrm(3, 2, reg))))

    def ret(self) -> None:
        self.raw(b"\xc3")

    def syscall(self, number: int, *arguments: int | str) -> None:
        """Constants and labels go into the registers of the calling convention, syscall(2)."""
        for reg, value in zip((RDI, RSI, RDX, R10, R8, R9), arguments, strict=False):
            self.mov(reg, value)
        self.mov(RAX, number)
        self.raw(b"\x0f\x05")

    def read_tsc(self, reg: int) -> None:
        """The time-stamp counter into `reg`, once everything before is done. Uses rax and rdx."""
        self.raw(b"\x0f\xae\xe8\x0f\x31")  # lfence; rdtsc
        self.shift_left(RDX, 32)
        self.bit_or(RAX, RDX)
        self.copy(reg, RAX)
