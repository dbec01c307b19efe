"""From text to code at an address.

What is compiled is an image (objects.py) and is put into the machine's memory for code (memory.py), which is never writable
and executable at one address. The interpreter's image is kept on disk (cache.py): the key is a digest of the source that
its text comes from, of the compiler and of this CPU. LLVM runs in a process of its own (worker.py), which is started when
something must be compiled, not before.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

from trapline.machine.riscv.jit import available
from trapline.machine.riscv.jit.baseline import Table
from trapline.machine.riscv.jit.cache import Cache, default_directory, digest
from trapline.machine.riscv.jit.memory import CodeMemory
from trapline.machine.riscv.jit.objects import Image, link, unpack
from trapline.machine.riscv.jit.worker import ASSEMBLE, ASSEMBLY, OBJECT, REGION, Worker


class OutOfCode(Exception):
    """The memory for code is full."""


class Compiler:
    """One memory for code. The code lives as long as it does. `shared`: it is for harts that run at the same time."""

    def __init__(self, cache: Cache | None = None, *, shared: bool = False) -> None:
        self.memory = CodeMemory()
        self.cache = cache if cache is not None else Cache(default_directory())
        self.shared = shared
        self._identity = f"{available.identity()} {_sources()}{' shared' if shared else ''}"
        self.worker = Worker()
        self.turn = threading.Lock()  #: of who makes regions: what one has made, another finds in the cache

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

        image = link(self.worker.ask(OBJECT, interpreter.module(shared=self.shared).encode()))
        self.cache.keep(key, image.pack())
        return image

    def interpreter_and_stencils(self) -> tuple[Image, Table]:
        """That, and the table of the baseline tier; what must be compiled of them is compiled at the same time."""
        table = self._kept_stencils()
        if table is not None:
            return self.interpreter(), table
        from concurrent.futures import ThreadPoolExecutor

        other = Worker()
        try:
            with ThreadPoolExecutor(1) as pool:
                made = pool.submit(self._new_stencils, other)
                return self.interpreter(), made.result()
        finally:
            other.close()

    def _kept_stencils(self) -> Table | None:
        data = self.cache.get(self.key("stencils"))
        if data is not None:
            with suppress(ValueError, struct.error):
                return Table(data)
        return None

    def _new_stencils(self, worker: Worker) -> Table:
        from trapline.machine.riscv.jit.stencil_table import build

        def assembled(text: str, edit: Callable[[str], str]) -> bytes:
            """The object file of a module whose assembly text `edit` has gone over; external symbols may be constants."""
            return worker.ask(ASSEMBLE, edit(worker.ask(ASSEMBLY, text.encode()).decode()).encode())

        data = build(assembled, shared=self.shared)
        self.cache.keep(self.key("stencils"), data)
        return Table(data)

    def region(self, text: str) -> Image:
        """The image of a region: SSA form, fewer blocks, code generation. (Combining instructions gains nothing.) Raises
        CompilerDied."""
        return link(self.worker.ask(REGION, text.encode()))

    # ---- from an image to addresses

    def load(self, image: Image, *names: str) -> list[int]:
        """Put an image into memory; the addresses of its functions. Raises OutOfCode."""
        start = self.memory.put(image.code)
        if start is None:
            raise OutOfCode
        return [start + image.symbols[name] for name in names]


def _sources() -> str:
    """What the instructions, the registers and layouts, and what lowers them are: a digest of names, sizes and times of files.

    (Python trusts these for its own compiled code, and reading the files would take 3 ms.)
    """
    here = os.path.dirname(__file__)
    above = os.path.dirname(here)
    found = bytearray()
    for directory in (here, os.path.join(above, "isa"), above):
        for name in sorted(os.listdir(directory)):
            if name.endswith(".py"):
                about = os.stat(os.path.join(directory, name))
                found += f"{name} {about.st_size} {about.st_mtime_ns}\n".encode()
    return digest(bytes(found)).hex()
