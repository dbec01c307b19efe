"""A guest made by hand: page tables and machine code written straight into RAM, for tests of a machine without a kernel."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from trapline.abi.x86_64 import RAX, RIP, RSP
from trapline.machine.contract import INTERRUPT
from trapline.machine.paging.entry import X86_64 as FMT
from trapline.machine.ram import Ram

CODE, DATA, STACK = 0x40_0000, 0x60_0000, 0x7000_0000
PAGE = 4096


@cache
def assemble(source: str) -> bytes:
    """Flat machine code of GNU assembler text (Intel syntax)."""
    if shutil.which("gcc") is None:
        raise RuntimeError("gcc is needed to assemble the test's guest")
    with tempfile.TemporaryDirectory() as directory:
        text, obj, flat = (Path(directory) / name for name in ("a.s", "a.o", "a.bin"))
        text.write_text(".intel_syntax noprefix\n.text\n" + source + "\n")
        subprocess.run(["gcc", "-c", "-o", obj, text], check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", obj, flat], check=True)
        return flat.read_bytes()


class Guest:
    """One address space with code, data and stack pages, and its contexts."""

    def __init__(self, machine: Any, source: str = "", *, code_at: int = CODE, data_pages: int = 4) -> None:
        self.machine = machine
        self.ram: Ram = machine.ram
        self.root = self.ram.frames.alloc()
        self.space = machine.new_space(self.root)
        code = assemble(source) if source else b"\x0f\x0b"
        self.code_at = code_at
        for offset in range(0, len(code), PAGE):
            self.write(self.map(code_at + offset, execute=True, write=False), code[offset : offset + PAGE])
        self.data = [self.map(DATA + i * PAGE) for i in range(data_pages)]
        self.map(STACK - PAGE)

    def map(self, va: int, pfn: int = 0, *, write: bool = True, execute: bool = False, flags: int = 0) -> int:
        """Map a page (a new frame unless one is given) without telling the machine; the frame."""
        pfn = pfn or self.ram.frames.alloc()
        self.set_entry(va, FMT.leaf(pfn, read=True, write=write, execute=execute) | flags)
        return pfn

    def set_entry(self, va: int, entry: int, level: int = 0) -> None:
        self.ram.words[self.word(va, level)] = entry

    def word(self, va: int, level: int = 0) -> int:
        """Where the entry of `va` is; tables are made on the way."""
        words, table = self.ram.words, self.root
        for each in (3, 2, 1):
            at = (table << 12 >> 3) + (va >> 12 + 9 * each & 511)
            if each == level:
                return at
            if not words[at] & 1:
                words[at] = FMT.table(self.ram.frames.alloc())
            table = FMT.pfn(words[at])
        return (table << 12 >> 3) + (va >> 12 & 511)

    def entry(self, va: int) -> int:
        return self.ram.words[self.word(va)]

    def write(self, pfn: int, data: bytes, offset: int = 0) -> None:
        at = (pfn << 12) + offset
        self.ram.mem[at : at + len(data)] = data

    def read(self, pfn: int, length: int, offset: int = 0) -> bytes:
        at = (pfn << 12) + offset
        return bytes(self.ram.mem[at : at + length])

    def context(self, pc: int | None = None, sp: int = STACK - 64, **regs: int) -> Any:
        ctx = self.machine.new_context(self.space)
        ctx.regs[RIP] = self.code_at if pc is None else pc
        ctx.regs[RSP] = sp
        ctx.owner = self
        return ctx


def run(machine: Any, ctx: Any, timeout_s: float = 10) -> Any:
    """Resume `ctx` and return it at its next trap that is not spurious."""
    import time

    deadline = time.monotonic_ns() + int(timeout_s * 1e9)
    machine.resume(ctx)
    while True:
        got = machine.wait(deadline)
        if got is None:
            assert time.monotonic_ns() < deadline, "the guest did not trap"
            continue
        assert got is ctx
        if got.kind != INTERRUPT:
            return got
        machine.resume(got)


def until(machine: Any, done: Callable[[], bool], serve: Callable[[Any], None], timeout_s: float = 10) -> None:
    """Serve traps until `done()`."""
    import time

    deadline = time.monotonic_ns() + int(timeout_s * 1e9)
    while not done():
        got = machine.wait(deadline)
        if got is not None:
            serve(got)
        assert time.monotonic_ns() < deadline, "the guests did not get there"


__all__ = ["CODE", "DATA", "PAGE", "RAX", "STACK", "Guest", "assemble", "run", "until"]


@pytest.fixture
def machine() -> Iterator[Any]:
    from trapline.machine.host import HostMachine

    machine = HostMachine(Ram(64 << 20, shared=True), 2)
    yield machine
    machine.close()
