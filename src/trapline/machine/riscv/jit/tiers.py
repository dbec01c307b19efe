"""The tiers of one machine: the interpreter, loaded once; code pages; and regions, made in the background of what is hot.

A place becomes hot when jumps have led to it often (state.HOT). Its region is compiled on a thread of its own (LLVM does not
hold Python's lock), and installed when it is ready; until then the interpreter goes on. What a program computes, and where
its interrupts land, does not depend on when that is.
"""

from __future__ import annotations

import ctypes
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from trapline.machine.ram import Ram
from trapline.machine.riscv import layout
from trapline.machine.riscv.jit import interpreter, region
from trapline.machine.riscv.jit import state as at
from trapline.machine.riscv.jit.compiler import Compiler
from trapline.machine.riscv.jit.pages import Arena, CodePage
from trapline.machine.riscv.jit.shape import Shape, discover

if TYPE_CHECKING:
    from trapline.machine.riscv.jit.native import NativeHart

_Job = tuple[Shape, CodePage, int, dict[int, CodePage], list[tuple[CodePage, int]]]
MAX_REGIONS = 4096


class Tiers:
    """`background`: compile regions on a thread; else at once, as tests do. `hot`: jumps that make a place hot, 0 for none."""

    def __init__(self, ram: Ram, *, background: bool = True, hot: int = at.HOT) -> None:
        self._ram = ram
        self.harts: list[NativeHart] = []  #: all that execute from the arena
        self._anchor = ctypes.c_char.from_buffer(ram.mem)  # keeps the mapping, and tells where it is
        self.ram_address = ctypes.addressof(self._anchor)
        self._compiler = Compiler()
        data = self._compiler.interpreter(interpreter.module, hot)
        run, fill = self._compiler.load(data, "run", "handlers")
        names = interpreter.handler_names()
        self._handlers = (ctypes.c_uint64 * len(names))()
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(fill)(ctypes.addressof(self._handlers))
        self.handlers_address = ctypes.addressof(self._handlers)
        self.run: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(run)
        by_name = dict(zip(names, self._handlers, strict=True))
        self.arena = Arena(by_name["undecoded"], by_name["page_end"])
        self.compiled = 0  #: regions installed
        self._jobs: queue.SimpleQueue[_Job | None] | None = queue.SimpleQueue() if background else None
        self._thread: threading.Thread | None = None

    def page(self, offset: int) -> CodePage:
        """The code page of the guest page at `offset` in RAM."""
        data = self._ram.mem[offset : offset + 4096].tobytes()
        page = self.arena.page(offset, data)
        if page is None:
            self.arena.reset()
            for each in self.harts:
                each.forget_pages()
            page = self.arena.page(offset, data)
            assert page is not None
        return page

    def heat(self, hart: NativeHart, pc: int) -> None:
        """A hot place: make a region of it."""
        if self.compiled >= MAX_REGIONS:
            return
        pages: dict[int, CodePage] = {}

        def look(va: int) -> bytes | None:
            slot = layout.TLB_CODE + (va >> 12) % layout.FAST_ENTRIES * 2
            if hart.cpu[slot] != va:
                return None
            pages[va] = page = self.arena.at(hart.cpu[slot + 1])
            return page.data

        shape = discover(pc, look)
        if not shape.blocks:
            return
        page, record = pages[pc & -4096], (pc & 4095) >> 1
        if record in page.hot:
            return
        page.hot.add(record)
        job = shape, page, record, pages, [(pages[va], pages[va].generation) for va in shape.pages]
        if self._jobs is None:
            self._compile(job)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="trapline-jit", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        assert self._jobs is not None
        while (job := self._jobs.get()) is not None:
            self._compile(job)

    def _compile(self, job: _Job) -> None:
        shape, page, record, pages, made_from = job
        text = region.module(shape, lambda va: pages[va].base)
        (address,) = self._compiler.load(self._compiler.region(text), "region")
        if self.arena.install(page, record, address, made_from):
            self.compiled += 1

    def close(self) -> None:
        """End the compiler's thread, after what it compiles now: nobody waits for the rest. Idempotent."""
        if self._thread is not None and self._jobs is not None:
            with suppress(queue.Empty):
                while True:
                    self._jobs.get_nowait()
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
