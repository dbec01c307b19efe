"""The few things that `program` does, in instructions: two scratch registers (0 and 1), memory by its address.

Register 0 also holds the result of a system call, and of a function.
"""

from __future__ import annotations

from collections.abc import Callable
from trapline.typed import Protocol

from trapline.labs.code import riscv as r
from trapline.labs.code import x86 as x
from trapline.labs.code.assemble import Code
from trapline.labs.code.riscv import Riscv
from trapline.labs.code.x86 import X86


class Emitter(Protocol):
    @property
    def code(self) -> Code: ...
    def constant(self, register: int, value: int) -> None: ...
    def address_of(self, register: int, label: str) -> None: ...
    def get(self, register: int, address: int) -> None: ...
    def put(self, address: int, register: int) -> None: ...
    def load(self, register: int, pointer: int, size: int) -> None: ...
    def store(self, pointer: int, register: int, size: int) -> None: ...
    def add(self, register: int, other: int) -> None: ...
    def stack(self, register: int) -> None: ...
    def goto(self, label: str) -> None: ...
    def if_zero(self, register: int, label: str) -> None: ...
    def argument(self, number: int, register: int) -> None: ...
    def system_call(self, number: int) -> None: ...
    def system_call_by(self, register: int) -> None:
        """The one whose number is in the register, which is 0."""

    def call(self, register: int) -> None: ...
    def enter(self, info: int, context: int) -> None:
        """A signal handler begins: put its second and third argument there."""

    def leave(self) -> None: ...


class _X86:
    """Scratch: rax and rbx; r12 holds addresses. (rcx and r11 are the syscall instruction's.)"""

    _REGISTERS = (x.RAX, x.RBX)
    _ARGUMENTS = (x.RDI, x.RSI, x.RDX, x.R10, x.R8, x.R9)

    def __init__(self, base: int) -> None:
        self.code: X86 = X86(base)

    def constant(self, register: int, value: int) -> None:
        self.code.mov(self._REGISTERS[register], value)

    def address_of(self, register: int, label: str) -> None:
        self.code.mov(self._REGISTERS[register], label)

    def get(self, register: int, address: int) -> None:
        self.code.mov(x.R12, address)
        self.code.load(self._REGISTERS[register], x.R12)

    def put(self, address: int, register: int) -> None:
        self._put(address, self._REGISTERS[register])

    def _put(self, address: int, reg: int) -> None:
        self.code.mov(x.R12, address)
        self.code.store(x.R12, 0, reg)

    def load(self, register: int, pointer: int, size: int) -> None:
        """rax, rbx: no prefix but that of the size, no byte that stands for another register."""
        code = {1: b"\x48\x0f\xb6", 2: b"\x48\x0f\xb7", 4: b"\x8b", 8: b"\x48\x8b"}[size]
        self.code.raw(code + bytes([self._REGISTERS[register] << 3 | self._REGISTERS[pointer]]))

    def store(self, pointer: int, register: int, size: int) -> None:
        code = {1: b"\x88", 2: b"\x66\x89", 4: b"\x89", 8: b"\x48\x89"}[size]
        self.code.raw(code + bytes([self._REGISTERS[register] << 3 | self._REGISTERS[pointer]]))

    def add(self, register: int, other: int) -> None:
        self.code.add(self._REGISTERS[register], self._REGISTERS[other])

    def stack(self, register: int) -> None:
        self.code.copy(self._REGISTERS[register], x.RSP)

    def goto(self, label: str) -> None:
        self.code.jump(label)

    def if_zero(self, register: int, label: str) -> None:
        self.code.zero(x.R12)
        self.code.compare(self._REGISTERS[register], x.R12)
        self.code.jump_if("z", label)

    def argument(self, number: int, register: int) -> None:
        self.code.copy(self._ARGUMENTS[number], self._REGISTERS[register])

    def system_call(self, number: int) -> None:
        self.code.syscall(number)

    def system_call_by(self, register: int) -> None:
        self.code.raw(b"\x0f\x05")  # register 0 is where it belongs

    def call(self, register: int) -> None:
        self.code.call_register(self._REGISTERS[register])

    def enter(self, info: int, context: int) -> None:
        self._put(info, x.RSI)
        self._put(context, x.RDX)

    def leave(self) -> None:
        self.code.ret()


class _RiscV:
    """Scratch: a0 and s0; s1 holds addresses, t0 the first argument of a call until it is made."""

    _REGISTERS = (r.A0, r.S0)

    def __init__(self, base: int) -> None:
        self.code: Riscv = Riscv(base)

    def constant(self, register: int, value: int) -> None:
        self.code.li(self._REGISTERS[register], value)

    def address_of(self, register: int, label: str) -> None:
        self.code.la(self._REGISTERS[register], label)

    def get(self, register: int, address: int) -> None:
        self.code.li(r.S1, address)
        self.code.op("ld", rd=self._REGISTERS[register], rs1=r.S1)

    def put(self, address: int, register: int) -> None:
        self._put(address, self._REGISTERS[register])

    def _put(self, address: int, reg: int) -> None:
        self.code.li(r.S1, address)
        self.code.op("sd", rs2=reg, rs1=r.S1)

    def load(self, register: int, pointer: int, size: int) -> None:
        name = {1: "lbu", 2: "lhu", 4: "lwu", 8: "ld"}[size]
        self.code.op(name, rd=self._REGISTERS[register], rs1=self._REGISTERS[pointer])

    def store(self, pointer: int, register: int, size: int) -> None:
        name = {1: "sb", 2: "sh", 4: "sw", 8: "sd"}[size]
        self.code.op(name, rs2=self._REGISTERS[register], rs1=self._REGISTERS[pointer])

    def add(self, register: int, other: int) -> None:
        reg = self._REGISTERS[register]
        self.code.op("add", rd=reg, rs1=reg, rs2=self._REGISTERS[other])

    def stack(self, register: int) -> None:
        self.code.op("addi", rd=self._REGISTERS[register], rs1=r.SP)

    def goto(self, label: str) -> None:
        self.code.jump(label)

    def if_zero(self, register: int, label: str) -> None:
        self.code.op("bne", rs1=self._REGISTERS[register], rs2=r.ZERO, imm=8)  # a jump reaches farther than a branch
        self.code.jump(label)

    def argument(self, number: int, register: int) -> None:
        self.code.op("addi", rd=r.A0 + number if number else r.T0, rs1=self._REGISTERS[register])

    def system_call(self, number: int) -> None:
        self.code.op("addi", rd=r.A0, rs1=r.T0)
        self.code.syscall(number)

    def system_call_by(self, register: int) -> None:
        self.code.op("addi", rd=r.A7, rs1=self._REGISTERS[register])
        self.code.op("addi", rd=r.A0, rs1=r.T0)
        self.code.op("ecall")

    def call(self, register: int) -> None:
        self.code.op("jalr", rd=r.RA, rs1=self._REGISTERS[register])

    def enter(self, info: int, context: int) -> None:
        self._put(info, r.A1)
        self._put(context, r.A2)

    def leave(self) -> None:
        self.code.ret()


EMITTERS: dict[str, Callable[[int], Emitter]] = {"x86_64": _X86, "riscv64": _RiscV}
