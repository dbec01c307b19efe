"""Which ELF files the kernel takes for programs, by architecture."""

from __future__ import annotations

from typing import Any

import pytest

from trapline.abi import elf
from trapline.abi.errno import ENOEXEC, Errno
from trapline.abi.riscv64 import EF_FLOAT_ABI_DOUBLE, EF_FLOAT_ABI_QUAD, EF_RVC, EF_RVE
from trapline.kernel.exec.elf import ForeignProgram, Image, parse

USER = {"x86_64": 1 << 47, "riscv64": 1 << 38}


class Bytes:
    """A file of bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def try_pread(self, count: int, offset: int) -> bytes:
        return self.data[offset : offset + count]


def program(machine: int, flags: int = 0, *, bits: int = elf.ELFCLASS64, vaddr: int = 0x10000) -> Any:
    head = elf.EHDR.pack(
        elf.MAGIC + bytes((bits, elf.ELFDATA2LSB, 1)) + bytes(9), elf.ET_EXEC, machine, 1, vaddr, elf.EHDR.size, 0, flags,
        elf.EHDR.size, elf.PHDR.size, 1, 0, 0, 0,
    )  # fmt: skip
    return Bytes(head + elf.PHDR.pack(elf.PT_LOAD, elf.PF_R | elf.PF_X, 0, vaddr, 0, 120, 120, 4096))


def parsed(arch: str, *args: Any, **options: Any) -> Image:
    return parse(program(*args, **options), arch, USER[arch])


def test_each_architecture_runs_its_own() -> None:
    assert parsed("x86_64", elf.EM_X86_64).entry == 0x10000
    for flags in (0, EF_RVC, EF_RVC | EF_FLOAT_ABI_DOUBLE, 2, 0x10):
        assert parsed("riscv64", elf.EM_RISCV, flags).entry == 0x10000


@pytest.mark.parametrize(("arch", "machine", "other"), [("x86_64", elf.EM_RISCV, "riscv64"), ("riscv64", elf.EM_X86_64, "x86_64")])
def test_a_program_for_another_machine_is_refused_and_says_for_which(arch: str, machine: int, other: str) -> None:
    with pytest.raises(ForeignProgram, match=f"a program for {other}, and this machine is {arch}") as caught:
        parsed(arch, machine)
    assert (caught.value.number, caught.value.arch) == (ENOEXEC.number, other)


@pytest.mark.parametrize("flags", [EF_RVE, EF_FLOAT_ABI_QUAD | EF_RVC])
def test_registers_that_this_machine_has_not_are_refused(flags: int) -> None:
    with pytest.raises(ENOEXEC):
        parsed("riscv64", elf.EM_RISCV, flags)


@pytest.mark.parametrize(
    ("arch", "machine", "bits", "what"),
    [
        ("riscv64", 183, 2, "aarch64 (64 bits)"), ("x86_64", 3, 1, "i386 (32 bits)"), ("riscv64", elf.EM_RISCV, 1, "riscv (32 bits)"),
        ("x86_64", 999, 2, "ELF machine 999 (64 bits)"),
    ],
)  # fmt: skip
def test_a_machine_nobody_has_or_32_bits_is_named(arch: str, machine: int, bits: int, what: str) -> None:
    with pytest.raises(ForeignProgram) as caught:
        parsed(arch, machine, bits=bits)
    assert caught.value.number == ENOEXEC.number and caught.value.arch is None and what in caught.value.why


def test_user_space_ends_where_the_architecture_says() -> None:
    assert parsed("x86_64", elf.EM_X86_64, vaddr=1 << 40).low == 1 << 40
    with pytest.raises(Errno):
        parsed("riscv64", elf.EM_RISCV, vaddr=1 << 40)
