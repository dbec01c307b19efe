"""Random programs: straight code with forward branches over every unprivileged instruction, run from one data image.

A program loads all registers from the image, executes its body, stores all registers and fflags behind the image and writes the
page to standard output. It is a bare ELF file, so any RISC-V Linux can run it; `on_hart` runs the same bytes on a hart.
"""

from __future__ import annotations

import random
import struct

from riscv_util import random_word

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout as at
from trapline.machine.riscv import status as st
from trapline.machine.riscv.bus import Bus
from trapline.machine.riscv.code import Code
from trapline.machine.riscv.hart import TRAPPED, Hart
from trapline.machine.riscv.isa.declare import Op
from trapline.machine.riscv.isa.decode import OPS, encode

CODE, DATA = 0x10000, 0x200000
BASE_REGISTER = 31
IMAGE = 2048  #: bytes of the data image; as many again hold the results
_PACKED_E = struct.Struct("<16sHHIQQQIHHHHHH")
_PACKED_P = struct.Struct("<IIQQQQQQ")
_EDGES = (
    0, 1, 2, 0x7F, 0x80, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 2,
    0x7FF0_0000_0000_0000, 0xFFF0_0000_0000_0000, 0x7FF8_0000_0000_0000, 0x7FF0_0000_0000_0001, 0x3FF0_0000_0000_0000,
    0x0010_0000_0000_0000, 0x000F_FFFF_FFFF_FFFF, 0x7FEF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0x43E0_0000_0000_0000,
    0xFFFF_FFFF_7F80_0000, 0xFFFF_FFFF_FF80_0000, 0xFFFF_FFFF_7FC0_0000, 0xFFFF_FFFF_7F80_0001, 0xFFFF_FFFF_3F80_0000,
    0xFFFF_FFFF_0080_0000, 0xFFFF_FFFF_007F_FFFF, 0xFFFF_FFFF_7F7F_FFFF, 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_4F00_0000,
)  # fmt: skip
_MEMORY = {"lb": 1, "lh": 2, "lw": 4, "ld": 8, "lbu": 1, "lhu": 2, "lwu": 4, "sb": 1, "sh": 2, "sw": 4, "sd": 8,
           "flw": 4, "fld": 8, "fsw": 4, "fsd": 8}  # fmt: skip
_BRANCHES = {"beq", "bne", "blt", "bge", "bltu", "bgeu", "jal"}
_SHORT_BRANCHES = {"c.j", "c.beqz", "c.bnez"}


def usable(extensions: set[str]) -> list[Op]:
    """Ops that a random body may hold (sc may fail for reasons of each machine's own)."""
    return [
        op
        for op in OPS
        if op.extension in extensions
        and not op.system
        and not (op.extension == "C" and op.operands.endswith(")"))
        and op.name not in ("jalr", "c.jr", "c.jalr", "fence", "c.ebreak", "sc.w", "sc.d")
    ]


def body(rng: random.Random, ops: list[Op], count: int) -> bytes:
    """About `count` instructions."""
    simple = [op for op in ops if op.name not in _BRANCHES | _SHORT_BRANCHES]
    out = bytearray()
    while count > 0:
        op = rng.choice(ops)
        if op.name in _BRANCHES | _SHORT_BRANCHES:
            skipped = b"".join(_simple(rng, rng.choice(simple)) for _ in range(rng.randint(0, 3)))
            out += _branch(rng, op, op.length + len(skipped)) + skipped
        else:
            out += _simple(rng, op)
        count -= 1
    return bytes(out)


def _branch(rng: random.Random, op: Op, distance: int) -> bytes:
    operands: dict[str, int] = {"imm": distance}
    for field in op.fields:
        if field.name != "imm":
            operands[field.name] = rng.randint(8, 15) if field.bias else rng.randint(0, BASE_REGISTER - 1)
    return encode(op.name, **operands).to_bytes(op.length, "little")


def _simple(rng: random.Random, op: Op) -> bytes:
    while True:
        word = random_word(rng, op)
        if op.name in _MEMORY:
            word = _set(op, word, rs1=BASE_REGISTER, imm=rng.randrange(0, IMAGE - 8))
        elif op.extension == "A":
            word = _set(op, word, rs1=BASE_REGISTER)
        if any(field.name == "rm" and field.get(word) in (5, 6) for field in op.fields):
            continue
        floating = op.fp and not op.operands.startswith("rd")
        if floating or not any(field.name == "rd" and field.get(word) == BASE_REGISTER for field in op.fields):
            return word.to_bytes(op.length, "little")


def _set(op: Op, word: int, **operands: int) -> int:
    for field in op.fields:
        if field.name in operands:
            clear = sum(mask << source for source, mask, _ in field.pieces)
            word = word & ~clear | field.put(operands[field.name])
    return word


def image(rng: random.Random) -> bytes:
    """Initial memory: registers first, edge values and random ones."""
    return struct.pack("<256Q", *(rng.choice(_EDGES) if rng.random() < 0.5 else rng.getrandbits(64) for _ in range(256)))


def _words(*instructions: tuple[str, dict[str, int]]) -> bytes:
    return b"".join(encode(name, **operands).to_bytes(4, "little") for name, operands in instructions)


def program(code: bytes, rounding: int = 0) -> bytes:
    """The whole text of a program with this body."""
    base = {"rs1": BASE_REGISTER}
    start = [("lui", {"rd": BASE_REGISTER, "imm": DATA}), ("csrrwi", {"csr": 3, "imm": 0}), ("csrrwi", {"csr": 2, "imm": rounding})]
    start += [("fld", {"rd": n, "imm": 8 * n, **base}) for n in range(32)]
    start += [("ld", {"rd": n, "imm": 256 + 8 * n, **base}) for n in range(1, BASE_REGISTER)]
    end: list[tuple[str, dict[str, int]]] = [("addi", {"rd": BASE_REGISTER, "imm": IMAGE - 1, **base})]
    end += [("sd", {"rs2": n, "imm": 1 + 8 * n, **base}) for n in range(1, BASE_REGISTER)]
    end += [("fsd", {"rs2": n, "imm": 257 + 8 * n, **base}) for n in range(32)]
    end += [("csrrs", {"rd": 5, "csr": 1}), ("sd", {"rs2": 5, "imm": 513, **base})]
    end += [("addi", {"rd": 17, "imm": 64}), ("addi", {"rd": 10, "imm": 1}), ("lui", {"rd": 11, "imm": DATA})]
    end += [("lui", {"rd": 12, "imm": 4096}), ("ecall", {}), ("addi", {"rd": 17, "imm": 93}), ("addi", {"rd": 10}), ("ecall", {})]
    return _words(*start) + code + _words(*end)


def elf(text: bytes, data: bytes) -> bytes:
    """A static ELF file: text at CODE, data (and a page's rest of zeros) at DATA."""
    header = 4096
    text_end = header + (-(-len(text) // 4096) * 4096)
    e = _PACKED_E.pack(b"\x7fELF\2\1\1", 2, 243, 1, CODE, 64, 0, 5, 64, 56, 2, 0, 0, 0)
    p = _PACKED_P.pack(1, 5, header, CODE, CODE, len(text), len(text), 4096)
    p += _PACKED_P.pack(1, 6, text_end, DATA, DATA, len(data), max(4096, len(data)), 4096)
    return (e + p).ljust(header, b"\0") + text.ljust(text_end - header, b"\0") + data


def on_hart(text: bytes, data: bytes, make: type[Hart] = Hart, budget: int = 1_000_000) -> bytes:
    """The page that the program writes, from a hart of ours."""
    bus = Bus(Ram(4 << 20))
    bus.ram.mem[CODE : CODE + len(text)] = text
    bus.ram.mem[DATA : DATA + len(data)] = data
    hart = make(bus, Code(bus), hosted=True)
    hart.cpu[at.PC] = CODE
    hart.cpu[at.MSTATUS] |= st.FS
    assert hart.run(budget) == TRAPPED
    assert hart.xs[17] == 64, f"trap {hart.cpu[at.TRAP_CAUSE]} at {hart.cpu[at.PC]:#x}, value {hart.cpu[at.TRAP_VALUE]:#x}"
    return bytes(bus.ram.mem[DATA : DATA + 4096])
