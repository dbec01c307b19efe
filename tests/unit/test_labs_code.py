"""Machine code for experiments: what is assembled here runs, and means what it says, on both machines."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from trapline.labs.code import guest, riscv, x86
from trapline.labs.code.elf import DATA, TEXT, static

CONSTANTS = (0, 1, -1, 2047, 2048, -2048, -2049, 0x7FFF_FFFF, 0x7FFF_F800, 0x8000_0000, -(1 << 31), 0x1234_5678_9ABC_DEF0, 1 << 63)


def answers(image: bytes, machine: str) -> list[int]:
    out = guest.run(image, machine=machine, take=8 * 16)
    assert out.status == 7
    return list(struct.unpack("<16Q", out.data))


def test_x86_code_runs() -> None:
    code = x86.X86(TEXT)
    code.mov(x86.RBX, DATA)
    code.mov(x86.R9, 5)
    code.label("again")
    code.call("add")
    code.add_constant(x86.R9, -1)
    code.jump_if("nz", "again")
    code.store(x86.RBX, 0, x86.R10)
    code.mov(x86.R12, "add")
    code.call_register(x86.R12)
    code.push(x86.R10)
    code.load(x86.R11, x86.RSP)
    code.pop(x86.R13)
    code.sub(x86.R13, x86.R11)
    code.store(x86.RBX, 8, x86.R11)
    code.store(x86.RBX, 16, x86.R13)
    code.read_tsc(x86.R14)
    code.store(x86.RBX, 24, x86.R14)
    code.syscall(231, 7)
    code.label("add")
    code.add_constant(x86.R10, 0x1000)
    code.ret()
    found = answers(static("x86_64", code.link()), "host")
    assert found[:3] == [0x5000, 0x6000, 0] and found[3]


def test_riscv_constants_and_labels() -> None:
    code = riscv.Riscv(TEXT)
    code.li(riscv.S0, DATA)
    for n, value in enumerate(CONSTANTS):
        code.li(riscv.A0, value)
        code.op("sd", rs1=riscv.S0, rs2=riscv.A0, imm=8 * n)
    code.la(riscv.A1, "behind")
    code.call("behind")
    code.label("back")
    code.op("sd", rs1=riscv.S0, rs2=riscv.A1, imm=8 * len(CONSTANTS))
    code.syscall(94, 7)
    code.label("behind")
    code.la(riscv.A2, "back")
    code.op("sub", rd=riscv.A1, rs1=riscv.A1, rs2=riscv.A2)
    code.ret()
    found = answers(static("riscv64", code.link()), "riscv")
    assert found[: len(CONSTANTS)] == [each & (1 << 64) - 1 for each in CONSTANTS]
    assert found[len(CONSTANTS)] == code.labels["behind"] - code.labels["back"]


def test_a_label_is_somewhere_and_once() -> None:
    code = x86.X86(TEXT)
    code.jump("nowhere")
    with pytest.raises(KeyError):
        code.link()
    code.label("nowhere")
    with pytest.raises(ValueError, match="twice"):
        code.label("nowhere")
    assert code.link() == b"\xe9\0\0\0\0"


@pytest.mark.skipif(not shutil.which("objdump"), reason="not installed: objdump")
def test_objdump_reads_what_was_meant(tmp_path: Path) -> None:
    code = x86.X86(0)
    code.lea(x86.R12, x86.RSP, 16)
    code.store(x86.R13, -8, x86.RAX)
    code.load(x86.RBP, x86.R12)
    code.compare(x86.RAX, x86.R9)
    code.shift_left(x86.R10, 3)
    code.copy(x86.R15, x86.RCX)
    (tmp_path / "code").write_bytes(code.link())
    command = ["objdump", "-D", "-b", "binary", "-mi386:x86-64", "-M", "intel", "--no-show-raw-insn", str(tmp_path / "code")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [" ".join(each.split()[1:]).partition(" #")[0] for each in text.splitlines() if each.startswith("  ")]
    assert lines == [
        "lea r12,[rsp+0x10]", "mov QWORD PTR [r13-0x8],rax", "mov rbp,QWORD PTR [r12+0x0]", "cmp rax,r9", "shl r10,0x3",
        "mov r15,rcx",
    ]  # fmt: skip
